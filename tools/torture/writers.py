"""The commands that write files, for a disk that fills up under each of them."""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import PIL.Image

from gramstyle.system.files import TEMPORARY_NAME

from .commands import Arguments, narrow, run
from .from_tests import WEIGHTS_FORMATS, chain
from .scene import Scene, write_network

# The files in a folder: a hash of each by its name.
Snapshot = Mapping[str, str]

# Larger than the images of the other campaigns, so that an image takes several pages of memory.
SIZE = "64"
SECONDS = re.compile(rb'"seconds": [^,\n]+')


@dataclass(frozen=True)
class Writer:
    """A command whose outputs lie on a disk that fills up.

    Attributes
    ----------
    name
        What it is in the table.
    command
        Returns its arguments for the folder of the disk and another folder with room.
    old
        Files that it replaces, by their names on the disk.
    prepare
        Called in its process, if it is not None.
    codes
        The exit codes with which it may report the full disk.
    """

    name: str
    command: Callable[[Path, Path], Arguments]
    old: Mapping[str, Path] = field(default_factory=dict)
    prepare: Callable[[], None] | None = None
    codes: tuple[int, ...] = (2,)


def writers(scene: Scene) -> list[Writer]:
    """Return the commands; files that they read or replace are put into the scene's folder."""
    older = {suffix: _older_image(scene, suffix) for suffix in ("png", "jpg", "tif")}
    network, source = scene.folder / "older.onnx", scene.folder / "export.pth"
    # Smaller than what replaces it: a file that was overwritten in place would not fit.
    write_network(network, seed=1, precision="float16")
    WEIGHTS_FORMATS["torch.pth"](source, chain())
    jobs = _large_jobs(scene)

    def transfer(*more: Callable[[Path, Path], Path | str]) -> Callable[[Path, Path], Arguments]:
        return lambda disk, room: [*_transfer(scene), *(each(disk, room) for each in more)]

    def on_disk(name: str) -> Callable[[Path, Path], Path]:
        return lambda disk, _: disk / name

    def with_room(name: str) -> Callable[[Path, Path], Path]:
        return lambda _, room: room / name

    def word(text: str) -> Callable[[Path, Path], str]:
        return lambda _disk, _room: text

    images = [
        Writer(
            f"transfer -o {name}",
            transfer(word("-o"), on_disk(name)),
            {name: older[name.rpartition(".")[2]]},
        )
        for name in ("out.png", "out.jpg", "out.tif")
    ]
    return [
        *images,
        Writer("transfer, a new image", transfer(word("-o"), on_disk("out.png"))),
        Writer(
            "transfer --save-every 1",
            transfer(word("-o"), on_disk("out.png"), word("--save-every"), word("1")),
        ),
        Writer(
            "transfer --log",
            transfer(word("-o"), with_room("out.png"), word("--log"), on_disk("log.jsonl")),
        ),
        Writer(
            "transfer --checkpoint",
            transfer(
                *(word("-o"), with_room("out.png"), word("--checkpoint"), on_disk("saved")),
                *(word("--every"), word("1")),
            ),
        ),
        Writer(
            "batch --log",
            lambda disk, _: [
                *("batch", _placed(jobs, disk), "--model", scene.model, "--quiet"),
                *("--log", disk / "log.jsonl"),
            ],
            codes=(1, 2),
        ),
        Writer(
            "model export",
            lambda disk, _: [
                *("model", "export", "--from", source, "--to", disk / "model.onnx"),
                *("--precision", "float32", "--preprocess", "caffe"),
            ],
            {"model.onnx": network},
            narrow,
        ),
        Writer(
            "model normalise",
            lambda disk, _: [
                *("model", "normalise", scene.photo, "--to", disk / "model.onnx"),
                *("--model", scene.model, "--size", "48", "--threads", "1", "--quiet"),
            ],
            {"model.onnx": network},
        ),
        Writer(
            "objective export",
            lambda disk, _: [
                *("objective", "export", "-o", disk / "objective.onnx", "--model", scene.model),
                *("--content", scene.photo, "--style", scene.style, "--size", "40x48"),
                *("--threads", "1"),
            ],
            {"objective.onnx": network},
        ),
        Writer(
            "trace --json",
            lambda disk, _: [
                *("trace", scene.photo, scene.style, "--model", scene.model, "--size", "48"),
                *("--threads", "1", "--json", disk / "trace.json"),
            ],
            {"trace.json": scene.jobs},
        ),
        Writer(
            "plot",
            lambda disk, _: ["plot", _losses(scene), "-o", disk / "plot.png"],
            {"plot.png": older["png"]},
        ),
    ]


def snapshot(scene: Scene, folder: Path) -> Snapshot:
    """Return what is in a folder; raise if a file is not whole."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if name == "saved":
            found[name] = _saved(scene, path)
        elif path.is_file():
            found[name] = "see its folder" if name.startswith("saved/") else _content(path)
    return found


def _content(path: Path) -> str:
    """Return what must be equal in two runs: pixels, not the times that an image states."""
    if path.suffix in (".png", ".jpg", ".tif"):
        with PIL.Image.open(path) as image:
            return _hash(image.tobytes())
    if path.suffix == ".jsonl":
        *lines, _cut = path.read_bytes().split(b"\n")
        for line in lines:
            json.loads(line)
        return "lines"
    if path.suffix == ".json":
        return _hash(SECONDS.sub(b"", path.read_bytes()))
    return _hash(path.read_bytes())


def _saved(scene: Scene, folder: Path) -> str:
    """Return the image to which a checkpoint leads; without one, the run must start again."""
    if left := [path.name for path in folder.rglob("*") if TEMPORARY_NAME.fullmatch(path.name)]:
        raise ValueError(f"the folder of the checkpoint has {left}")
    with tempfile.TemporaryDirectory() as copies:
        copy, image = Path(copies, "saved"), Path(copies, "resumed.png")
        shutil.copytree(folder, copy)
        if (copy / "manifest.json").exists():
            ended = run(["resume", copy, "-o", image, "--quiet"])
        else:
            ended = run([*_transfer(scene), "-o", image, "--checkpoint", copy, "--every", "1"])
        if ended.code or ended.errors:
            raise ValueError(f"the run cannot go on: {ended.errors}")
        return _content(image)


def _transfer(scene: Scene) -> Arguments:
    return [
        *("transfer", scene.photo, scene.style, "--model", scene.model, "--engine", "numpy"),
        *("--threads", "1", "--size", SIZE, "--iterations", "3", "--quiet"),
    ]


def _older_image(scene: Scene, suffix: str) -> Path:
    path = scene.folder / f"older.{suffix}"
    with PIL.Image.open(scene.style) as image:
        image.save(path)
    return path


def _losses(scene: Scene) -> Path:
    """Return the log of a run, which is done once."""
    path = scene.folder / "losses.jsonl"
    if not path.exists():
        run([*_transfer(scene), "-o", scene.folder / "spare.png", "--log", path])
    return path


def _large_jobs(scene: Scene) -> str:
    text = scene.jobs.read_text(encoding="utf-8").replace("size = 48", f"size = {SIZE}")
    return text.replace('"photos', f'"{scene.folder}/photos').replace(
        '"style', f'"{scene.folder}/style'
    )


def _placed(jobs: str, disk: Path) -> Path:
    """Write a jobs file whose outputs lie on a disk, beside it, and return its path."""
    path = disk.with_suffix(".toml")
    path.write_text(jobs.replace('"out/', f'"{disk}/'), encoding="utf-8")
    return path


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
