"""The engines by name. To add one, add an entry to `ENGINES`."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

from gramstyle.core.arrays import Array
from gramstyle.core.evaluation import Evaluation
from gramstyle.core.kernels import Kernels
from gramstyle.core.network import Convolution, Network, Responses
from gramstyle.core.objective import Backward, Forward, Objective, Recall
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.core.terms import Term
from gramstyle.engines.cache import EngineCache
from gramstyle.engines.cuda.device import Device, load_cupy, open_device
from gramstyle.engines.cuda.forward import ForwardPass
from gramstyle.engines.cuda.kernels import DeviceKernels
from gramstyle.engines.cuda.products import Buffers, as_stored
from gramstyle.engines.cuda.session import CudaSession, check_runtime, cuda_providers
from gramstyle.engines.onnx_session import CPU, Session, load_runtime
from gramstyle.engines.spec import DeviceName, ObjectiveSpec
from gramstyle.engines.strips import StripKernels
from gramstyle.errors import RuntimeMissingError
from gramstyle.model import Model
from gramstyle.system.installing import remedy

log = logging.getLogger(__name__)

LossAndGradient = Callable[[Array], Evaluation]


@dataclass(frozen=True)
class Engine:
    """An engine that is ready to compute, for images of any size.

    Attributes
    ----------
    network, forward, kernels, backward
        As the fields of these names in `Objective`.
    recall
        Restores a tile's forward pass; None if the forward pass must be run again.
    device
        The GPU; None if the engine runs on the CPU.
    compiled
        Returns the function that evaluates an objective for a height and a width in pixels; None
        uses `Objective.loss_and_gradient`.
    """

    network: Network
    forward: Forward
    kernels: Kernels
    backward: Backward | None = None
    recall: Recall | None = None
    device: Device | None = None
    compiled: Callable[[Objective, int, int], LossAndGradient] | None = None

    def objective(
        self, spec: ObjectiveSpec, preprocessing: Preprocessing, terms: Sequence[Term]
    ) -> Objective:
        """Return the objective that a spec describes, with terms that have their targets."""
        return Objective(
            network=self.network,
            preprocessing=preprocessing,
            terms=tuple(terms),
            weights=spec.weights,
            forward=self.forward,
            kernels=self.kernels,
            backward=self.backward,
        )


@dataclass(frozen=True)
class Opening:
    """The arguments for opening an engine.

    Attributes
    ----------
    spec, model
        The spec and its model.
    network
        The network that the spec cuts from the model.
    device
        The GPU; None if the engine runs on the CPU.
    cache
        Keeps what the engine computes from the weights alone; None keeps nothing.
    """

    spec: ObjectiveSpec
    model: Model
    network: Network
    device: Device | None
    cache: EngineCache | None

    def session(self, *, blocked: bool) -> Session:
        """Return the forward pass in ONNX Runtime, on the CPU."""
        spec, threads = self.spec, self.spec.thread_count
        network = spec.layers, spec.pooling, spec.padding

        def load() -> Session:
            graph = self.model.runnable(*network)
            return Session(graph, self.network.shapes, threads=threads, blocked=blocked)

        if self.cache is None:
            return load()
        return self.cache.session((*network, threads, blocked), load)


@dataclass(frozen=True, kw_only=True)
class EngineEntry:
    """The description of an engine, from which the program opens it.

    Attributes
    ----------
    devices
        The devices that it runs on.
    bytes_per_pixel
        The memory in bytes that it takes per pixel processed at once, as measured with a margin for
        what a run holds beside it (docs/large.md); on a GPU as calculated (docs/gpu.md).
    tiles
        Whether it can compute an image in tiles.
    packages
        The functions that import what it needs; they raise RuntimeMissingError.
    uses_numba
        Whether Numba compiles parts of it for the processor.
    runtime_on_gpu
        Whether it needs ONNX Runtime with CUDA on a GPU.
    rounds_by_threads
        Whether the last bits of its results depend on the number of threads.
    help
        Its description in the help of ``--engine``.
    open
        Opens it.
    """

    devices: tuple[DeviceName, ...]
    bytes_per_pixel: int
    tiles: bool = True
    packages: tuple[Callable[[], object], ...]
    uses_numba: bool = False
    runtime_on_gpu: bool = False
    rounds_by_threads: bool = False
    help: str
    open: Callable[[Opening], Engine]


def default_engine(device: DeviceName = "cpu") -> str:
    """Return the name of the default engine of a device.

    On the CPU it is winograd if Numba is installed: this takes less than half the time of numpy and
    no more memory, and loses one of float32's seven digits (docs/performance.md).
    """
    if device == "cuda":
        return "cupy"
    return "winograd" if find_spec("numba") else "numpy"


def check_packages(engine: str, device: DeviceName) -> None:
    """Check that the packages of an engine can be imported, without opening it.

    Raises
    ------
    RuntimeMissingError
        If one is not installed or cannot be imported.
    """
    for load in ENGINES[engine].packages:
        load()
    if device == "cuda":
        load_cupy()
        if ENGINES[engine].runtime_on_gpu:
            check_runtime()


def open_engine(spec: ObjectiveSpec, model: Model, cache: EngineCache | None = None) -> Engine:
    """Open the engine of a spec.

    Parameters
    ----------
    spec
        The spec; the engine does not depend on its size.
    model
        The model with the spec's hash.
    cache
        Keeps what the engine computes from the weights alone, for later engines of this model;
        None keeps nothing.

    Raises
    ------
    RuntimeMissingError, ModelError, OptionError
        If a package is not installed, the engine does not accept the network, or there is no GPU.
    """
    log.info("engine %s on %s, %d threads", spec.engine, spec.device, spec.thread_count)
    device = open_device(tf32=spec.tf32) if spec.device == "cuda" else None
    return ENGINES[spec.engine].open(Opening(spec, model, spec.network(model), device, cache))


def _open_numpy(opening: Opening) -> Engine:
    kernels = StripKernels(opening.spec.thread_count)
    return Engine(opening.network, opening.session(blocked=False), kernels, device=opening.device)


def _open_onnx(opening: Opening) -> Engine:
    from gramstyle.engines.onnx_graph import GraphObjective  # needs onnx, for this engine only

    device, threads = opening.device, opening.spec.thread_count
    providers: tuple[Any, ...] = (CPU,) if device is None else cuda_providers(device)

    def compiled(objective: Objective, height: int, width: int) -> LossAndGradient:
        return GraphObjective(
            objective, height, width, threads=threads, providers=providers
        ).loss_and_gradient

    # The engine numpy computes the targets of the graph.
    return replace(_open_numpy(opening), compiled=compiled)


def _open_winograd(opening: Opening) -> Engine:
    kernels, passes = _winograd(opening)
    return Engine(passes.network, passes.forward, kernels, passes.backward, recall=passes)


def _open_hybrid(opening: Opening) -> Engine:
    # A machine that has memory for the responses in two layouts also has memory for a third.
    session = opening.session(blocked=True)
    kernels, passes = _winograd(opening)

    def forward(v: Array) -> Responses:
        responses: Responses = passes.convert(session(v))
        return responses

    return Engine(passes.network, forward, kernels, passes.backward)


def _open_cupy(opening: Opening) -> Engine:
    network, device, buffers = _on_device(opening), opening.device, Buffers()
    return Engine(network, ForwardPass(network, buffers), DeviceKernels(buffers), device=device)


def _open_cupy_onnx(opening: Opening) -> Engine:
    spec, device, buffers = opening.spec, opening.device, Buffers()
    network = _on_device(opening)
    assert device is not None  # noqa: S101 - the engine runs on GPUs only
    graph = opening.model.runnable(spec.layers, spec.pooling, spec.padding)
    session = CudaSession(graph, network.shapes, device=device)

    def forward(v: Array) -> Responses:
        return {name: as_stored(name, F, buffers) for name, F in session(v).items()}

    return Engine(network, forward, DeviceKernels(buffers), device=device)


def _on_device(opening: Opening) -> Network:
    """Return the network with its weights on the GPU."""
    network, device = opening.network, opening.device
    assert device is not None  # noqa: S101 - the engine runs on GPUs only
    return Network(
        tuple(
            replace(layer, W=device.to_device(layer.W), b=device.to_device(layer.b))
            if isinstance(layer, Convolution)
            else layer
            for layer in network.layers
        )
    )


def _winograd(opening: Opening) -> tuple[Any, Any]:
    """Return the kernels and the passes of Winograd's convolutions."""
    kernels_type, passes_type = _load_winograd()
    spec = opening.spec
    kernels = kernels_type(spec.thread_count)
    return kernels, passes_type(
        opening.network, spec.layers, workers=kernels.workers, cache=opening.cache
    )


