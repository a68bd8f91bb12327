"""Work in processes of its own, several at a time; whatever ends the parent ends them too."""

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import TypeVar

from gramstyle.errors import GramstyleError

T = TypeVar("T")
R = TypeVar("R")


def each_in_a_process(
    work: Callable[[T], R], items: Sequence[T], *, at_once: int
) -> Generator[tuple[T, R | GramstyleError], None, None]:
    """Yield items with what came of them, as they are finished.

    A script that calls this must be importable: its work stands under
    ``if __name__ == "__main__":``.

    Parameters
    ----------
    work
        What is done with an item. It, the items and the results cross between processes, so they
        must be what pickle knows.
    items
        Begun in this order.
    at_once
        How many processes are at work at a time; each does one item.

    Yields
    ------
    tuple
        The item, and what `work` returned; or the GramstyleError that it raised, or one that says
        that its process died.
    """
    waiting = list(reversed(items))
    working: dict[Connection, tuple[T, SpawnProcess]] = {}
    with _ended(working):
        while waiting or working:
            while waiting and len(working) < at_once:
                item = waiting.pop()
                pipe, process = _start(work, item)
                working[pipe] = item, process
            ready = wait(list(working))
            for pipe in [pipe for pipe in working if pipe in ready]:
                item, process = working.pop(pipe)
                yield item, _answer(pipe, process)


def _start(work: Callable[[T], R], item: T) -> tuple[Connection, SpawnProcess]:
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(writer, work, item), daemon=True)
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


def _work(answer: Connection, work: Callable[[T], R], item: T) -> None:
    """Do one item in a process of its own; send back what came of it."""
    # Where signals cannot be held back from the start, from here on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore", RuntimeWarning)  # what overflows is an error, and sent back
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        answer.send(work(item))
    except GramstyleError as error:
        answer.send(error)
    except MemoryError:
        answer.send(GramstyleError("there is not enough memory; choose fewer --jobs"))


def _end_with_parent() -> None:
    """End this process when its parent is gone, killed or not."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _answer(pipe: Connection, process: SpawnProcess) -> R | GramstyleError:
    """Take a process's answer."""
    try:
        answer: R | GramstyleError = pipe.recv()
    except EOFError:
        process.join()
        return GramstyleError(
            f"its process ended with code {process.exitcode}; if memory is short, choose fewer "
            "--jobs"
        )
    finally:
        pipe.close()
    process.join()
    return answer


@contextmanager
def _ended(working: dict[Connection, tuple[T, SpawnProcess]]) -> Iterator[None]:
    """End whatever is still at work when this is left."""
    try:
        yield
    finally:
        for _, process in working.values():
            process.terminate()
        for pipe, (_, process) in working.items():
            process.join()
            pipe.close()
