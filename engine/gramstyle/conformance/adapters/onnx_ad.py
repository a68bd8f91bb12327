"""The loss as an ONNX graph that onnx-ad differentiates. The only module that imports onnx_ad."""

from io import BytesIO

import numpy as np
import onnx_ad

from gramstyle.conformance.adapters import cpu_only
from gramstyle.conformance.adapters.numpy_strips import THREADS
from gramstyle.conformance.cases import Case
from gramstyle.conformance.comparing import Adapter, FourParts
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


def value_and_grad(image: Array, case: Case) -> FourParts:
    """Return loss, gradient, jvp and hvp of a case; the derived graph does not output dF.

    Raises
    ------
    OptionError
        If the image is not in float32.
    """
    if image.dtype != np.float32:
        raise OptionError(f"the graph computes in float32, not {image.dtype}")
    forward = parse_onnx(BytesIO(loss_graph(case)))
    # Several losses or directions at once would be one more axis of a derivative, the last.
    gradient_graph = onnx_ad.reverse(forward, outputs=[LOSS], layout="onnx")
    derived = onnx_ad.forward(
        gradient_graph, inputs=[IMAGE], outputs=[LOSS, f"adj_{IMAGE}"], layout="onnx"
    )
    session = open_session(derived.SerializeToString(), threads=THREADS)
    given = {
        IMAGE: image[None],
        f"adj_{LOSS}": np.ones(1, np.float32),
        f"fwd_{IMAGE}": case.direction.astype(np.float32)[None, ..., None],
    }
    wanted = [LOSS, f"adj_{IMAGE}", f"fwd_{LOSS}", f"fwd_adj_{IMAGE}"]
    loss, gradient, jvp, hvp = session.run(wanted, given)
    more = {"jvp": jvp.item(), "hvp": hvp.reshape(image.shape)}
    return loss, gradient[0, ..., 0], {}, more
