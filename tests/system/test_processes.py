"""Work in processes: how many at a time, and how they end."""

import signal
from typing import Any

import pytest

from gramstyle.errors import GramstyleError, OptionError
from gramstyle.system import processes
from gramstyle.system.processes import each_in_a_process


def refuse_odd(number: int) -> int:
    if number % 2:
        raise OptionError(f"{number} is odd")
    return number // 2


def test_each_item_comes_with_what_came_of_it_and_an_error_keeps_its_kind() -> None:
    found = dict(each_in_a_process(refuse_odd, [2, 3, 8], at_once=2))
    assert (found[2], found[8]) == (1, 4)
    assert type(found[3]) is OptionError
    assert str(found[3]) == "3 is odd"


def test_no_more_than_asked_for_are_at_work_and_they_begin_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[int] = []
    working: set[int] = set()
    most = 0

    def start(_work: object, item: int) -> tuple[int, int]:
        nonlocal most
        begun.append(item)
        working.add(item)
        most = max(most, len(working))
        return item, item

    monkeypatch.setattr(processes, "_start", start)
    monkeypatch.setattr(processes, "wait", lambda pipes: pipes[:1])
    monkeypatch.setattr(processes, "_answer", lambda pipe, _process: working.remove(pipe))
    done = [item for item, _ in each_in_a_process(refuse_odd, range(5), at_once=2)]
    assert begun == [0, 1, 2, 3, 4]
    assert sorted(done) == begun
    assert most == 2


def test_what_is_at_work_when_nobody_waits_any_more_is_ended() -> None:
    ended: list[str] = []

    class Process:
        def terminate(self) -> None:
            ended.append("terminated")

        def join(self) -> None:
            ended.append("joined")

    class Pipe:
        def close(self) -> None:
            ended.append("closed")

    working: Any = {Pipe(): ("an item", Process())}
    with pytest.raises(KeyboardInterrupt), processes._ended(working):
        raise KeyboardInterrupt
    assert ended == ["terminated", "joined", "closed"]


class Answers(list[Any]):
    """The end of a pipe that keeps what is sent."""

    send = list.append


def test_a_process_leaves_ctrl_c_to_its_parent_and_says_when_memory_is_short() -> None:
    def work(_item: object) -> None:
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        raise MemoryError

    answers: Any = Answers()
    before = signal.getsignal(signal.SIGINT)
    try:
        processes._work(answers, work, None)
    finally:
        signal.signal(signal.SIGINT, before)
    (answer,) = answers
    assert isinstance(answer, GramstyleError)
    assert str(answer) == "there is not enough memory; choose fewer --jobs"
