"""A whole figure: its missing cells one after the other, or several at once, then the sheet."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import PIL.Image

from gramstyle.analysis.figures.cells import Cell, Made, is_made, load, make
from gramstyle.analysis.figures.layouts import Figure
from gramstyle.errors import GramstyleError, OptionError
from gramstyle.model import locate_model
from gramstyle.run.transfer import Progress
from gramstyle.system.machine import available_threads
from gramstyle.system.processes import each_in_a_process


def draw(
    figure: Figure,
    folder: Path,
    *,
    model: str | os.PathLike[str] | None = None,
    jobs: int = 1,
    made: Callable[[Made], None] | None = None,
    callback: Callable[[str, Progress], None] | None = None,
) -> PIL.Image.Image:
    """Make the cells that a folder lacks, and lay all of them out.

    A cell that was made in the same way (same images, options and network) is kept; whatever
    stops this leaves the finished ones behind.

    Parameters
    ----------
    figure
        From `reconstructions`, `tradeoff` or `styles`.
    folder
        Where cells are kept; made if it is missing.
    model
        As for `transfer`.
    jobs
        How many cells to make at once, each in a process of its own with its share of the
        processor cores. The images do not depend on it. A script that asks for more than one
        must be importable: its work stands under ``if __name__ == "__main__":``.
    made
        Called after every cell.
    callback
        Called with the cell's name after every iteration, if `jobs` is 1.

    Raises
    ------
    OptionError
        If `jobs` is below 1.
    GramstyleError
        What stopped a cell, with the cell's name.
    """
    if jobs < 1:
        raise OptionError(f"jobs must be at least 1, not {jobs}")
    network = locate_model(model)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GramstyleError(f"cannot make the folder {folder}: {error.strerror}") from None
    # All are checked before any is made: a painting that cannot be read is found at once.
    kept: list[Cell] = []
    missing: list[Cell] = []
    for cell in figure.cells:
        with _named(cell):
            (kept if is_made(cell, folder, network) else missing).append(cell)
    finished = (
        _one_by_one(missing, folder, network, callback)
        if jobs == 1
        else _at_once(missing, folder, network, min(jobs, max(1, len(missing))))
    )
    for done, cell in enumerate(chain(kept, finished), start=1):
        if made is not None:
            made(Made(cell.name, done, len(figure.cells), kept=cell in kept))
    return figure.compose({cell.name: load(folder, cell) for cell in figure.cells})


def _one_by_one(
    cells: Sequence[Cell],
    folder: Path,
    model: Path,
    callback: Callable[[str, Progress], None] | None,
) -> Iterator[Cell]:
    for cell in cells:

        def after_iteration(progress: Progress, name: str = cell.name) -> None:
            if callback is not None:
                callback(name, progress)

        with _named(cell):
            make(cell, folder, model, callback=after_iteration)
        yield cell


def _at_once(cells: Sequence[Cell], folder: Path, model: Path, jobs: int) -> Iterator[Cell]:
    """Yield cells as they are finished, so many processes at work at a time."""
    given = {cell.name: cell for cell in cells}
    shared = [_with_share(cell, jobs) for cell in cells]
    work = partial(make, folder=folder, model=model)
    with closing(each_in_a_process(work, shared, at_once=jobs)) as finished:
        for cell, answer in finished:
            with _named(cell):
                if isinstance(answer, GramstyleError):
                    raise answer
            yield given[cell.name]


@contextmanager
def _named(cell: Cell) -> Iterator[None]:
    """Put a cell's name before what goes wrong with it."""
    try:
        yield
    except GramstyleError as error:
        raise type(error)(f"{cell.name}: {error}") from None


def _with_share(cell: Cell, jobs: int) -> Cell:
    """Return a cell that uses its share of the cores, unless it says how many."""
    if cell.options.threads is not None:
        return cell
    share = max(1, available_threads() // jobs)
    return replace(cell, options=replace(cell.options, threads=share))
