"""A log has one writer at a time."""

import os
from pathlib import Path

import pytest

from gramstyle.errors import GramstyleError
from gramstyle.run.records.log import RunLog


def test_a_second_writer_is_refused_and_the_first_one_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with RunLog(path) as log:
        log.start({"a": 1})
        with pytest.raises(GramstyleError, match=f"process id {os.getpid()}.* is writing the log"):
            RunLog(path)
        log.end({})
    assert path.read_text().count("\n") == 2
    assert [each.name for each in tmp_path.iterdir()] == ["run.jsonl"]
    with RunLog(path):
        pass


def test_a_log_that_cannot_be_opened_leaves_no_lock(tmp_path: Path) -> None:
    (tmp_path / "run.jsonl").symlink_to(tmp_path / "nowhere/run.jsonl")
    with pytest.raises(GramstyleError, match="cannot write the log"):
        RunLog(tmp_path / "run.jsonl")
    assert [each.name for each in tmp_path.iterdir()] == ["run.jsonl"]


def test_a_device_may_have_many_writers() -> None:
    with RunLog(Path(os.devnull)) as one, RunLog(Path(os.devnull)) as other:
        one.end({})
        other.end({})
