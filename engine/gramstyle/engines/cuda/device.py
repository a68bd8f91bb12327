"""One GPU, through CuPy: its stream, its switch for TF32, and the way there and back.

The only `import cupy` beside the conformance adapter, on first use: who computes on arrays asks
`arrays.namespace`.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from gramstyle.core.arrays import Array
from gramstyle.errors import OptionError, RuntimeMissingError

# What there is to install, by the version of CUDA that the driver knows.
EXTRAS = 'pip install "gramstyle[cuda13]" (or "gramstyle[cuda12]", for an older driver)'


@dataclass(frozen=True)
class Device:
    """A GPU that is ready for use.

    Attributes
    ----------
    xp
        CuPy, as array namespace.
    index
        The GPU's number.
    stream
        On which everything runs, one after the other: CuPy's work and ONNX Runtime's.
    tf32
        Whether float32 products may round their factors to ten bits.
    """

    xp: ModuleType
    index: int
    stream: Any
    tf32: bool

    def to_device(self, array: Array) -> Array:
        """Return a copy on the GPU; an array that is there already as it is."""
        result: Array = self.xp.asarray(array)
        return result

    def to_host(self, array: Array) -> Array:
        """Return a copy in NumPy's memory, once all that it depends on is computed."""
        result: Array = self.xp.asnumpy(array)
        return result


def open_device(*, tf32: bool, index: int = 0) -> Device:
    """Take a GPU into use: from here on CuPy's work in this thread runs on it, on one stream.

    Parameters
    ----------
    tf32
        Whether float32 products may use TF32, on GPUs that have it: faster, with a relative
        error of 1e-3 instead of 1e-7. Switches CuPy for the whole process.
    index
        The GPU's number, as CUDA counts them.

    Raises
    ------
    RuntimeMissingError
        If CuPy is not installed, or cannot load its libraries.
    OptionError
        If there is no such GPU.
    """
    cupy = _load_cupy()
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy's own, for want of a driver
        raise OptionError(
            f"CUDA finds no GPU ({_one_line(error)}); install or update NVIDIA's driver, or leave "
            "--device out"
        ) from None
    if not 0 <= index < count:
        raise OptionError(f"there is no GPU {index}; CUDA finds {count}, counted from 0")
    cupy.cuda.Device(index).use()
    _switch_tf32(cupy, tf32)
    # The null stream would wait for every other one, and ONNX Runtime takes it for "none given".
    stream = cupy.cuda.Stream(non_blocking=True)
    stream.use()
    return Device(cupy, index, stream, tf32)


def _load_cupy() -> ModuleType:
    try:
        import cupy
    except Exception as error:  # a library of CUDA's that is missing is not always an ImportError
        raise RuntimeMissingError(
            f"CuPy cannot be loaded ({_one_line(error)}); install it with: {EXTRAS}"
        ) from None
    module: ModuleType = cupy
    return module


def _switch_tf32(cupy: ModuleType, tf32: bool) -> None:
    """Choose how cuBLAS computes float32 products.

    What the environment variable CUPY_TF32 does, at any time and not only before the first one.
    """
    types = cupy._core._routines_linalg
    chosen = types.COMPUTE_TYPE_TF32 if tf32 else types.COMPUTE_TYPE_DEFAULT
    cupy._core.set_compute_type("float32", chosen)


def _one_line(error: Exception) -> str:
    """Return the first line of what an error says: CuPy explains at length."""
    text = str(error).strip() or type(error).__name__
    return next(line.strip() for line in text.splitlines() if line.strip(" =\t"))
