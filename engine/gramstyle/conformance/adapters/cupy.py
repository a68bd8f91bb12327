"""The readable engine on a GPU: `layers` and `losses` on CuPy arrays."""

import cupy

from gramstyle.conformance.adapters.numpy_plain import plainly
from gramstyle.conformance.cases import Case
from gramstyle.conformance.comparing import Adapter
from gramstyle.core.arrays import Array
from gramstyle.errors import OptionError


def adapter(device: str) -> Adapter:
    """Return the adapter; raises OptionError if the device is not a GPU."""
    if device != "cuda":
        raise OptionError("cupy computes on a GPU; add --device cuda")
    return value_and_grad


def value_and_grad(image: Array, case: Case) -> tuple[float, Array, dict[str, Array]]:
    """Return loss, gradient and dF of a case."""
    found = plainly(image, case, cupy.asarray)
    dF = {name: cupy.asnumpy(array) for name, array in found.dF.items()}
    return found.loss, cupy.asnumpy(found.gradient), dF
