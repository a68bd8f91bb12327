"""The Winograd forward and backward passes of `WinogradPasses`, in float32."""

from dataclasses import replace
from typing import Any

import numpy as np

from gramstyle.conformance.adapters import cpu_only
from gramstyle.conformance.adapters.numpy_strips import THREADS
from gramstyle.conformance.cases import Case
from gramstyle.conformance.comparing import Adapter
from gramstyle.core.arrays import Array
from gramstyle.core.network import AddSeed, Responses
from gramstyle.engines.winograd.kernels import ChannelsLastKernels
from gramstyle.engines.winograd.passes import WinogradPasses
from gramstyle.errors import OptionError


def adapter(device: str) -> Adapter:
    """Return the adapter; raises OptionError if the device is not the CPU."""
    cpu_only("numpy_winograd", device)
    return value_and_grad


def value_and_grad(image: Array, case: Case) -> tuple[Any, Any, dict[str, Any]]:
    """Return loss and gradient of a case, and dF of the layers with a loss term."""
    if image.dtype != np.float32:
        raise OptionError(f"the Winograd passes compute in float32, not {image.dtype}")
    kernels = ChannelsLastKernels(THREADS)
    layers = case.objective.layers
    passes = WinogradPasses(case.network.astype(np.float32), layers, workers=kernels.workers)
    dF: dict[str, Array] = {}

    def backward(responses: Responses, add_seed: AddSeed) -> Array:
        def recorded(name: str, arrived: Array | None) -> Array:
            total = add_seed(name, arrived)
            dF[name] = total.copy()
            return total

        return passes.backward(responses, recorded)

    objective = replace(case.objective, forward=passes.forward, kernels=kernels, backward=backward)
    found = objective.loss_and_gradient(image)
    return found.loss, found.gradient, dF
