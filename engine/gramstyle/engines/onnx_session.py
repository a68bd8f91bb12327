"""The forward pass in ONNX Runtime. The only `import onnxruntime`, on first use.

A session runs the whole graph and writes the responses to bound arrays, which it allocates once for
each image size. Without bound arrays, every run allocates fresh memory and takes twice as long.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from importlib.metadata import PackageNotFoundError, distribution
from itertools import accumulate
from math import prod
from types import ModuleType
from typing import Any, Self

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError, RuntimeMissingError
from gramstyle.system.installing import install_command, remedy

# The execution provider that every build of ONNX Runtime has.
CPU = "CPUExecutionProvider"

DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")

# Where this variable is set, ONNX Runtime records no events.
TELEMETRY = "ORT_DISABLE_TELEMETRY"

# shapes(H, V): the shape (N, h, v) of every output by its name.
Shapes = Callable[[int, int], Mapping[str, tuple[int, int, int]]]


class Session:
    """A loaded network: called with an input v (3, H, V), it returns the responses.

    The session owns the returned arrays and overwrites them in the next call.

    Parameters
    ----------
    model
        A serialised ONNX graph with one input (1, 3, H, V) in float32, whose outputs are the
        responses of layers.
    shapes
        ``shapes(H, V)`` returns the shape (N, h, v) of every output by name.
    threads
        The number of threads that run the graph.
    blocked
        Whether convolutions may use a blocked layout: an eighth faster, but the memory then holds
        every response twice.

    Raises
    ------
    RuntimeMissingError
        If ONNX Runtime is not installed, or if two distributions of it are.
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

    def sharing_network(self) -> Self:
        """Return a session of the same loaded network that has arrays of its own."""
        other = copy(self)
        other._memory, other._responses = np.empty(0, np.float32), {}
        return other

    def __call__(self, v: Array) -> Mapping[str, Array]:
        """Return the responses (N, h, v) of every layer to the input v (3, H, V).

        Raises
        ------
        ModelError
            If ONNX Runtime fails, for example because memory is short.
        """
        v = np.ascontiguousarray(v, np.float32)
        shapes = self._shapes(*v.shape[1:])
        if {name: F.shape for name, F in self._responses.items()} != shapes:
            self._allocate(shapes)
        binding = self._session.io_binding()
        binding.bind_input(self._input, "cpu", 0, np.float32, (1, *v.shape), v.ctypes.data)
        for name, F in self._responses.items():
            binding.bind_output(name, "cpu", 0, np.float32, (1, *F.shape), F.ctypes.data)
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # ONNX Runtime's exceptions have no common base class
            raise ModelError(
                f"ONNX Runtime could not run the model on an image of {v.shape[2]}×{v.shape[1]} "
                f"pixels ({error}); if memory is short, choose a smaller --size"
            ) from None
        return self._responses

    def _allocate(self, shapes: Mapping[str, tuple[int, int, int]]) -> None:
        """Allocate the responses; a block of memory that is large enough is used again."""
        self._responses.clear()  # free the old arrays before allocating the new ones
        size = sum(map(prod, shapes.values()))
        if self._memory.size < size:
            self._memory = np.empty(0, np.float32)
            self._memory = np.empty(size, np.float32)
        self._responses = consecutive(self._memory, shapes)


def consecutive(memory: Array, shapes: Mapping[str, tuple[int, int, int]]) -> dict[str, Array]:
    """Return arrays of these shapes that follow each other in flat memory."""
    ends = accumulate(map(prod, shapes.values()))
    return {
        name: memory[end - prod(shape) : end].reshape(shape)
        for (name, shape), end in zip(shapes.items(), ends, strict=True)
    }


def open_session(
    model: bytes, *, threads: int, providers: Sequence[Any] = (CPU,), blocked: bool = False
) -> Any:
    """Return an `onnxruntime.InferenceSession` with the options that all graphs here share.

    Parameters
    ----------
    model
        A serialised ONNX graph.
    threads
        The number of threads that run it.
    providers
        ONNX Runtime's execution providers, the preferred one first.
    blocked
        See `Session`.

    Raises
    ------
    RuntimeMissingError
        If ONNX Runtime is not installed, or if two distributions of it are.
    ModelError
        If ONNX Runtime does not accept the graph.
    """
    runtime = load_runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Only the highest level uses the blocked layout, which raises the peak at 512×512 by 0.3 GB.
    levels = runtime.GraphOptimizationLevel
    options.graph_optimization_level = (
        levels.ORT_ENABLE_ALL if blocked else levels.ORT_ENABLE_EXTENDED
    )
    # A memory pattern for a fixed shape would keep a second copy of the working memory allocated.
    options.enable_mem_pattern = False
    # Idle threads that spin would take cores away from the backward pass in NumPy.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return runtime.InferenceSession(model, options, providers=list(providers))
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        raise ModelError(f"ONNX Runtime does not accept the model: {error}") from None


def load_runtime() -> ModuleType:
    """Import ONNX Runtime.

    Raises
    ------
    RuntimeMissingError
        If ONNX Runtime cannot be imported, or if two distributions of it are installed, which
        overwrite each other's files.
    """
    installed = [name for name in DISTRIBUTIONS if _is_installed(name)]
    if len(installed) > 1:
        raise RuntimeMissingError(
            f"{' and '.join(installed)} are both installed and exclude each other; uninstall "
            f"both, then: {install_command('cpu')}"
        )
    # Without this, version 1.32 writes a device id and a database of events into the
    # user's cache, and sends the events to Microsoft. A value that the user has set is kept.
    os.environ.setdefault(TELEMETRY, "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeMissingError(
            f"ONNX Runtime cannot be loaded ({error}); {remedy('cpu', error)}"
        ) from None
    runtime: ModuleType = onnxruntime
    return runtime


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
