"""Adapters by name: gramstyle's own engines, and frameworks, each imported by one module."""

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType

from gramstyle.conformance.comparing import TOLERANCES, Adapter
from gramstyle.errors import OptionError
from gramstyle.system.installing import remedy

DEVICES = ("cpu", "cuda")
EVERY = tuple(TOLERANCES)
SINGLE = ("float32",)


@dataclass(frozen=True)
class Included:
    """An adapter that comes with gramstyle.

    Attributes
    ----------
    package
        The package that it needs, as its users call it; "" if it comes with gramstyle.
    extra
        The extra that brings the package.
    dtypes
        The float types in which it computes, the default first.
    distributions
        The names under which the package that computes is installed, one of which has the version.
    place
        The module of this package, and the function in it that returns the adapter; by default
        the module has the adapter's name.
    """

    package: str = ""
    extra: str = ""
    dtypes: tuple[str, ...] = EVERY
    distributions: tuple[str, ...] = ()
    place: tuple[str, str] = ("", "adapter")


ONNXRUNTIME = ("onnxruntime", "onnxruntime-gpu")
CUPY = ("cupy-cuda13x", "cupy-cuda12x", "cupy")
NUMPY = ("numpy",)

NAMES: Mapping[str, Included] = MappingProxyType(
    {
        "numpy_plain": Included(distributions=NUMPY),
        "numpy_strips": Included(dtypes=SINGLE, distributions=NUMPY),
        "numpy_winograd": Included("Numba", "fast", SINGLE, ("numba",)),
        "onnxruntime": Included(dtypes=SINGLE, distributions=ONNXRUNTIME),
        "onnx_graph": Included(dtypes=SINGLE, distributions=ONNXRUNTIME),
        "onnx_ad": Included("onnx-ad", "onnx-ad", SINGLE, ("onnx-ad",)),
        "torch": Included("PyTorch", "torch", EVERY, ("torch",)),
        "torch_func": Included("PyTorch", "torch", EVERY, ("torch",), ("torch", "functional")),
        "torch_compile": Included("PyTorch", "torch", EVERY, ("torch",), ("torch", "compiled")),
        "tensorflow": Included("TensorFlow", "tensorflow", EVERY, ("tensorflow", "tensorflow-cpu")),
        "jax": Included("JAX", "jax", EVERY, ("jax",)),
        "tinygrad": Included("tinygrad", "tinygrad", EVERY, ("tinygrad",)),
        "autograd": Included("HIPS autograd", "autograd", EVERY, ("autograd",)),
        "cupy": Included("CuPy", "cuda13", EVERY, CUPY),
        "cupy_engine": Included("CuPy", "cuda13", ("float32", "float64"), CUPY),
    }
)


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
    included = NAMES[name]
    module_name, function = included.place
    try:
        module = importlib.import_module(f"{__name__}.{module_name or name}")
    except ImportError as error:
        if not included.package:
            raise
        advice = remedy(included.extra, error)
        raise OptionError(f"{name} needs {included.package} ({error}); {advice}") from None
    adapter: Adapter = getattr(module, function)(device)
    return adapter


def dtypes_of(name: str) -> tuple[str, ...]:
    """Return the float types in which an adapter can compute, the default first."""
    return NAMES[name].dtypes if name in NAMES else EVERY


def version_of(name: str) -> str:
    """Return the version of the package that computes; "" for a user's function."""
    for package in NAMES[name].distributions if name in NAMES else ():
        try:
            return version(package)
        except PackageNotFoundError:
            continue
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
