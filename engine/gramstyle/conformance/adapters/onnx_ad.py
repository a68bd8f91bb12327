"""The loss as an ONNX graph that onnx-ad differentiates. The only module that imports onnx_ad."""

from io import BytesIO
from typing import Any

import numpy as np
import onnx_ad

from gramstyle.conformance.adapters import cpu_only
from gramstyle.conformance.adapters.numpy_strips import THREADS
from gramstyle.conformance.cases import Case
from gramstyle.conformance.comparing import Adapter
from gramstyle.conformance.files.graphs import loss_graph
from gramstyle.core.arrays import Array
from gramstyle.engines.onnx_session import load_runtime, open_session
from gramstyle.errors import OptionError
from gramstyle.model.onnx_file.loss import IMAGE, LOSS
from gramstyle.model.onnx_file.parsing import parse_onnx


def adapter(device: str) -> Adapter:
    """Return the adapter; raises OptionError if the device is not the CPU."""
    cpu_only("onnx_ad", device)
    load_runtime()
    return value_and_grad


def value_and_grad(image: Array, case: Case) -> tuple[Any, Any, dict[str, Any]]:
    """Return loss and gradient of a case; the derived graph does not output dF.

    Raises
    ------
    OptionError
        If the image is not in float32.
    """
    if image.dtype != np.float32:
        raise OptionError(f"the graph computes in float32, not {image.dtype}")
    forward = parse_onnx(BytesIO(loss_graph(case)))
    # The derivative of several losses at once would be one more axis of the gradient, the last.
    derived = onnx_ad.reverse(forward, outputs=[LOSS], layout="onnx")
    session = open_session(derived.SerializeToString(), threads=THREADS)
    seed = {IMAGE: image[None], f"adj_{LOSS}": np.ones(1, np.float32)}
    loss, gradient = session.run([LOSS, f"adj_{IMAGE}"], seed)
    return loss, gradient[0, ..., 0], {}
