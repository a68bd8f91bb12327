"""Work in child processes: results, errors, concurrency and termination."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

from gramstyle.errors import GramstyleError, OptionError
from gramstyle.system.processes import each_in_a_process


def count_running(item: tuple[Path, int]) -> int:
    """Return how many processes run this function at the moment."""
    folder, number = item
    mark = folder / str(number)
    mark.touch()
    time.sleep(0.1)
    running = len(list(folder.iterdir()))
    mark.unlink()
    return running


def end_in_some_way(how: str) -> str:
    match how:
        case "error":
            raise OptionError("7 is odd")
        case "memory":
            raise MemoryError
        case "exit":
            os._exit(7)
        case "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
        case "sleep":
            time.sleep(600)
    return f"{how} returned"


def test_each_item_is_processed_once_and_at_most_two_run_at_a_time(tmp_path: Path) -> None:
    items = [(tmp_path, number) for number in range(4)]
    found = dict(each_in_a_process(count_running, items, at_once=2))
    assert sorted(found) == items
    assert max(found.values()) <= 2  # type: ignore[type-var]


def test_results_errors_and_deaths_are_reported_and_ctrl_c_is_ignored() -> None:
    ways = ["nothing", "error", "memory", "exit", "interrupt"]
    found = dict(each_in_a_process(end_in_some_way, ways, at_once=3))
    assert found.pop("nothing") == "nothing returned"
    assert found.pop("interrupt") == "interrupt returned"  # the parent decides, not the child
    assert type(found["error"]) is OptionError
    assert all(isinstance(error, GramstyleError) for error in found.values())
    assert {how: str(error) for how, error in found.items()} == {
        "error": "7 is odd",
        "memory": "there is not enough memory; choose fewer --jobs",
        "exit": "its process ended with code 7; if memory is short, choose fewer --jobs",
    }


def test_processes_that_still_run_are_terminated_with_the_generator() -> None:
    others = set(multiprocessing.active_children())  # workers of a cluster that tests share
    results = each_in_a_process(end_in_some_way, ["nothing", "sleep"], at_once=2)
    assert next(results) == ("nothing", "nothing returned")
    assert set(multiprocessing.active_children()) - others
    results.close()
    assert set(multiprocessing.active_children()) <= others
