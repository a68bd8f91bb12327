"""The engine `numpy`: ONNX Runtime forward and `StripKernels` backward, in float32."""

from typing import Any

from gramstyle.conformance.adapters import cpu_only
from gramstyle.conformance.adapters.numpy_strips import THREADS, in_strips
from gramstyle.conformance.cases import Case
from gramstyle.conformance.comparing import Adapter
from gramstyle.core.arrays import Array
from gramstyle.core.kernels import Pooling
from gramstyle.core.network import Convolution, Pool
from gramstyle.engines.onnx_session import Session, load_runtime
from gramstyle.model.onnx_file import read_model, write_model
from gramstyle.system.temporary import temporary_directory


def adapter(device: str) -> Adapter:
    """Return the adapter; raises OptionError if the device is not the CPU."""
    cpu_only("onnxruntime", device)
    load_runtime()
    return value_and_grad


def value_and_grad(image: Array, case: Case) -> tuple[Any, Any, dict[str, Any]]:
    """Return loss, gradient and dF of a case."""
    found = in_strips(image, case, session(case))
    return found.loss, found.gradient, dict(found.dF)


def session(case: Case) -> Session:
    """Return a session on the network of a case, through a model file like the engine's."""
    network = case.network
    convolutions = [
        layer for layer in network.astype("f4").layers if isinstance(layer, Convolution)
    ]
    kinds = {layer.kind for layer in network.layers if isinstance(layer, Pool)}
    with temporary_directory() as folder:
        path = folder / "case.onnx"
        write_model(
            path, convolutions, case.objective.preprocessing, precision="float32", metadata={}
        )
        model = read_model(path)
    pooling: Pooling = "avg" if kinds == {"avg"} else "max"
    graph = model.runnable(network.names, pooling, case.padding)
    return Session(graph, network.shapes, threads=THREADS)
