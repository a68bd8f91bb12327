"""One picture of a figure: what it is made from, whether it is there already, and making it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image

from gramstyle.errors import ImageError
from gramstyle.images import read_picture, read_settings, to_pil, write_picture
from gramstyle.log import RunLog
from gramstyle.options import Options
from gramstyle.prepare import plan, prepare
from gramstyle.transfer import Progress, run

# What a record says that does not change the picture.
ASIDE = ("program", "threads", "versions", "result")


@dataclass(frozen=True)
class Cell:
    """A transfer, or with one picture a reconstruction of it, under a name of its own."""

    name: str
    content: Path | None
    style: Path | None
    options: Options


@dataclass(frozen=True)
class Made:
    """What a callback is told about a cell.

    Attributes
    ----------
    name
        Of the cell.
    done, cells
        How many are finished with this one, and how many there are.
    kept
        Whether it was there already.
    """

    name: str
    done: int
    cells: int
    kept: bool


def picture_path(folder: Path, cell: Cell) -> Path:
    """Return where a cell's picture is kept; its record is beside it, as .jsonl."""
    return folder / f"{cell.name}.png"


def is_made(cell: Cell, folder: Path, model: Path) -> bool:
    """Check a cell's pictures and options; say whether the folder has it, made in the same way.

    Raises
    ------
    ImageError
        If a picture of that name is none of this program's; it is left alone.
    GramstyleError
        As `transfer` does.
    """
    planned = plan(cell.content, cell.style, cell.options, model=model)
    path = picture_path(folder, cell)
    return path.exists() and _same(_settings(path), planned.settings)


def make(
    cell: Cell, folder: Path, model: Path, *, callback: Callable[[Progress], None] | None = None
) -> None:
    """Make a cell and keep it in the folder.

    The record is written as the run goes, the picture whole at its end: where the picture is,
    the cell is finished.

    Raises
    ------
    GramstyleError
        As `transfer` does, and if the files cannot be written.
    """
    prepared = prepare(cell.content, cell.style, cell.options, model=model)
    path = picture_path(folder, cell)
    with RunLog(path.with_suffix(".jsonl")) as log:
        log.start(prepared.settings)

        def after_iteration(progress: Progress) -> None:
            log.iteration(progress.losses)
            if callback is not None:
                callback(progress)

        picture, record = run(prepared, callback=after_iteration)
        log.end(record.summary)
    settings = {**record.settings, "result": record.summary}
    write_picture(path, read_picture(picture), settings=settings)


def load(folder: Path, cell: Cell) -> PIL.Image.Image:
    """Return a finished cell's picture."""
    return to_pil(read_picture(picture_path(folder, cell)))


def _settings(path: Path) -> dict[str, Any]:
    settings = read_settings(path)
    if settings is None:
        raise ImageError(
            f"{path} is none of this figure's pictures and would be overwritten; move it away"
        )
    return settings


def _same(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Say whether two records describe the same run, as far as its picture depends on it."""
    plain = json.loads(json.dumps(dict(wanted)))
    names = (found.keys() | plain.keys()) - set(ASIDE)
    return all(name in found and name in plain and found[name] == plain[name] for name in names)
