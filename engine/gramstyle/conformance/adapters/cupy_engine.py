"""The engine cupy: its forward pass and its kernels on a GPU, in float32 or float64."""

from dataclasses import replace
from functools import partial

import numpy as np

from gramstyle.conformance.cases import Case, answer
from gramstyle.conformance.comparing import Adapter
from gramstyle.core.arrays import Array
from gramstyle.core.network import Convolution, Network
from gramstyle.core.terms import with_target_arrays
from gramstyle.engines.cuda.device import Device, open_device
from gramstyle.engines.cuda.forward import ForwardPass
from gramstyle.engines.cuda.kernels import DeviceKernels
from gramstyle.engines.cuda.products import ENTRIES, Buffers
from gramstyle.errors import OptionError


def adapter(device: str) -> Adapter:
    """Return the adapter; raises an error if the device is not a GPU, or there is none."""
    if device != "cuda":
        raise OptionError("cupy_engine computes on a GPU; add --device cuda")
    return partial(on_device, device=open_device(tf32=False))


def on_device(
    image: Array, case: Case, *, device: Device, entries: int = ENTRIES
) -> tuple[float, Array, dict[str, Array]]:
    """Return loss, gradient and dF of a case.

    Parameters
    ----------
    image, case
        The image, in the float type in which to compute, and the case.
    device
        The GPU.
    entries
        How many entries the patches of a strip have at most.

    Raises
    ------
    OptionError
        If the image is in float16, in which Gram matrices overflow.
    """
    if image.dtype == np.float16:
        raise OptionError("the engine cupy computes in float32 or float64, not float16")
    move, objective, dtype = device.to_device, case.objective, image.dtype
    buffers = Buffers(entries)
    network = Network(
        tuple(
            replace(layer, W=move(layer.W), b=move(layer.b))
            if isinstance(layer, Convolution)
            else layer
            for layer in case.network.astype(dtype).layers
        )
    )

    # P is in the float type of the responses; what is summed over positions stays in float64.
    terms = with_target_arrays(objective.terms, move)
    placed = replace(
        objective,
        network=network,
        terms=with_target_arrays(terms, lambda P: P.astype(dtype), per_position=True),
        forward=ForwardPass(network.until(objective.layers), buffers) if objective.layers else None,
        kernels=DeviceKernels(buffers),
    )
    found = answer(placed, move(image))
    dF = {name: device.to_host(array) for name, array in found.dF.items()}
    return found.loss, device.to_host(found.gradient), dF
