"""The forward pass in ONNX Runtime. The only `import onnxruntime`, on first use.

A session runs a whole graph to all its responses, into arrays that are allocated once for each
size of image and bound: unbound, every run pays for fresh memory and takes twice as long.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from math import prod
from types import ModuleType
from typing import Any

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError, RuntimeMissingError

# The provider that every build of ONNX Runtime has.
CPU = "CPUExecutionProvider"

DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")

Shapes = Callable[[int, int], Mapping[str, tuple[int, int, int]]]


class Session:
    """A network ready to run; called with an input v (3, H, V), it returns the responses.

    The returned arrays are the session's own and are overwritten by the next call.

    Parameters
    ----------
    model
        A serialised ONNX graph with one input (1, 3, H, V) in float32, every output a layer's
        responses.
    shapes
        ``shapes(H, V)`` gives the shape (N, h, v) of every output by name.
    threads
        How many threads run the graph.
    blocked
        Whether convolutions may run in a blocked layout: an eighth faster, but every response then
        exists twice.

    Raises
    ------
    RuntimeMissingError
        If ONNX Runtime is not installed, or twice.
    ModelError
        If ONNX Runtime does not accept the graph.
    """

    def __init__(
        self, model: bytes, shapes: Shapes, *, threads: int, blocked: bool = False
    ) -> None:
        self._session = open_session(model, threads=threads, blocked=blocked)
        self._input = self._session.get_inputs()[0].name
        self._shapes = shapes
        self._memory = np.empty(0, np.float32)
        self._responses: dict[str, Array] = {}

    def __call__(self, v: Array) -> Mapping[str, Array]:
        """Return the responses (N, h, v) of every layer to the input v (3, H, V).

        Raises
        ------
        ModelError
            If ONNX Runtime fails, for want of memory for instance.
        """
        v = np.ascontiguousarray(v, np.float32)
        shapes = self._shapes(*v.shape[1:])
        if {name: F.shape for name, F in self._responses.items()} != shapes:
            self._responses = self._consecutive(shapes)
        binding = self._session.io_binding()
        binding.bind_input(self._input, "cpu", 0, np.float32, (1, *v.shape), v.ctypes.data)
        for name, F in self._responses.items():
            binding.bind_output(name, "cpu", 0, np.float32, (1, *F.shape), F.ctypes.data)
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # as above
            raise ModelError(
                f"ONNX Runtime could not run the model on an image of {v.shape[2]}×{v.shape[1]} "
                f"pixels ({error}); if memory is short, choose a smaller --size"
            ) from None
        return self._responses

    def _consecutive(self, shapes: Mapping[str, tuple[int, int, int]]) -> dict[str, Array]:
        """Return arrays of these shapes, one behind the other in one piece of memory.

        It is the one that another image's were in, if that was large enough.
        """
        ends = np.cumsum([prod(shape) for shape in shapes.values()])
        self._responses.clear()  # the old ones go before the new ones come
        if self._memory.size < ends[-1]:
            self._memory = np.empty(0, np.float32)
            self._memory = np.empty(int(ends[-1]), np.float32)
        return {
            name: self._memory[end - prod(shape) : end].reshape(shape)
            for (name, shape), end in zip(shapes.items(), ends, strict=True)
        }


def open_session(
    model: bytes, *, threads: int, providers: Sequence[Any] = (CPU,), blocked: bool = False
) -> Any:
    """Return an `onnxruntime.InferenceSession` as every graph of this package wants it.

    Parameters
    ----------
    model
        A serialised ONNX graph.
    threads
        How many threads run it.
    providers
        What computes it, as ONNX Runtime names them, the preferred one first.
    blocked
        As in `Session`.

    Raises
    ------
    RuntimeMissingError
        If ONNX Runtime is not installed, or twice.
    ModelError
        If ONNX Runtime does not accept the graph.
    """
    runtime = load_runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # The blocked layout is one level up; with it the peak at 512×512 is 0.3 GB higher.
    levels = runtime.GraphOptimizationLevel
    options.graph_optimization_level = (
        levels.ORT_ENABLE_ALL if blocked else levels.ORT_ENABLE_EXTENDED
    )
    # Planned for a fixed shape, a second copy of the working memory would stay allocated.
    options.enable_mem_pattern = False
    # Idle workers that spin would take their cores from the backward pass in NumPy.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return runtime.InferenceSession(model, options, providers=list(providers))
    except Exception as error:  # the runtime's exceptions share no base of its own
        raise ModelError(f"ONNX Runtime does not accept the model: {error}") from None


def load_runtime() -> ModuleType:
    """Import ONNX Runtime.

    Raises
    ------
    RuntimeMissingError
        If none of its distributions is installed, or two, which overwrite each other's files.
    """
    installed = [name for name in DISTRIBUTIONS if _is_installed(name)]
    if len(installed) > 1:
        raise RuntimeMissingError(
            f"{' and '.join(installed)} are both installed and exclude each other; uninstall "
            'both, then: pip install "gramstyle[cpu]"'
        )
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeMissingError(
            f"ONNX Runtime cannot be loaded ({error}); install it with: "
            'pip install "gramstyle[cpu]"'
        ) from None
    runtime: ModuleType = onnxruntime
    return runtime


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
