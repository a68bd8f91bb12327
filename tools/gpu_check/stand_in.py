"""NumPy in CuPy's place, where there is no GPU: as strict as CuPy, and it runs the CUDA kernels.

Its arrays refuse NumPy's arrays, as CuPy's do. Each copy to the host counts in `transfers`. An
`ElementwiseKernel` compiles its CUDA source as C++ for the processor, one entry after the other;
without a C++ compiler it calls the step of the same name in NumPy.
"""

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from gramstyle.engines.cuda.steps import NUMPY_STEPS

# The functions that make arrays, which CuPy makes on the device.
CREATING = (
    "arange", "array", "asarray", "ascontiguousarray", "empty", "full", "ones", "zeros",
)  # fmt: skip

COMPILER_IS_MISSING = shutil.which("c++") is None


def stand_in(*, compiles: bool = not COMPILER_IS_MISSING) -> Any:
    """Return a module like CuPy that computes on the host.

    Its attribute `transfers` counts the copies to the host so far.

    Parameters
    ----------
    compiles
        Whether its kernels are compiled; by default if there is a C++ compiler.
    """
    module: Any = ModuleType("cupy")
    module.transfers = 0

    def counted(method: str) -> Callable[..., Any]:
        def call(self: Any, *arguments: Any) -> Any:
            module.transfers += 1
            return getattr(_host(self), method)(*arguments)

        return call

    class DeviceArray(np.ndarray):
        """An array that stands for one on a GPU."""

        @property
        def data(self) -> Any:
            return SimpleNamespace(ptr=self.ctypes.data)

        def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
            _refuse(inputs, options)
            result = getattr(ufunc, method)(*map(_host, inputs), **_hosts(options))
            out = options.get("out")
            if out is not None:
                return out[0]
            return _placed(result)

        def __array_function__(
            self, function: Any, types: Any, arguments: Any, options: Any
        ) -> Any:
            _refuse(arguments, options)
            return _placed(function(*_hosts(arguments), **_hosts(options)))

        def __getitem__(self, index: Any) -> Any:
            # One entry is an array on the device, too.
            return _placed(np.ndarray.__getitem__(self, index))

        def __setitem__(self, index: Any, value: Any) -> None:
            _refuse((value,), {})
            np.ndarray.__setitem__(self, index, value)

    for name in ("__bool__", "__float__", "__int__", "__index__", "item", "tolist"):
        setattr(DeviceArray, name, counted(name))

    def _placed(value: Any) -> Any:
        if isinstance(value, tuple | list):
            return type(value)(_placed(each) for each in value)
        if isinstance(value, np.ndarray | np.generic):
            return np.asarray(value).view(DeviceArray)
        return value

    def _refuse(values: Any, options: Any) -> None:
        for value in (*values, *options.values()):
            if isinstance(value, tuple | list):
                _refuse(value, {})
            elif type(value) is np.ndarray:
                raise TypeError("Unsupported type <class 'numpy.ndarray'>")

    def creating(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            return np.asarray(function(*_hosts(arguments), **_hosts(options))).view(DeviceArray)

        return call

    def asarray(value: Any, dtype: Any = None) -> Any:
        if isinstance(value, DeviceArray) and dtype in (None, value.dtype):
            return value
        return np.array(_host(value), dtype, order="K").view(DeviceArray)

    def asnumpy(array: Any) -> Any:
        module.transfers += isinstance(array, DeviceArray)
        return np.array(_host(array))

    module.__dict__.update(
        {name: value for name, value in vars(np).items() if not name.startswith("__")}
    )
    for name in CREATING:
        setattr(module, name, creating(getattr(np, name)))
    module.ndarray, module.asarray, module.asnumpy = DeviceArray, asarray, asnumpy
    module.__version__ = f"NumPy {np.__version__} in its place"
    module.ElementwiseKernel = HostKernel if compiles else NumpyKernel
    module.cuda = _cuda()
    module._core = SimpleNamespace(
        set_compute_type=lambda _dtype, _kind: None,
        _routines_linalg=SimpleNamespace(COMPUTE_TYPE_DEFAULT=1, COMPUTE_TYPE_TF32=7),
    )
    module.get_default_memory_pool = lambda: SimpleNamespace(
        total_bytes=lambda: 0, free_all_blocks=lambda: None
    )
    return module


def _cuda() -> Any:
    """Return the part of CuPy that describes the GPU and its streams."""

    class Stream:
        ptr = 1

        def __init__(self, **_options: Any) -> None:
            """Do nothing."""

        def use(self) -> None:
            """Do nothing."""

        def synchronize(self) -> None:
            """Do nothing: everything is computed at once."""

    return SimpleNamespace(
        Stream=Stream,
        Device=lambda _index: SimpleNamespace(use=lambda: None),
        runtime=SimpleNamespace(
            getDeviceCount=lambda: 1,
            getDeviceProperties=lambda _index: {"name": b"the processor", "major": 0, "minor": 0},
            driverGetVersion=lambda: 0,
            runtimeGetVersion=lambda: 0,
        ),
    )


def _require(condition: bool, *what: object) -> None:
    """Raise an error as CuPy would."""
    if not condition:
        raise ValueError(f"CuPy would refuse this call: {what}")


def _host(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, np.ndarray) else value


def _hosts(values: Any) -> Any:
    """Return arguments, or keyword arguments, with NumPy's arrays in them."""
    if isinstance(values, dict):
        return {name: _hosts(value) for name, value in values.items()}
    if isinstance(values, tuple | list):
        return type(values)(_hosts(each) for each in values)
    return _host(values)


class Parameter(NamedTuple):
    """One argument of a kernel: such as ``raw T X``."""

    raw: bool
    type: str
    name: str

    @classmethod
    def listed(cls, text: str) -> list["Parameter"]:
        """Return the arguments that a kernel declares."""
        parts = (each.split() for each in text.split(","))
        return [cls(part[0] == "raw", part[-2], part[-1]) for part in parts]


class NumpyKernel:
    """The step in NumPy in the place of the kernel of its name."""

    def __init__(self, _inputs: str, _outputs: str, _operation: str, name: str) -> None:
        self._run = getattr(NUMPY_STEPS, name.removeprefix("gramstyle_"))

    def __call__(self, *arguments: Any, **options: Any) -> None:
        """Run the step on NumPy's arrays."""
        self._run(*map(_host, arguments), **options)


class HostKernel:
    """CuPy's `ElementwiseKernel`, compiled for the processor.

    Parameters
    ----------
    inputs, outputs, operation, name
        As CuPy has them.
    """

    def __init__(self, inputs: str, outputs: str, operation: str, name: str) -> None:
        self.inputs, self.outputs = Parameter.listed(inputs), Parameter.listed(outputs)
        self._operation, self._name = operation, name

    def __call__(self, *arguments: Any, size: int = -1) -> None:
        """Run the kernel; the last arguments are its outputs."""
        parameters = [*self.inputs, *self.outputs]
        _require(len(arguments) == len(parameters), self._name)
        entries = [
            value
            for parameter, value in zip(parameters, arguments, strict=True)
            if isinstance(value, np.ndarray) and not parameter.raw
        ]
        # As CuPy: a size if and only if every array is raw.
        _require((size >= 0) == (not entries), self._name)
        shape = np.broadcast_shapes(*(each.shape for each in entries)) if entries else (size,)
        dtype = arguments[-1].dtype
        passed = []
        for parameter, value in zip(parameters, arguments, strict=True):
            if not isinstance(value, np.ndarray):
                passed.append(np.asarray(value, dtype if parameter.type == "T" else np.int32))
                continue
            _require(value.dtype == dtype, self._name, parameter.name, value.dtype)
            if parameter.raw:
                _require(value.flags.c_contiguous, self._name, parameter.name)
                passed.append(_host(value))
            else:
                passed.append(np.ascontiguousarray(np.broadcast_to(_host(value), shape)))
        pointers = (ctypes.c_void_p * len(passed))(*(each.ctypes.data for each in passed))
        source = self._source("float" if dtype == np.float32 else "double")
        _compiled(source)(pointers, ctypes.c_long(int(np.prod(shape))))
        for parameter, value, result in list(zip(parameters, arguments, passed, strict=True))[
            len(self.inputs) :
        ]:
            if not parameter.raw:
                _require(value.shape == shape, self._name, parameter.name)
                _host(value)[...] = result

    def _source(self, ctype: str) -> str:
        outside, inside = [], []
        for index, each in enumerate([*self.inputs, *self.outputs]):
            const = "const " if index < len(self.inputs) else ""
            if each.type == "int32":
                outside.append(f"const int {each.name} = *(int *)p[{index}];")
            elif each.raw:
                outside.append(f"{const}T *{each.name} = (T *)p[{index}];")
            else:
                # A number has one entry.
                at = "0" if each.name == "weight" else "i"
                inside.append(f"{const}T &{each.name} = ((T *)p[{index}])[{at}];")
        return (
            f"#include <cstddef>\ntypedef {ctype} T;\n"
            f'extern "C" void run(char **p, long entries) {{\n{" ".join(outside)}\n'
            f"for (ptrdiff_t i = 0; i < entries; i++) {{ {' '.join(inside)} {self._operation} }}\n"
            "}\n"
        )


@cache
def _compiled(source: str) -> Any:
    """Return the function `run` of a C++ source."""
    folder = Path(_folder().name)
    name = f"kernel{len(list(folder.iterdir()))}"
    text, library = folder / f"{name}.cpp", folder / f"{name}.so"
    text.write_text(source)
    command = ["c++", "-O2", "-ffp-contract=off", "-shared", "-fPIC", "-o", str(library), str(text)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library)).run


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="gramstyle-kernels-")
