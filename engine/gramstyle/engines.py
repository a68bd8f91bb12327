"""The engines that can run a network in float32 on this machine, by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, get_args

from gramstyle.arrays import Array
from gramstyle.errors import RuntimeMissingError
from gramstyle.kernels import Kernels, Pooling
from gramstyle.model import Model
from gramstyle.network import Network, Responses
from gramstyle.objective import Backward, Forward
from gramstyle.session import Session
from gramstyle.strips import StripKernels

EngineName = Literal["numpy", "winograd", "hybrid"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)


@dataclass(frozen=True)
class Engine:
    """What an objective asks for: see the fields of the same names in `Objective`."""

    network: Network
    forward: Forward
    kernels: Kernels
    backward: Backward | None = None


def default_engine() -> EngineName:
    """Return the engine that is used where none is asked for.

    Winograd's convolutions take less than half the time and no more memory, and cost one digit of
    float32's seven (docs/performance.md): they are the default wherever Numba is installed.
    """
    return "winograd" if find_spec("numba") else "numpy"


def open_engine(
    name: EngineName,
    file: Model,
    network: Network,
    kept: Sequence[str],
    *,
    pooling: Pooling,
    threads: int,
) -> Engine:
    """Make an engine ready.

    Parameters
    ----------
    name
        "numpy": ONNX Runtime forward, `StripKernels` backward. "winograd": both ways in
        `WinogradSweeps`. "hybrid": ONNX Runtime forward, `WinogradSweeps` backward.
    file, network
        The network's file, and the network up to the deepest of `kept`, pooled by `pooling`.
    kept
        The layers that loss terms look at.
    threads
        How many threads work.

    Raises
    ------
    RuntimeMissingError, ModelError
        If what the engine needs is not installed, or does not accept the network.
    """
    session = None
    if name != "winograd":
        session = Session(file.runnable(kept, pooling), network.shapes, threads=threads)
        if name == "numpy":
            return Engine(network, session, StripKernels(threads))
    try:
        from gramstyle.winograd.kernels import ChannelsLastKernels
        from gramstyle.winograd.sweeps import WinogradSweeps
    except ImportError as error:
        raise RuntimeMissingError(
            f"the engine {name} needs Numba ({error}); install it with: "
            'pip install "gramstyle[fast]", or choose --engine numpy'
        ) from None
    kernels = ChannelsLastKernels(threads)
    sweeps = WinogradSweeps(network, kept, workers=kernels.workers)

    def adopted(v: Array) -> Responses:
        assert session is not None  # noqa: S101 - the hybrid has one
        return sweeps.adopt(session(v))

    forward = sweeps.forward if session is None else adopted
    return Engine(sweeps.network, forward, kernels, sweeps.backward)
