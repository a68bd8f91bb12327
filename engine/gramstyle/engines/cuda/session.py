"""The forward pass in ONNX Runtime on a GPU, from CuPy's arrays into CuPy's arrays: no copy."""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.engines.cuda.device import EXTRAS, Device
from gramstyle.engines.onnx_session import CPU, Shapes, load_runtime, open_session
from gramstyle.errors import ModelError, RuntimeMissingError

CUDA = "CUDAExecutionProvider"


class CudaSession:
    """A network ready to run; called with an input v (3, H, V), it returns the responses.

    What `session.Session` does, on a GPU. The returned arrays are the session's own and are
    overwritten by the next call.

    Parameters
    ----------
    model
        A serialised ONNX graph with one input (1, 3, H, V) in float32, every output a layer's
        responses.
    shapes
        ``shapes(H, V)`` gives the shape (N, h, v) of every output by name.
    device
        Where it runs, on the device's stream and with the device's TF32.

    Raises
    ------
    RuntimeMissingError
        If ONNX Runtime is missing, was built without CUDA, or cannot load CUDA's libraries.
    ModelError
        If ONNX Runtime does not accept the graph.
    """

    def __init__(self, model: bytes, shapes: Shapes, *, device: Device) -> None:
        _check_runtime()
        self._device = device
        self._session = open_session(model, threads=1, providers=[(CUDA, provider_options(device))])
        # The runtime goes on without a provider that it cannot load.
        if CUDA not in self._session.get_providers():
            raise RuntimeMissingError(
                "ONNX Runtime cannot load its CUDA provider: CUDA's or cuDNN's libraries are "
                f"missing or of another version; install them with: {EXTRAS}"
            )
        self._input = self._session.get_inputs()[0].name
        self._shapes = shapes
        self._responses: dict[str, Any] = {}

    def __call__(self, v: Array) -> Mapping[str, Array]:
        """Return the responses (N, h, v) of every layer, on the GPU, to v (3, H, V).

        Raises
        ------
        ModelError
            If ONNX Runtime fails, or the GPU's memory is too small.
        """
        xp = self._device.xp
        try:
            # Bound by its address: it lives, as a local variable, until the run has ended.
            bound = xp.ascontiguousarray(v, dtype=xp.float32)
            self._make_room(self._shapes(*bound.shape[1:]))
            binding = self._session.io_binding()
            where: Any = ("cuda", self._device.index, np.float32)
            binding.bind_input(self._input, *where, (1, *bound.shape), bound.data.ptr)
            for name, F in self._responses.items():
                binding.bind_output(name, *where, (1, *F.shape), F.data.ptr)
            self._session.run_with_iobinding(binding)
        except Exception as error:  # the runtime's have no base of their own; CuPy's for memory
            raise ModelError(
                f"ONNX Runtime could not run the model on an image of {v.shape[2]}×{v.shape[1]} "
                f"pixels ({error}); if the GPU's memory is short, choose a smaller --size"
            ) from None
        return self._responses

    def _make_room(self, shapes: Mapping[str, tuple[int, int, int]]) -> None:
        if {name: F.shape for name, F in self._responses.items()} == shapes:
            return
        self._responses.clear()  # the old ones go before the new ones come
        xp = self._device.xp
        memory = xp.empty(sum(map(prod, shapes.values())), dtype=xp.float32)
        start = 0
        for name, shape in shapes.items():
            self._responses[name] = memory[start : start + prod(shape)].reshape(shape)
            start += prod(shape)


def cuda_providers(device: Device) -> tuple[Any, ...]:
    """Return what `session.open_session` is to be given for a graph of standard operators.

    What the CUDA provider does not know runs on the processor.

    Raises
    ------
    RuntimeMissingError
        If ONNX Runtime is missing or was built without CUDA.
    """
    _check_runtime()
    return ((CUDA, provider_options(device)), CPU)


def provider_options(device: Device) -> dict[str, str]:
    """Return how the CUDA provider shall run, in its own words."""
    return {
        "device_id": str(device.index),
        "user_compute_stream": str(device.stream.ptr),
        "use_tf32": str(int(device.tf32)),
        # The exhaustive search, its default, chooses by timing: other sums in every process.
        "cudnn_conv_algo_search": "HEURISTIC",
        # Otherwise it takes twice what it needs; the GPU is CuPy's too.
        "arena_extend_strategy": "kSameAsRequested",
    }


def _check_runtime() -> None:
    """Load CUDA's libraries from their packages, and see whether this runtime knows CUDA."""
    runtime = load_runtime()
    # On a runtime without CUDA it complains of missing libraries by printing: ask first.
    if CUDA not in runtime.get_available_providers():
        raise RuntimeMissingError(
            "this ONNX Runtime computes on the CPU only; uninstall onnxruntime, then: " + EXTRAS
        )
    if hasattr(runtime, "preload_dlls"):  # since 1.21
        runtime.preload_dlls()
