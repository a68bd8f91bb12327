"""The objective and its gradient as one ONNX graph in ONNX Runtime, in float32."""

from typing import Any

import numpy as np

from gramstyle.conformance.adapters import cpu_only
from gramstyle.conformance.adapters.numpy_strips import THREADS
from gramstyle.conformance.cases import Case
from gramstyle.conformance.comparing import Adapter
from gramstyle.core.arrays import Array
from gramstyle.engines.onnx_graph import GraphObjective
from gramstyle.engines.onnx_session import load_runtime
from gramstyle.errors import OptionError


def adapter(device: str) -> Adapter:
    """Return the adapter; raises OptionError if the device is not the CPU."""
    cpu_only("onnx_graph", device)
    load_runtime()
    return value_and_grad


def value_and_grad(image: Array, case: Case) -> tuple[Any, Any, dict[str, Any]]:
    """Return loss and gradient of a case; the graph does not output dF.

    Raises
    ------
    OptionError
        If the image is not in float32.
    """
    if image.dtype != np.float32:
        raise OptionError(f"the graph computes in float32, not {image.dtype}")
    _, height, width = image.shape
    found = GraphObjective(case.objective, height, width, threads=THREADS).loss_and_gradient(image)
    return found.loss, found.gradient, {}
