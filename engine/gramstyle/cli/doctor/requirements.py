"""The packages that gramstyle requires, as its metadata state them."""

import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version

from gramstyle.system.installing import core_requirements, requirements

# The extras that a user may want, and what each is for. The others are for development.
EXTRAS = {
    "cpu": "ONNX Runtime, for the engines numpy, hybrid and onnx",
    "fast": "Numba, for the engines winograd and hybrid",
    "distributed": "Dask, for --scheduler and --workers",
    "weights": "to read Keras' and safetensors' files",
    "formats": "imagecodecs and tifffile, for images of 16 bits per channel",
    "plots": "matplotlib, for gramstyle plot and trace --save",
    "video": "PyAV, for --record with a .mp4 or .webm file",
    "serve": "FastAPI and uvicorn, for gramstyle serve",
    "random": "Hypothesis, for gramstyle conformance run --random",
    "cuda12": "an NVIDIA GPU with a driver of CUDA 12",
    "cuda13": "an NVIDIA GPU with a driver of CUDA 13",
    "onnx-cuda12": "the engines cupy-onnx and onnx on a GPU, with a driver of CUDA 12",
    "onnx-cuda13": "the engines cupy-onnx and onnx on a GPU, with a driver of CUDA 13",
}
# The extras that are of use only where NVIDIA's driver is.
FOR_GPU = ("cuda12", "cuda13")
# The extras of which only the installed ones are listed: each excludes the extra cpu.
INSTEAD_OF_CPU = ("onnx-cuda12", "onnx-cuda13")
# The distributions whose module has another name.
_MODULES = {"pillow": "PIL", "onnxruntime-gpu": "onnxruntime"}


@dataclass(frozen=True)
class Requirement:
    """A required package.

    Attributes
    ----------
    text
        The requirement as it is stated, such as ``numpy>=2.0``.
    name, module
        The name of the distribution, and of the module that it installs.
    installed
        The installed version; None if there is none.
    """

    text: str
    name: str
    module: str
    installed: str | None

    @property
    def satisfied(self) -> bool:
        """Whether the installed version is one of those that are required."""
        if self.installed is None:
            return False
        have = _numbers(self.installed)
        bounds = re.findall(r"(>=|<|==)\s*([\d.]+)", self.text)
        return all(_holds(have, sign, _numbers(text)) for sign, text in bounds)


def core() -> list[Requirement]:
    """Return what every run needs."""
    return [_requirement(text) for text in core_requirements()]


def of_extra(extra: str) -> list[Requirement]:
    """Return what an extra installs."""
    return [_requirement(text) for text in requirements(extra)]


def _requirement(text: str) -> Requirement:
    found = re.match(r"[\w.-]+", text)
    name = found[0] if found else text
    module = "cupy" if name.startswith("cupy-") else _MODULES.get(name, name.replace("-", "_"))
    return Requirement(text, name, module, _installed(name))


def _installed(name: str) -> str | None:
    try:
        distribution(name)
        return version(name)
    except PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a version, without a suffix such as rc1."""
    numbers = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(map(int, numbers[0].split("."))) if numbers else ()


def _holds(have: tuple[int, ...], sign: str, bound: tuple[int, ...]) -> bool:
    length = max(len(have), len(bound))
    a, b = (each + (0,) * (length - len(each)) for each in (have, bound))
    return {">=": a >= b, "<": a < b, "==": a == b}[sign]
