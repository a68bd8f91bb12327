"""One image of a figure: what it is made from, whether it is there already, and making it."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import PIL.Image

from gramstyle.errors import GramstyleError
from gramstyle.images import from_pil, read_image, to_pil, write_image
from gramstyle.run.log import RunLog
from gramstyle.run.options import Options
from gramstyle.run.prepare import plan, prepare
from gramstyle.run.reuse import find_made
from gramstyle.run.transfer import Progress, run


@dataclass(frozen=True)
class Cell:
    """A transfer, or with one image a reconstruction of it, under a name of its own."""

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


def image_path(folder: Path, cell: Cell) -> Path:
    """Return where a cell's image is kept; its record is beside it, as .jsonl."""
    return folder / f"{cell.name}.png"


def is_made(cell: Cell, folder: Path, model: Path) -> bool:
    """Check a cell's images and options; say whether the folder has it, made in the same way.

    Raises
    ------
    ImageError
        If an image of that name is no cell of this name; it is left alone.
    GramstyleError
        As `transfer` does, and if the cell could not be kept in the folder.
    """
    planned = plan(cell.content, cell.style, cell.options, model=model)
    path = image_path(folder, cell)
    try:
        if _record_path(path).is_dir():
            raise GramstyleError(f"{_record_path(path)} is a folder; move it away")
        if not path.exists():
            return False
    except OSError as error:
        raise GramstyleError(f"cannot use {path}: {error.strerror}") from None
    return find_made(path, planned, {"cell": cell.name}, owner="this figure") is not None


def make(
    cell: Cell, folder: Path, model: Path, *, callback: Callable[[Progress], None] | None = None
) -> None:
    """Make a cell and keep it in the folder.

    The record is written as the run goes, under a passing name, and both have their places at its
    end, the image last: where the image is, the cell is finished.

    Raises
    ------
    GramstyleError
        As `transfer` does, and if the files cannot be written.
    """
    prepared = prepare(cell.content, cell.style, cell.options, model=model)
    settings = {**prepared.settings, "cell": cell.name}
    path = image_path(folder, cell)
    # A name of its own: the same figure may be drawn twice at once.
    passing = path.with_name(f"{cell.name}-{secrets.token_hex(4)}.part.jsonl")
    try:
        with RunLog(passing) as log:
            log.start(settings)

            def after_iteration(progress: Progress) -> None:
                log.iteration(progress.losses, progress.stage)
                if callback is not None:
                    callback(progress)

            image, record = run(prepared, callback=after_iteration)
            log.end(record.summary)
        try:
            passing.replace(_record_path(path))
        except OSError as error:
            raise GramstyleError(f"cannot write {_record_path(path)}: {error.strerror}") from None
    finally:
        passing.unlink(missing_ok=True)
    write_image(path, from_pil(image), settings={**settings, "result": record.summary})


def load(folder: Path, cell: Cell) -> PIL.Image.Image:
    """Return a finished cell's image."""
    most = max(cell.options.max_pixels, cell.options.size**2)
    return to_pil(read_image(image_path(folder, cell), max_pixels=most))


def _record_path(image: Path) -> Path:
    return image.with_suffix(".jsonl")
