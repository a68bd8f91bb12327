"""The forward pass in ONNX Runtime on a GPU, which reads and writes CuPy arrays without copies."""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.engines.cuda.device import Device, install_commands
from gramstyle.engines.onnx_session import CPU, Shapes, consecutive, load_runtime, open_session
from gramstyle.errors import ModelError, RuntimeMissingError

CUDA = "CUDAExecutionProvider"


class CudaSession:
    """A network loaded on a GPU: called with an input v (3, H, V), it returns the responses.

    The counterpart of `onnx_session.Session`. The session owns the returned arrays and overwrites
    them in the next call.

    Parameters
    ----------
    model
        A serialised ONNX graph with one input (1, 3, H, V) in float32, whose outputs are the
        responses of layers.
    shapes
        ``shapes(H, V)`` returns the shape (N, h, v) of every output by name.
    device
        The GPU. The graph runs on its stream and with its TF32 setting.

    Raises
    ------
    RuntimeMissingError
        If ONNX Runtime is missing, was built without CUDA, or cannot load CUDA's libraries.
    ModelError
        If ONNX Runtime does not accept the graph.
    """

    def __init__(self, model: bytes, shapes: Shapes, *, device: Device) -> None:
        check_runtime()
        self._device = device
        self._session = open_session(model, threads=1, providers=[(CUDA, provider_options(device))])
        # ONNX Runtime silently leaves out a provider that it cannot load.
        if CUDA not in self._session.get_providers():
            raise RuntimeMissingError(
                "ONNX Runtime cannot load its CUDA provider: CUDA's or cuDNN's libraries are "
                "missing or of another version; choose --engine cupy, or install them with: "
                + install_commands("onnx-")
            )
        self._input = self._session.get_inputs()[0].name
        self._shapes = shapes
        self._responses: dict[str, Any] = {}

    def __call__(self, v: Array) -> Mapping[str, Array]:
        """Return the responses (N, h, v) of every layer to the input v (3, H, V), on the GPU.

        Raises
        ------
        ModelError
            If ONNX Runtime fails, or the GPU's memory is too small.
        """
        xp = self._device.xp
        try:
            # The runtime gets only the address; this variable keeps the array alive until the end.
            bound = xp.ascontiguousarray(v, dtype=xp.float32)
            self._allocate(self._shapes(*bound.shape[1:]))
            binding = self._session.io_binding()
            place: Any = ("cuda", self._device.index, np.float32)
            binding.bind_input(self._input, *place, (1, *bound.shape), bound.data.ptr)
            for name, F in self._responses.items():
                binding.bind_output(name, *place, (1, *F.shape), F.data.ptr)
            self._session.run_with_iobinding(binding)
        except Exception as error:  # ONNX Runtime's and CuPy's have no common base class
            raise ModelError(
                f"ONNX Runtime could not run the model on an image of {v.shape[2]}×{v.shape[1]} "
                f"pixels ({error}); if the GPU's memory is short, choose a smaller --size"
            ) from None
        return self._responses

    def _allocate(self, shapes: Mapping[str, tuple[int, int, int]]) -> None:
        if {name: F.shape for name, F in self._responses.items()} == shapes:
            return
        self._responses.clear()  # free the old arrays before allocating the new ones
        xp = self._device.xp
        memory = xp.empty(sum(map(prod, shapes.values())), dtype=xp.float32)
        self._responses = consecutive(memory, shapes)


def cuda_providers(device: Device) -> tuple[Any, ...]:
    """Return the providers for a graph of standard operators; see `onnx_session.open_session`.

    Operators that the CUDA provider does not implement run on the CPU.

    Raises
    ------
    RuntimeMissingError
        If ONNX Runtime is missing or was built without CUDA.
    """
    check_runtime()
    return ((CUDA, provider_options(device)), CPU)


def provider_options(device: Device) -> dict[str, str]:
    """Return the CUDA provider's options for a device."""
    return {
        "device_id": str(device.index),
        "user_compute_stream": str(device.stream.ptr),
        "use_tf32": str(int(device.tf32)),
        # The default, an exhaustive search, chooses by timing, so that sums differ by process.
        "cudnn_conv_algo_search": "HEURISTIC",
        # The default takes up to twice the memory it needs, and CuPy uses the same GPU.
        "arena_extend_strategy": "kSameAsRequested",
    }


def check_runtime() -> None:
    """Check that this ONNX Runtime was built with CUDA, and load CUDA's libraries.

    Without CUDA, `preload_dlls` would print complaints about missing libraries.

    Raises
    ------
    RuntimeMissingError
        If ONNX Runtime is missing or was built without CUDA.
    """
    runtime = load_runtime()
    if CUDA not in runtime.get_available_providers():
        raise RuntimeMissingError(
            "this ONNX Runtime computes on the CPU only; choose --engine cupy, or uninstall "
            f"onnxruntime, then: {install_commands('onnx-')}"
        )
    if hasattr(runtime, "preload_dlls"):  # since 1.21
        runtime.preload_dlls()
