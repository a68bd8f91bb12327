"""One GPU, opened through CuPy: its stream, its TF32 switch, and copies to and from it.

The only `import cupy` apart from the conformance adapter's, on first use. Code that computes on
arrays calls `arrays.namespace` instead.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from gramstyle.core.arrays import Array
from gramstyle.errors import OptionError, RuntimeMissingError
from gramstyle.system.installing import install_command


@dataclass(frozen=True)
class Device:
    """An opened GPU.

    Attributes
    ----------
    xp
        CuPy, the array namespace.
    index
        The GPU's number.
    stream
        The CUDA stream that runs all work of CuPy and ONNX Runtime in order.
    tf32
        Whether float32 products may round their factors to ten bits.
    """

    xp: ModuleType
    index: int
    stream: Any
    tf32: bool

    def to_device(self, array: Array) -> Array:
        """Return a copy on the GPU; an array that is already there is returned unchanged."""
        result: Array = self.xp.asarray(array)
        return result

    def to_host(self, array: Array) -> Array:
        """Return a NumPy copy, after waiting for the computations on which the array depends."""
        result: Array = self.xp.asnumpy(array)
        return result


def open_device(*, tf32: bool, index: int = 0) -> Device:
    """Open a GPU. From now on, this thread's CuPy work runs on it, on one stream.

    Parameters
    ----------
    tf32
        Whether float32 products may use TF32 on GPUs that have it: faster, with a relative error
        of 1e-3 instead of 1e-7. This setting of CuPy holds for the whole process.
    index
        The GPU's number, as CUDA counts them.

    Raises
    ------
    RuntimeMissingError
        If CuPy is not installed, or cannot load its libraries.
    OptionError
        If CUDA finds no GPU with this number.
    """
    cupy = load_cupy()
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy's own exception if the driver is missing
        raise OptionError(
            f"CUDA finds no GPU ({_one_line(error)}); install or update NVIDIA's driver, or leave "
            "--device out"
        ) from None
    if not 0 <= index < count:
        raise OptionError(f"there is no GPU {index}; CUDA finds {count}, counted from 0")
    cupy.cuda.Device(index).use()
    _switch_tf32(cupy, tf32)
    # The null stream would wait for every other stream, and ONNX Runtime would ignore it.
    stream = cupy.cuda.Stream(non_blocking=True)
    stream.use()
    return Device(cupy, index, stream, tf32)


def install_commands(prefix: str = "") -> str:
    """Return the commands that install what a GPU needs, by the CUDA version of the driver.

    The prefix "onnx-" stands for the extras that also install ONNX Runtime with CUDA.
    """
    older = install_command(f"{prefix}cuda12")
    return f"{install_command(f'{prefix}cuda13')} (for a driver of CUDA 12: {older})"


def gpu_name(index: int = 0) -> str:
    """Return the name of a GPU; empty if there is none, which `open_device` reports."""
    try:
        name: bytes = load_cupy().cuda.runtime.getDeviceProperties(index)["name"]
    except Exception:  # CuPy's own exception if the driver is missing
        return ""
    return name.decode(errors="replace")


def load_cupy() -> ModuleType:
    """Import CuPy; raises RuntimeMissingError if it cannot be imported."""
    try:
        import cupy
    except Exception as error:  # a missing CUDA library is not always an ImportError
        raise RuntimeMissingError(
            f"CuPy cannot be loaded ({_one_line(error)}); install it with: {install_commands()}"
        ) from None
    module: ModuleType = cupy
    return module


def _switch_tf32(cupy: ModuleType, tf32: bool) -> None:
    """Choose whether cuBLAS computes float32 products in TF32.

    The environment variable CUPY_TF32 does the same, but only before the first product.
    """
    types = cupy._core._routines_linalg
    chosen = types.COMPUTE_TYPE_TF32 if tf32 else types.COMPUTE_TYPE_DEFAULT
    cupy._core.set_compute_type("float32", chosen)


def _one_line(error: Exception) -> str:
    """Return the first line of an error message; CuPy's messages have many."""
    text = str(error).strip() or type(error).__name__
    return next(line.strip() for line in text.splitlines() if line.strip(" =\t"))
