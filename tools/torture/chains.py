"""A chain of three tiny convolutions in every format, exported to model files.

A file has about a kilobyte, most of it structure, so that more mutants reach the code behind the
first checks than with a VGG. What a mutant gives is compared with what other libraries read in it.
"""

import contextlib
import shutil
from collections.abc import Callable, Mapping
from itertools import zip_longest
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx

from gramstyle.core.network import Convolution
from gramstyle.model import read_model
from gramstyle.model.export import export_model
from gramstyle.model.onnx_file import write_model
from gramstyle.model.preprocessings import CAFFE

from . import independent
from .from_tests import (
    Chain,
    chain,
    gatys_names,
    torchvision_names,
    write_caffe,
    write_keras,
    write_keras3,
    write_keras_archive,
    write_onnx,
    write_safe_index,
    write_safetensors,
    write_torch_stream,
    write_torch_tar,
    write_torch_zip,
)
from .independent import Layers
from .sample import Sample, safetensors_sample, zip_sample

NETWORK, BLOCKS = "2,pool,3,2", ((2,), (3, 2))
NAMES, INDICES = ("1_1", "2_1", "2_2"), (0, 3, 5)
NORM_INDICES = (0, 4, 7)
# The relative difference of two ways to fold a normalisation in float64, rounded to float32.
ROUNDING = 1e-6
# Below it, float32 has fewer digits.
SMALLEST = float(np.finfo(np.float32).smallest_normal)

# The network in each sample, by the name of its file.
_seeds: dict[str, Layers] = {}


class ImpossibleNetworkError(Exception):
    """A network that is not the one in the file, or a model file that is not the network."""


def export(path: Path) -> None:
    """Export the chain in a file to a model file, and compare it with what others read."""
    target = path.with_name("exported") / "chain.onnx"
    target.parent.mkdir()
    try:
        # The graph of an ONNX file is followed; the other formats need a description.
        network = None if path.suffix == ".onnx" else NETWORK
        export_model(target, source=path, convention="caffe", network=network)
        layers = read_model(target).network.layers
        check_network(path, [(each.W, each.b) for each in layers if isinstance(each, Convolution)])
        target.unlink()
    finally:
        with contextlib.suppress(OSError):
            target.parent.rmdir()  # unless a refused mutant has left something there


def check_network(path: Path, found: Layers) -> None:
    """Raise an error if a network is neither the one in the file nor the sample's."""
    shapes = [(W.shape, b.shape) for W, b in chain(blocks=BLOCKS)]
    if path.suffix != ".onnx" and [(W.shape, b.shape) for W, b in found] != shapes:
        raise ImpossibleNetworkError(f"found other shapes in {path.name}")
    # gramstyle may ignore damage where it needs nothing, such as an unrelated group of HDF5.
    if _equal(found, _seeds[path.name]):
        return
    expected = independent.network(path)
    # Behind the chain of an ONNX file may be layers that gramstyle leaves out.
    if not _equal(found, expected[: len(found)] if path.suffix == ".onnx" else expected):
        raise ImpossibleNetworkError(f"found other weights in {path.name}")


def _equal(found: Layers, expected: Layers) -> bool:
    pairs = [
        (values, others.astype(np.float32))
        for ours, theirs in zip_longest(found, expected, fillvalue=(np.zeros(0),) * 2)
        for values, others in zip(ours, theirs, strict=True)
    ]
    return all(
        values.shape == others.shape and np.allclose(values, others, rtol=ROUNDING, atol=SMALLEST)
        for values, others in pairs
    )


def samples(folder: Path) -> dict[str, list[Sample]]:
    """Return the samples of each reader; they are written to a new folder, which is removed."""
    found: dict[str, list[Sample]] = {}
    for reader, name, write in _formats():
        path = folder / "chains" / name
        path.parent.mkdir()
        write(path)
        _seeds[name] = independent.network(path)
        found.setdefault(reader, []).append(_sample(path))
        shutil.rmtree(path.parent)
    return found


def _sample(path: Path) -> Sample:
    data = path.read_bytes()
    if path.suffix == ".safetensors":
        return safetensors_sample(path.name, data)
    if data.startswith(b"PK"):
        return zip_sample(path.name, data, whole=True)
    others = {each.name: each.read_bytes() for each in sorted(path.parent.iterdir())}
    return Sample(path.name, {path.name: data, **others})


