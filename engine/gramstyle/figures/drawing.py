"""A whole figure: its missing cells one after the other, or several at once, then the sheet."""

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import PIL.Image

from gramstyle.errors import GramstyleError, OptionError
from gramstyle.figures.cells import Cell, Made, is_made, load, make
from gramstyle.figures.layouts import Figure
from gramstyle.machine import available_threads
from gramstyle.model import locate_model
from gramstyle.transfer import Progress


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

    A cell that was made in the same way (same pictures, options and network) is kept; whatever
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
        processor cores. The pictures do not depend on it. A script that asks for more than one
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
    waiting = list(reversed(cells))
    working: dict[Connection, tuple[Cell, SpawnProcess]] = {}
    with _ended(working):
        while waiting or working:
            while waiting and len(working) < jobs:
                cell = waiting.pop()
                pipe, process = _start(_with_share(cell, jobs), folder, model)
                working[pipe] = cell, process
            ready = wait(list(working))
            for pipe in [pipe for pipe in working if pipe in ready]:
                cell, process = working.pop(pipe)
                with _named(cell):
                    _finish(pipe, process)
                yield cell


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


def _start(cell: Cell, folder: Path, model: Path) -> tuple[Connection, SpawnProcess]:
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(writer, cell, folder, model), daemon=True)
    with _deaf():
        process.start()
    writer.close()  # the child has the other end: when it dies, the reader sees the end of file
    return reader, process


@contextmanager
def _deaf() -> Iterator[None]:
    """Hold Ctrl-C back; a process that is started meanwhile never hears it.

    Ctrl-C reaches the whole group, and a child that is still importing would answer with a
    traceback. The parent decides, and ends its children.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # when it is started, it lifts the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(result: Connection, cell: Cell, folder: Path, model: Path) -> None:
    """Make one cell in a process of its own; send back None, or what went wrong."""
    # Where signals cannot be held back from the start, from here on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore", RuntimeWarning)  # what overflows is an error, and sent back
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        make(cell, folder, model)
    except GramstyleError as error:
        result.send((type(error), str(error)))
    except MemoryError:
        result.send((GramstyleError, "there is not enough memory; choose fewer --jobs"))
    else:
        result.send(None)


def _end_with_parent() -> None:
    """End this process when its parent is gone, killed or not."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _finish(pipe: Connection, process: SpawnProcess) -> None:
    """Take a process's answer, and raise what it says went wrong."""
    try:
        answer = pipe.recv()
    except EOFError:
        process.join()
        raise GramstyleError(
            f"its process ended with code {process.exitcode}; if memory is short, choose fewer "
            "--jobs"
        ) from None
    finally:
        pipe.close()
    process.join()
    if answer is not None:
        kind, reason = answer
        raise kind(reason)


@contextmanager
def _ended(working: dict[Connection, tuple[Cell, SpawnProcess]]) -> Iterator[None]:
    """End whatever is still at work when this is left."""
    try:
        yield
    finally:
        for _, process in working.values():
            process.terminate()
        for pipe, (_, process) in working.items():
            process.join()
            pipe.close()