def _load_winograd() -> tuple[Any, Any]:
    """Return the classes of the kernels and the passes, which need Numba."""
    try:
        from gramstyle.engines.winograd.kernels import ChannelsLastKernels
        from gramstyle.engines.winograd.passes import WinogradPasses
    except ImportError as error:
        raise RuntimeMissingError(
            f"the engines winograd and hybrid need Numba ({error}); {remedy('fast', error)}; or "
            "choose --engine numpy"
        ) from None
    return ChannelsLastKernels, WinogradPasses


ENGINES: Mapping[str, EngineEntry] = MappingProxyType(
    {
        "numpy": EngineEntry(
            devices=("cpu",),
            bytes_per_pixel=1900,
            packages=(load_runtime,),
            help="ONNX Runtime forward and NumPy backward",
            open=_open_numpy,
        ),
        "winograd": EngineEntry(
            devices=("cpu",),
            bytes_per_pixel=950,
            packages=(_load_winograd,),
            uses_numba=True,
            help="convolutions with fewer multiplications in both passes",
            open=_open_winograd,
        ),
        "hybrid": EngineEntry(
            devices=("cpu",),
            bytes_per_pixel=2900,
            packages=(load_runtime, _load_winograd),
            uses_numba=True,
            help="ONNX Runtime forward and convolutions with fewer multiplications backward",
            open=_open_hybrid,
        ),
        "onnx": EngineEntry(
            devices=("cpu", "cuda"),
            bytes_per_pixel=3400,
            tiles=False,
            packages=(load_runtime,),
            runtime_on_gpu=True,
            rounds_by_threads=True,
            help="both passes as one graph in ONNX Runtime",
            open=_open_onnx,
        ),
        "cupy": EngineEntry(
            devices=("cuda",),
            bytes_per_pixel=2700,
            packages=(),
            help="CuPy on a GPU",
            open=_open_cupy,
        ),
        "cupy-onnx": EngineEntry(
            devices=("cuda",),
            bytes_per_pixel=4000,
            packages=(),
            runtime_on_gpu=True,
            help="ONNX Runtime forward and CuPy backward on a GPU",
            open=_open_cupy_onnx,
        ),
    }
)