def _formats() -> list[tuple[str, str, Callable[[Path], None]]]:
    """Return reader, file name and writer of each sample."""
    layers = chain(blocks=BLOCKS)
    named = torchvision_names(layers, INDICES)
    gatys = gatys_names(layers, NAMES)
    half = {name: array.astype(np.float16) for name, array in named.items()}
    brain = {name: array.astype(ml_dtypes.bfloat16) for name, array in named.items()}
    normal = _normalised(layers)

    def unnamed(path: Path) -> None:
        write_keras3(path, layers, names=NAMES, named=False)

    return [
        ("chain torch zip", "torch.pth", lambda p: write_torch_zip(p, named)),
        ("chain torch zip", "norm.pth", lambda p: write_torch_zip(p, normal)),
        ("chain torch stream", "old.pth", lambda p: write_torch_stream(p, named)),
        ("chain torch stream", "gatys.pth", lambda p: write_torch_stream(p, gatys)),
        ("chain torch tar", "tar.pth", lambda p: write_torch_tar(p, named)),
        ("chain h5", "keras.h5", lambda p: write_keras(p, layers, names=NAMES)),
        ("chain h5", "keras1.h5", lambda p: write_keras(p, layers, names=NAMES, old=True)),
        ("chain h5", "keras.weights.h5", lambda p: write_keras3(p, layers, names=NAMES)),
        ("chain h5", "unnamed.weights.h5", unnamed),
        ("chain h5", "archive.keras", lambda p: write_keras_archive(p, layers, names=NAMES)),
        ("chain safetensors", "single.safetensors", lambda p: write_safetensors(p, named)),
        ("chain safetensors", "half.safetensors", lambda p: write_safetensors(p, half)),
        ("chain safetensors", "brain.safetensors", lambda p: write_safetensors(p, brain)),
        ("chain safetensors", "norm.safetensors", lambda p: write_safetensors(p, normal)),
        ("chain safetensors", "model.safetensors.index.json", lambda p: write_safe_index(p, named)),
        ("chain caffe", "v1.caffemodel", lambda p: write_caffe(p, layers, old=True, names=NAMES)),
        ("chain caffe", "v2.caffemodel", lambda p: write_caffe(p, layers, old=False, names=NAMES)),
        ("chain onnx", "zoo.onnx", lambda p: write_onnx(p, layers, names=NAMES)),
        ("chain onnx", "external.onnx", lambda p: _external(p, layers)),
        ("chain onnx", "own.onnx", lambda p: _own(p, layers)),
    ]  # fmt: skip


def _normalised(layers: Chain) -> dict[str, independent.Array]:
    """Return the tensors of a chain with a batch normalisation behind each convolution."""
    rng = np.random.default_rng(2015)
    found: dict[str, independent.Array] = {}
    for index, (W, b) in zip(NORM_INDICES, layers, strict=True):
        found |= {f"features.{index}.weight": W, f"features.{index}.bias": b}
        for part in ("weight", "bias", "running_mean", "running_var"):
            values = rng.uniform(0.5, 2, len(b)).astype(np.float32)
            found[f"features.{index + 1}.{part}"] = values
    return found


def _external(path: Path, layers: Chain) -> None:
    write_onnx(path, layers, names=NAMES)
    model = onnx.load(path)
    onnx.save(
        model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=0
    )


def _own(path: Path, layers: Chain) -> None:
    convolutions = [
        Convolution(f"conv{name}", W, b) for name, (W, b) in zip(NAMES, layers, strict=True)
    ]
    write_model(path, convolutions, CAFFE, precision="codebook8", metadata={"source": "a chain"})


READERS: Mapping[str, Callable[[Path], None]] = dict.fromkeys(
    (
        "chain torch zip",
        "chain torch stream",
        "chain torch tar",
        "chain h5",
        "chain safetensors",
        "chain caffe",
        "chain onnx",
    ),
    export,
)
SHARES: Mapping[str, float] = {
    "chain torch zip": 0.16,
    "chain torch stream": 0.16,
    "chain torch tar": 0.12,
    "chain h5": 0.1,
    "chain safetensors": 0.18,
    "chain caffe": 0.12,
    "chain onnx": 0.16,
}
