"""Run work in child processes, several at a time; the children end with their parent."""

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
    """Process each item in a child process; yield items and results in the order they finish.

    A script that calls this must be importable: it calls it under
    ``if __name__ == "__main__":``.

    Parameters
    ----------
    work
        The function to call with an item. The function, the items and the results must be
        picklable.
    items
        The items, started in this order.
    at_once
        The number of processes that run at the same time; each processes one item.

    Yields
    ------
    tuple
        The item, and what `work` returned; or the GramstyleError that it raised, or one that
        reports that its process died.
    """
    waiting = list(reversed(items))
    working: dict[Connection, tuple[T, SpawnProcess]] = {}
    with _terminating(working):
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
    with interrupts_blocked():
        process.start()
    writer.close()  # the child has its own copy: when it dies, the reader sees the end of file
    return reader, process


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Block SIGINT and SIGHUP in this thread during the block, and in what it starts for good.

    A terminal sends them to the whole process group, and a child that is still importing would
    print a traceback or end. The parent handles the signal and terminates its children.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # starting the tracker later would unblock the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(answer: Connection, work: Callable[[T], R], item: T) -> None:
    """Process one item in a child process and send the result, or the error, to the parent."""
    # Where signals cannot be blocked before the start, ignore them from here on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore", RuntimeWarning)  # an overflow raises an error of its own
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        answer.send(work(item))
    except GramstyleError as error:
        answer.send(error)
    except MemoryError:
        answer.send(GramstyleError("there is not enough memory; choose fewer --jobs"))


def end_with_parent() -> None:
    """End this process when its parent ends, even if the parent is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _answer(pipe: Connection, process: SpawnProcess) -> R | GramstyleError:
    """Receive a child's result or error; report a child that died."""
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
def _terminating(working: dict[Connection, tuple[T, SpawnProcess]]) -> Iterator[None]:
    """Terminate the processes that still run at the end of the block."""
    try:
        yield
    finally:
        for _, process in working.values():
            process.terminate()
        for pipe, (_, process) in working.items():
            process.join()
            pipe.close()
