"""Read a mutant as gramstyle does, and check that what comes out is possible at all."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from gramstyle.batch import read_jobs
from gramstyle.images import read_image, read_settings
from gramstyle.model import read_model
from gramstyle.model.architecture import VGGS, Architecture
from gramstyle.model.weights import read_weights
from gramstyle.run.resume import resume

from . import chains, conformance_files
from .from_tests import BLOCKS

# The pixels that an image may have: a mutant may state a size that is legal and takes gigabytes.
MAX_PIXELS = 2**20


class ImpossibleResultError(Exception):
    """A result that no file can have."""


def image(path: Path) -> None:
    """Read an image and the settings in it."""
    found = read_image(path, max_pixels=MAX_PIXELS)
    _require(found.pixels.shape == (found.height, found.width, 3), "shape")
    _require(found.pixels.dtype == np.float32, "type")
    _require(bool(np.isfinite(found.pixels).all()), "finite")
    _require(found.pixels.min() >= 0 and found.pixels.max() <= 255, "range")
    if found.alpha is not None:
        _require(found.alpha.shape == found.pixels.shape[:2], "shape of alpha")
        _require(found.alpha.min() >= 0 and found.alpha.max() <= 1, "range of alpha")
    settings = read_settings(path)
    _require(settings is None or isinstance(settings, dict), "settings")


def weights(path: Path) -> None:
    """Read a narrow VGG-19 in any format."""
    VGGS["VGG-19"] = Architecture(BLOCKS)
    found = read_weights(path, convention="caffe")
    shapes = [shape for *_, shape in VGGS["VGG-19"].convolutions()]
    _require([each.W.shape for each in found.convolutions] == shapes, "shapes")
    for each in found.convolutions:
        _require(each.W.dtype == each.b.dtype == np.float32, "type")
        _require(bool(np.isfinite(each.W).all() and np.isfinite(each.b).all()), "finite")


def onnx(path: Path) -> None:
    """Read a model file as a command does, or weights of another program."""
    if path.name == "model.onnx":
        _require(len(read_model(path).network.layers) == 21, "layers")
    else:
        weights(path)


def checkpoint(path: Path) -> None:
    """Read a run to resume, its state, and its history."""
    resumed = resume(path.parent)
    state = resumed.state()
    scale = resumed.plan.scales[len(state.starts) - 1]
    _require(state.x.shape == (3, scale.height, scale.width), "shape")
    _require(bool(np.isfinite(state.x).all()), "finite")
    if state.optimiser is not None and state.read_history is not None:
        for s, y in state.read_history():
            _require(s.size == y.size == state.x.size, "history")


def toml(path: Path) -> None:
    """Read a jobs file."""
    _require(len(read_jobs(path)) > 0, "jobs")
    _require(not any((path.parents[1] / "out").iterdir()), "files beside the outputs")


READERS: Mapping[str, Callable[[Path], None]] = {
    "image": image,
    "onnx": onnx,
    "torch zip": weights,
    "torch tar": weights,
    "torch stream": weights,
    "h5": weights,
    "safetensors": weights,
    "caffe": weights,
    "checkpoint": checkpoint,
    "toml": toml,
    **chains.READERS,
    **conformance_files.READERS,
}

# Readers that write files, or try whether they could; nothing may stay there.
WRITING = frozenset({"toml", "conformance answer", *chains.READERS})

# Readers whose refusals name the file and say what to do, behind a semicolon.
SAYS_WHAT_TO_DO = frozenset({*chains.READERS, "conformance set", "conformance baseline"})

# The share of each reader in the mutants of its campaign: fewer for slow ones.
MUTANTS: Mapping[str, float] = {
    "image": 0.3,
    "onnx": 0.13,
    "torch zip": 0.1,
    "torch tar": 0.1,
    "torch stream": 0.12,
    "h5": 0.015,
    "safetensors": 0.1,
    "caffe": 0.065,
    "checkpoint": 0.02,
    "toml": 0.05,
}
SHARES: Mapping[str, Mapping[str, float]] = {
    "mutants": MUTANTS,
    "chains": chains.SHARES,
    "conformance": conformance_files.SHARES,
}


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ImpossibleResultError(what)
