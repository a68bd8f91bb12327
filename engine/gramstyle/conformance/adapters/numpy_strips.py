"""The readable forward pass and the fast backward pass of `StripKernels`, in float32."""

from dataclasses import replace
from typing import Any

import numpy as np

from gramstyle.conformance.adapters import cpu_only
from gramstyle.conformance.cases import Answer, Case, answer
from gramstyle.conformance.comparing import Adapter
from gramstyle.core.arrays import Array
from gramstyle.core.objective import Forward
from gramstyle.core.terms import with_target_arrays
from gramstyle.engines.strips import StripKernels
from gramstyle.errors import OptionError

THREADS = 2


def adapter(device: str) -> Adapter:
    """Return the adapter; raises OptionError if the device is not the CPU."""
    cpu_only("numpy_strips", device)
    return value_and_grad


def value_and_grad(image: Array, case: Case) -> tuple[Any, Any, dict[str, Any]]:
    """Return loss, gradient and dF of a case."""
    found = in_strips(image, case, None)
    return found.loss, found.gradient, dict(found.dF)


def in_strips(image: Array, case: Case, forward: Forward | None) -> Answer:
    """Return the answer to a case by a given forward pass and the fast backward pass.

    Raises
    ------
    OptionError
        If the image is not in float32.
    """
    if image.dtype != np.float32:
        raise OptionError(f"strips compute in float32, not {image.dtype}")
    objective = replace(
        case.objective,
        network=case.network.astype(np.float32),
        terms=with_target_arrays(
            case.objective.terms, lambda P: P.astype(np.float32), per_position=True
        ),
        forward=forward,
        kernels=StripKernels(THREADS),
    )
    return answer(objective, image)
