"""A network of a few filters, small images and jobs: what the commands of the campaigns use."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image

from gramstyle.core.network import Convolution
from gramstyle.model.onnx_file import write_model
from gramstyle.model.precision import Precision
from gramstyle.model.preprocessings import CAFFE

from .from_tests import LAYERS, chain

PHOTOS = "abcd"
JOBS = """\
[defaults]
size = 48
engine = "numpy"
iterations = 3

[[jobs]]
content = "photos/*"
style = "style.png"
output = "out/{content}.png"
"""


@dataclass(frozen=True)
class Scene:
    """A folder with the files that commands use; `make_scene` makes one.

    Attributes
    ----------
    folder
        The folder.
    """

    folder: Path

    @property
    def model(self) -> Path:
        """A model file of VGG-19's layers, with a few filters each."""
        return self.folder / "model.onnx"

    @property
    def style(self) -> Path:
        """The style image."""
        return self.folder / "style.png"

    @property
    def photo(self) -> Path:
        """A content image, one of those in the folder photos."""
        return self.folder / "photos" / f"{PHOTOS[0]}.png"

    @property
    def workplace(self) -> Path:
        """An empty folder beside those of images and outputs."""
        return self.folder / "workplace"

    @property
    def jobs(self) -> Path:
        """A jobs file: each photograph in the one style."""
        return self.folder / "jobs.toml"


def make_scene(folder: Path) -> Scene:
    """Fill a new folder, and make its network the one that commands use if they name none.

    The files have the same bytes each time.
    """
    for name in ("photos", "out", "workplace"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(1508_06576)
    for name in ("style", *(f"photos/{letter}" for letter in PHOTOS)):
        pixels = rng.integers(0, 256, (48, 40, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{name}.png")
    scene = Scene(folder)
    scene.jobs.write_text(JOBS, encoding="utf-8")
    write_network(scene.model)
    os.environ["GRAMSTYLE_MODEL"] = str(scene.model)
    return scene


def write_network(path: Path, seed: int = 0, precision: Precision = "float32") -> None:
    """Write a model file; the weights are scaled so that responses neither vanish nor grow."""
    layers = [
        Convolution(f"conv{name}", (W * np.sqrt(2 / W[0].size)).astype(np.float32), b)
        for name, (W, b) in zip(LAYERS, chain(seed), strict=True)
    ]
    write_model(path, layers, CAFFE, precision=precision, metadata={"source": "a random chain"})
