"""The small files from which mutants are made, the same bytes in every process.

The project's own writers in tests/ make them.
"""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import chains, conformance_files
from .checkpoint_sample import checkpoint_sample
from .from_tests import (
    IMAGE_FORMATS,
    WEIGHTS_FORMATS,
    chain,
    dictionary,
    image_file,
    name_of,
    stream,
    text,
    tuple_of,
)
from .jobs_files import JOBS_FILES
from .sample import Sample, png_sample, safetensors_sample, zip_sample
from .scene import Scene

# A pickle that starts a program if anything executes it.
HOSTILE = dictionary(
    {"features.0.weight": name_of("posix", "system") + tuple_of(text("true")) + b"R"}
)


def corpus(scene: Scene) -> dict[str, list[Sample]]:
    """Return the samples of each reader."""
    samples: dict[str, list[Sample]] = {"image": [_image(kind) for kind in IMAGE_FORMATS]}
    for name, write in WEIGHTS_FORMATS.items():
        path = scene.folder / "weights" / name
        path.parent.mkdir()
        write(path, chain())
        samples.setdefault(_reader(path), []).append(_weights(path))
        shutil.rmtree(path.parent)
    samples["onnx"].append(Sample("model.onnx", {"model.onnx": scene.model.read_bytes()}))
    hostile = Sample("hostile.pth", {"hostile.pth": stream(HOSTILE)}, accepted=False)
    samples["torch stream"].append(hostile)
    samples["checkpoint"] = [checkpoint_sample(scene)]
    samples["toml"] = [
        Sample(f"jobs {number}", {"jobs.toml": content.encode()})
        for number, content in enumerate(JOBS_FILES)
    ]
    samples |= chains.samples(scene.folder)
    samples |= conformance_files.samples(scene.folder)
    return samples


def fingerprint(samples: Mapping[str, Sequence[Sample]]) -> str:
    """Return a hash of the corpus; equal corpora give equal mutants."""
    digest = hashlib.sha256()
    for group in samples.values():
        for each in group:
            digest.update(b"".join(each.parts or each.files.values()))
    return digest.hexdigest()[:12]


def _image(kind: str) -> Sample:
    name, data = f"image.{kind}", image_file(kind)
    return png_sample(name, data) if kind == "png" else Sample(name, {name: data})


def _reader(path: Path) -> str:
    """Return the name of the reader of a weights file."""
    if path.suffix == ".pth":
        heads = {b"P": "torch zip", b"\x80": "torch stream"}
        return heads.get(path.read_bytes()[:1], "torch tar")
    names = {".onnx": "onnx", ".caffemodel": "caffe", ".h5": "h5", ".keras": "h5"}
    return names.get(path.suffix, "safetensors")


def _weights(path: Path) -> Sample:
    """Return a weights file, with the files that lie beside it because it names them."""
    data = path.read_bytes()
    if path.suffix == ".safetensors":
        return safetensors_sample(path.name, data)
    if path.suffix == ".pth" and data.startswith(b"PK"):
        return zip_sample(path.name, data)
    others = {each.name: each.read_bytes() for each in sorted(path.parent.iterdir())}
    return Sample(path.name, {path.name: data, **others})
