"""The readable engine on a GPU: `layers` and `losses` on CuPy arrays."""

from collections.abc import Mapping
from typing import Any

import cupy

from gramstyle.conformance.adapters.numpy_plain import every_derivative
from gramstyle.conformance.cases import Case
from gramstyle.conformance.comparing import Adapter, FourParts, ThreeParts
from gramstyle.core.arrays import Array
from gramstyle.errors import OptionError


def adapter(device: str) -> Adapter:
    """Return the adapter; raises OptionError if the device is not a GPU."""
    if device != "cuda":
        raise OptionError("cupy computes on a GPU; add --device cuda")
    return value_and_grad


def value_and_grad(image: Array, case: Case) -> FourParts | ThreeParts:
    """Return loss, gradient and dF of a case, and its further derivatives."""
    loss, gradient, dF, *more = every_derivative(image, case, cupy.asarray)
    return (loss, _on_host(gradient), _on_host(dF), *map(_on_host, more))


def _on_host(part: Any) -> Any:
    if isinstance(part, Mapping):
        return {name: _on_host(each) for name, each in part.items()}
    return cupy.asnumpy(part) if isinstance(part, cupy.ndarray) else part
