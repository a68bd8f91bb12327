"""The engines that can run a network in float32 on this machine, by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from types import MappingProxyType
from typing import Literal, get_args

from gramstyle.core.arrays import Array
from gramstyle.core.kernels import Kernels, Pooling
from gramstyle.core.network import Convolution, Network, Responses
from gramstyle.core.objective import Backward, Forward, Recall
from gramstyle.engines.cuda.device import Device, open_device
from gramstyle.engines.cuda.kernels import DeviceKernels
from gramstyle.engines.cuda.session import CudaSession
from gramstyle.engines.onnx_session import Session
from gramstyle.engines.strips import StripKernels
from gramstyle.errors import RuntimeMissingError
from gramstyle.model import Model

EngineName = Literal["numpy", "winograd", "hybrid", "onnx", "cupy"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)

DeviceName = Literal["cpu", "cuda"]
DEVICES: tuple[DeviceName, ...] = get_args(DeviceName)

# Where each engine runs.
RUNS_ON: Mapping[EngineName, tuple[DeviceName, ...]] = MappingProxyType(
    {
        "numpy": ("cpu",),
        "winograd": ("cpu",),
        "hybrid": ("cpu",),
        "onnx": ("cpu", "cuda"),
        "cupy": ("cuda",),
    }
)


@dataclass(frozen=True)
class Engine:
    """What an objective asks for: see the fields of the same names in `Objective`.

    Attributes
    ----------
    recall
        How tiles come back to a forward pass; None where it is run again.
    device
        The GPU, where there is one.
    """

    network: Network
    forward: Forward
    kernels: Kernels
    backward: Backward | None = None
    recall: Recall | None = None
    device: Device | None = None


def default_engine(device: DeviceName = "cpu") -> EngineName:
    """Return the engine that is used on a device where none is asked for.

    Winograd's convolutions take less than half the time and no more memory, and cost one digit of
    float32's seven (docs/performance.md): they are the default wherever Numba is installed.
    """
    if device == "cuda":
        return "cupy"
    return "winograd" if find_spec("numba") else "numpy"


def open_engine(
    name: EngineName,
    file: Model,
    network: Network,
    kept: Sequence[str],
    *,
    pooling: Pooling,
    threads: int,
    device: DeviceName = "cpu",
    tf32: bool = False,
) -> Engine:
    """Make an engine ready.

    Parameters
    ----------
    name
        "numpy": ONNX Runtime forward, `StripKernels` backward. "winograd": both ways in
        `WinogradPasses`. "hybrid": ONNX Runtime forward, `WinogradPasses` backward. "cupy": ONNX
        Runtime forward and `DeviceKernels` backward, both on the GPU. "onnx": as "numpy", which
        computes the targets of the objective that `GraphObjective` then runs as one graph.
    file, network
        The network's file, and the network up to the deepest of `kept`, pooled by `pooling`.
    kept
        The layers that loss terms look at.
    threads
        How many threads work.
    device, tf32
        Where it runs, and whether products may be rounded to TF32 there; see `open_device`.

    Raises
    ------
    RuntimeMissingError, ModelError, OptionError
        If what the engine needs is not installed, does not accept the network, or finds no GPU.
    """
    gpu = open_device(tf32=tf32) if device == "cuda" else None
    if name == "cupy" and gpu is not None:
        there = Network(
            tuple(
                replace(layer, W=gpu.to_device(layer.W), b=gpu.to_device(layer.b))
                if isinstance(layer, Convolution)
                else layer
                for layer in network.layers
            )
        )
        graph = file.runnable(kept, pooling)
        return Engine(
            there, CudaSession(graph, network.shapes, device=gpu), DeviceKernels(), device=gpu
        )
    session = None
    if name != "winograd":
        # Who has the memory for responses in two layouts has it for a third.
        blocked = name == "hybrid"
        graph = file.runnable(kept, pooling)
        session = Session(graph, network.shapes, threads=threads, blocked=blocked)
        if name in ("numpy", "onnx"):
            return Engine(network, session, StripKernels(threads), device=gpu)
    try:
        from gramstyle.engines.winograd.kernels import ChannelsLastKernels
        from gramstyle.engines.winograd.passes import WinogradPasses
    except ImportError as error:
        raise RuntimeMissingError(
            f"the engine {name} needs Numba ({error}); install it with: "
            'pip install "gramstyle[fast]", or choose --engine numpy'
        ) from None
    kernels = ChannelsLastKernels(threads)
    passes = WinogradPasses(network, kept, workers=kernels.workers)

    def adopted(v: Array) -> Responses:
        assert session is not None  # noqa: S101 - the hybrid has one
        return passes.adopt(session(v))

    if session is not None:
        return Engine(passes.network, adopted, kernels, passes.backward)
    return Engine(passes.network, passes.forward, kernels, passes.backward, recall=passes)
