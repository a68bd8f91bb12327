"""What is killed: a run with checkpoints, a batch and an export of a network."""

import hashlib
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import PIL.Image

from gramstyle.run.resume.saved_run import COLUMNS
from gramstyle.system.files import TEMPORARY_NAME

from .commands import Arguments, narrow
from .from_tests import WEIGHTS_FORMATS, chain
from .scene import PHOTOS, Scene, write_network

# What a command has made: hashes by name.
Made = Mapping[str, str]

ITERATIONS = 12


class Victim(ABC):
    """A command that is killed in a folder of its own.

    Attributes
    ----------
    name
        What it is in the table.
    old
        The outputs that are there before the command.
    prepare
        Called in the command's process, if it is not None.
    """

    name: str
    old: Made = MappingProxyType({})
    prepare: Callable[[], None] | None = None

    def fill(self, folder: Path) -> None:  # noqa: B027 - most need nothing
        """Put what the command finds into a new folder."""

    @abstractmethod
    def command(self, folder: Path) -> Arguments:
        """Return the command."""

    def again(self, folder: Path) -> Arguments:
        """Return the command that follows a kill."""
        return self.command(folder)

    @abstractmethod
    def outputs(self, folder: Path) -> Made:
        """Return what is there under the names of the outputs; raise if a file is not whole."""

    def made(self, folder: Path) -> Made:
        """Return all that the command has made, bit for bit, without times."""
        return self.outputs(folder)


class Transfer(Victim):
    """A run with a checkpoint after each iteration; `gramstyle resume` follows a kill."""

    name = "transfer, resume"

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def command(self, folder: Path) -> Arguments:
        """See `Victim`."""
        scene = self._scene
        return [
            *("transfer", scene.photo, scene.style, "-o", folder / "out.png", "--quiet"),
            *("--model", scene.model, "--engine", "numpy", "--threads", "1", "--size", "48"),
            *("--iterations", str(ITERATIONS), "--checkpoint", folder / "saved", "--every", "1"),
        ]

    def again(self, folder: Path) -> Arguments:
        """See `Victim`."""
        if (folder / "saved" / "manifest.json").exists():
            return ["resume", folder / "saved", "-o", folder / "out.png", "--quiet"]
        return self.command(folder)  # it was killed before it had saved anything

    def outputs(self, folder: Path) -> Made:
        """See `Victim`."""
        return _pixels(folder / "out.png")

    def made(self, folder: Path) -> Made:
        """See `Victim`."""
        (state,) = (folder / "saved").glob("state-*.npz")
        with np.load(state) as arrays:
            made = {name: arrays[name] for name in arrays.files}
        made["losses"][:, COLUMNS.index("seconds")] = 0
        hashes = {name: _hash(array.tobytes()) for name, array in made.items()}
        return {**self.outputs(folder), **hashes}


class Batch(Victim):
    """Four jobs; the same command follows a kill."""

    name = "batch"

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def fill(self, folder: Path) -> None:
        """See `Victim`."""
        scene = self._scene
        shutil.copytree(scene.folder / "photos", folder / "photos")
        shutil.copy(scene.style, folder)
        shutil.copy(scene.jobs, folder)
        (folder / "out").mkdir()

    def command(self, folder: Path) -> Arguments:
        """See `Victim`."""
        return ["batch", folder / "jobs.toml", "--model", self._scene.model, "--quiet"]

    def outputs(self, folder: Path) -> Made:
        """See `Victim`."""
        images = [_pixels(folder / "out" / f"{letter}.png") for letter in PHOTOS]
        return {name: found for image in images for name, found in image.items()}


class Export(Victim):
    """The export of a torch file over an older model file; the same command follows a kill."""

    name = "model export"
    prepare = staticmethod(narrow)

    def __init__(self, scene: Scene) -> None:
        self._source = scene.folder / "export.pth"
        WEIGHTS_FORMATS["torch.pth"](self._source, chain())
        older = scene.folder / "older.onnx"
        write_network(older, seed=1)
        self._older = older.read_bytes()
        self.old = {"model.onnx": _hash(self._older)}

    def fill(self, folder: Path) -> None:
        """See `Victim`."""
        (folder / "model.onnx").write_bytes(self._older)

    def command(self, folder: Path) -> Arguments:
        """See `Victim`."""
        target = folder / "model.onnx"
        options = ("--precision", "float32", "--preprocess", "caffe")
        return ["model", "export", "--from", self._source, "--to", target, *options]

    def outputs(self, folder: Path) -> Made:
        """See `Victim`."""
        return {"model.onnx": _hash((folder / "model.onnx").read_bytes())}


def leftovers(folder: Path) -> int:
    """Return how many temporary files there are in a folder and its subfolders."""
    return sum(bool(TEMPORARY_NAME.fullmatch(path.name)) for path in folder.rglob("*"))


def _pixels(path: Path) -> Made:
    """Return the hash of an image's pixels; nothing if there is no image."""
    if not path.exists():
        return {}
    with PIL.Image.open(path) as image:
        return {path.name: _hash(image.tobytes())}


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
