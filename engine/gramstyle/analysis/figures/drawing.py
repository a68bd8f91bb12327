"""Draw a figure: a batch of its cells, and the sheet that shows them."""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import PIL.Image

from gramstyle.analysis.figures.layouts import Figure
from gramstyle.batch import (
    Change,
    Execute,
    Job,
    check_inputs,
    check_outputs,
    one_by_one,
    run_jobs,
    side_by_side,
)
from gramstyle.batch.render import Progress
from gramstyle.batch.reuse import read_output
from gramstyle.errors import GramstyleError
from gramstyle.images import to_pil
from gramstyle.model import load_model


def draw(
    figure: Figure,
    folder: Path,
    *,
    model: str | os.PathLike[str] | None = None,
    jobs: int = 1,
    on_change: Callable[[Change], None] | None = None,
    callback: Callable[[Job, Progress], None] | None = None,
) -> PIL.Image.Image:
    """Render the cells that are missing from the folder, and return the sheet of all cells.

    A cell is reused if it was rendered from the same images, options and network. If an error
    or Ctrl-C stops the figure, the finished cells remain.

    Parameters
    ----------
    figure
        From `reconstructions`, `tradeoff` or `styles`.
    folder
        The folder of the cells; it is created if it is missing.
    model
        As for `transfer`.
    jobs
        How many cells to render at once, each in its own process with its share of the cores.
        The images do not depend on it. A script that uses more than one must be importable: put
        its work under ``if __name__ == "__main__":``.
    on_change
        Called after every cell.
    callback
        Called after every iteration of a cell, if `jobs` is 1.

    Raises
    ------
    OptionError
        If `jobs` is below 1.
    GramstyleError
        The error that stopped a cell, with the cell's name.

    Examples
    --------
    >>> from pathlib import Path
    >>> from gramstyle import Options
    >>> from gramstyle.analysis.figures import draw, styles
    >>> options = Options(size=32, iterations=1)
    >>> figure = styles(Path("photo.jpg"), [Path("painting.jpg")], options)
    >>> sheet = draw(figure, Path("cells"))
    >>> sheet.save("figure2.png")
    """
    network = load_model(model).path
    execute: Execute = partial(side_by_side, model=network, at_once=jobs)
    if jobs == 1:
        execute = partial(one_by_one, model=network, callback=callback)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GramstyleError(f"cannot make the folder {folder}: {error.strerror}") from None
    cells = [replace(cell, output=folder / cell.output) for cell in figure.cells]
    # All are checked before the first begins, so that an unreadable image is found at once.
    check_outputs(cells)
    check_inputs(cells, network)

    def after_cell(change: Change) -> None:
        outcome = change.outcome
        if outcome.error is not None:
            raise type(outcome.error)(f"{outcome.job.label}: {outcome.reason}")
        if on_change is not None:
            on_change(change)

    run_jobs(cells, execute=execute, on_change=after_cell)
    return figure.compose({cell.name: to_pil(read_output(cell)) for cell in cells})
