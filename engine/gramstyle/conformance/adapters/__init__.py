"""Adapters by name: gramstyle's own engines, and frameworks, each imported by one module."""

import importlib
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType

from gramstyle.conformance.comparing import TOLERANCES, Adapter
from gramstyle.errors import OptionError
from gramstyle.system.installing import remedy

# What each adapter imports, and the extra that brings it; None where it comes with gramstyle.
NAMES: Mapping[str, tuple[str, str] | None] = MappingProxyType(
    {
        "numpy_plain": None,
        "numpy_strips": None,
        "numpy_winograd": ("Numba", "fast"),
        "onnxruntime": None,
        "onnx_graph": None,
        "onnx_ad": ("onnx-ad", "onnx-ad"),
        "torch": ("PyTorch", "torch"),
        "jax": ("JAX", "jax"),
        "tinygrad": ("tinygrad", "tinygrad"),
        "autograd": ("HIPS autograd", "autograd"),
        "cupy": ("CuPy", "cuda13"),
        "cupy_engine": ("CuPy", "cuda13"),
    }
)
DEVICES = ("cpu", "cuda")
FLOAT32_ONLY = ("numpy_strips", "numpy_winograd", "onnxruntime", "onnx_graph", "onnx_ad")


def load(name: str, *, device: str = "cpu") -> Adapter:
    """Return an adapter by its name, or a user's function by "module:function".

    Parameters
    ----------
    name
        One of `NAMES`; or "module:function", where the module may be in the working directory.
    device
        "cpu" or "cuda". A user's function chooses its device itself.

    Raises
    ------
    OptionError
        If there is no such adapter, if a package that it needs is not installed, if it cannot use
        the device, or if the module cannot be imported or has no such function.
    """
    if device not in DEVICES:
        raise OptionError(f"the device must be {' or '.join(DEVICES)}, not {device!r}")
    if ":" in name:
        if device != "cpu":
            raise OptionError(f"{name} chooses its device itself; leave --device out")
        return _function(*name.split(":", 1))
    if name not in NAMES:
        raise OptionError(
            f"there is no adapter {name!r}; choose {', '.join(NAMES)}, or name a function of your "
            "own as module:function"
        )
    try:
        module = importlib.import_module(f"{__name__}.{name}")
    except ImportError as error:
        needs = NAMES[name]
        if needs is None:
            raise
        raise OptionError(f"{name} needs {needs[0]} ({error}); {remedy(needs[1], error)}") from None
    adapter: Adapter = module.adapter(device)
    return adapter


def dtypes_of(name: str) -> tuple[str, ...]:
    """Return the float types in which an adapter can compute, the default first."""
    if name == "cupy_engine":
        return ("float32", "float64")
    return ("float32",) if name in FLOAT32_ONLY else tuple(TOLERANCES)


def version_of(name: str) -> str:
    """Return the version of the package of an adapter; "" for a user's function."""
    package = "numpy" if name.startswith("numpy_") else name
    try:
        return version(package) if name in NAMES else ""
    except PackageNotFoundError:  # ONNX Runtime and CuPy are installed under several names
        return ""


def cpu_only(name: str, device: str) -> None:
    """Raise an error unless the device is the CPU.

    Raises
    ------
    OptionError
        If the device is not "cpu".
    """
    if device != "cpu":
        raise OptionError(f"{name} computes on the CPU; leave --device out")


def _function(module_name: str, function_name: str) -> Adapter:
    """Return a function of a module that may be in the working directory."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    # The import of a foreign module may raise anything.
    except Exception as error:
        raise OptionError(
            f"the module {module_name!r} cannot be imported: {type(error).__name__}: {error}"
        ) from None
    adapter = getattr(module, function_name, None)
    if not callable(adapter):
        raise OptionError(
            f"the module {module_name!r} has no function {function_name!r}; expected "
            "value_and_grad(image, case) -> loss, gradient, {layer: dF}"
        )
    found: Adapter = adapter
    return found
