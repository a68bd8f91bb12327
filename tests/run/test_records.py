"""Records read back: what a run wrote, what a stopped run left, and what nobody should send."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gramstyle.core.objective import Weights
from gramstyle.run import records
from gramstyle.run.log import RunLog
from gramstyle.run.records import Point, RecordError, read_record
from gramstyle.run.transfer import Losses, Stage

START: dict[str, Any] = {
    "event": "start",
    "alpha": 0.25,
    "beta": 2.0,
    "style_layers": ["conv1_1", "conv2_1"],
    "style_weights": [0.5, 4],
}
ITERATION: dict[str, Any] = {
    "event": "iteration",
    "iteration": 1,
    "evaluations": 2,
    "seconds": 0.5,
    "loss": 31.0,
    "content": 20.0,
    "style": {"conv1_1": 2.0, "conv2_1": 3.0},
    "style_loss": 13.0,
}
# Of a run through one size, which its record does not tell of.
STAGE = Stage(
    number=0,
    of=1,
    width=8,
    height=8,
    iterations=2,
    history=10,
    weights=Weights(alpha=0.25, beta=2.0, w={"conv1_1": 0.5, "conv2_1": 4.0}),
    iterated=0,
    evaluated=0,
    began=0.0,
    ahead=0.0,
    total=2,
)
LATER = {**ITERATION, "iteration": 2, "seconds": 1.0, "loss": 10}
END = {"event": "end", "iterations": 2}


def text(*entries: object) -> str:
    return "".join(json.dumps(entry) + "\n" for entry in entries)


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "run.jsonl"


def test_what_a_run_logs_comes_back_times_its_weights(record: Path) -> None:
    with RunLog(record) as log:
        log.start({key: value for key, value in START.items() if key != "event"})
        for number in (1, 2):
            log.iteration(
                Losses(
                    iteration=number,
                    evaluations=number,
                    seconds=0.5 * number,
                    loss=31.0 / number,
                    content=20.0,
                    style={"conv1_1": 2.0, "conv2_1": 3.0},
                    style_loss=13.0,
                ),
                STAGE,
            )
        log.end({"iterations": 2})
    first, second = read_record(record)
    assert first == Point(
        iteration=1,
        seconds=0.5,
        total=31.0,
        content=5.0,
        style=26.0,
        layers={"conv1_1": 2.0, "conv2_1": 24.0},
    )
    assert first.total == first.content + first.style
    assert first.style == sum(first.layers.values())
    assert (second.iteration, second.seconds, second.total) == (2, 1.0, 15.5)


def test_a_run_without_a_painting_has_no_layers(record: Path) -> None:
    start = {**START, "beta": 0.0, "style_weights": []}
    record.write_text(text(start, {**ITERATION, "style": {}, "style_loss": 0.0}))
    (point,) = read_record(record)
    assert (point.content, point.style, point.layers) == (5.0, 0.0, {})


def test_a_record_that_was_cut_anywhere_gives_what_is_whole_before_the_cut(record: Path) -> None:
    whole = text(START, ITERATION, LATER, END).encode()
    record.write_bytes(whole)
    points = read_record(record)
    assert len(points) == 2
    ends = [match.end() for match in re.finditer(rb"\n", whole)]
    for cut in range(len(whole)):
        record.write_bytes(whole[:cut])
        # A line that lacks its break alone is whole.
        complete = sum(cut >= end - 1 for end in ends[1:3])
        if complete:
            assert read_record(record) == points[:complete], cut
        else:
            with pytest.raises(RecordError):
                read_record(record)


def changed(entry: dict[str, Any], **values: object) -> dict[str, Any]:
    return {**entry, **values}


def without(entry: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in entry.items() if k != key}


NESTED = "[" * 100_000
BAD_STARTS = [
    "",
    "\n",
    "\x00\xff\x00binary",
    "{}\n",
    "[]\n",
    "1\n",
    NESTED,
    NESTED + "\n",
    '{"event": ' + NESTED + "\n",
    text(ITERATION),
    text(without(START, "alpha")),
    text(changed(START, alpha=None)),
    text(changed(START, alpha="1")),
    text(changed(START, alpha=True)),
    text(changed(START, alpha=-1)),
    text(changed(START, alpha=10**200)),
    text(START).replace("0.25", "1e999"),
    text(START).replace("0.25", "1" * 5000),
    text(changed(START, beta=float("nan"))),
    text(changed(START, style_layers="conv1_1")),
    text(changed(START, style_layers=None)),
    text(changed(START, style_layers=["conv1_1", "conv1_1"])),
    text(changed(START, style_layers=["conv1_1", 5])),
    text(changed(START, style_layers=["conv1_1", "$x$"])),
    text(changed(START, style_layers=["conv1_1", "a\nb"])),
    text(changed(START, style_layers=["conv1_1", "x" * 101])),
    text(changed(START, style_layers=[["conv1_1"], "x"])),
    text(changed(START, style_weights=[1])),
    text(changed(START, style_weights=[1, float("inf")])),
    text(changed(START, style_weights={"conv1_1": 1})),
    text(changed(START, style_layers=[f"l{n}" for n in range(33)], style_weights=[1] * 33)),
]


@pytest.mark.parametrize("content", BAD_STARTS, ids=lambda content: content[:60])
def test_a_file_that_does_not_start_as_a_record_is_refused_at_line_1(
    record: Path, content: str
) -> None:
    more = text(ITERATION) if content.endswith("}\n") else ""  # which would be fine
    record.write_bytes(content.encode("latin-1") + more.encode())
    with pytest.raises(RecordError, match=r"run\.jsonl, line 1: [^\n]+$"):
        read_record(record)


BAD_ITERATIONS = [
    text(changed(ITERATION, evaluations=float("nan"))),
    "nonsense\n",
    "\n",
    "\xff\xfe\n",
    "[1]\n",
    NESTED + "\n",
    '{"event": "iteration", "loss": NaN',
    text(START),
    text(changed(ITERATION, event="pause")),
    text(without(ITERATION, "event")),
    text(changed(ITERATION, iteration=-1)),
    text(changed(ITERATION, iteration=1.5)),
    text(changed(ITERATION, iteration=1.0)),
    text(changed(ITERATION, iteration=True)),
    text(changed(ITERATION, iteration="1")),
    text(changed(ITERATION, iteration=10**400)),
    text(changed(ITERATION, seconds=float("nan"))),
    text(changed(ITERATION, seconds=-0.1)),
    text(changed(ITERATION, loss=float("inf"))),
    text(changed(ITERATION, loss=float("-inf"))),
    text(changed(ITERATION, loss=-1e-9)),
    text(changed(ITERATION, loss=1e61)),
    text(changed(ITERATION, loss=[1])),
    text(without(ITERATION, "loss")),
    text(without(ITERATION, "content")),
    text(without(ITERATION, "style_loss")),
    text(without(ITERATION, "seconds")),
    text(without(ITERATION, "style")),
    text(changed(ITERATION, style=[1.0, 2.0])),
    text(changed(ITERATION, style={"conv1_1": 1.0})),
    text(changed(ITERATION, style={"conv1_1": 1.0, "conv2_1": 1.0, "conv3_1": 1.0})),
    text(changed(ITERATION, style={"conv1_1": 1.0, "conv2_1": {}})),
    text(changed(ITERATION, style={"conv1_1": 1.0, "conv2_1": float("nan")})),
    text(END),
    text({"event": ["iteration"]}),
]


@pytest.mark.parametrize("content", BAD_ITERATIONS, ids=lambda content: content[:80])
def test_a_bad_line_after_the_start_is_refused_with_its_number(record: Path, content: str) -> None:
    record.write_bytes((text(START) + content).encode("latin-1"))
    with pytest.raises(RecordError, match=r"run\.jsonl, line 2: [^\n]+$"):
        read_record(record)


@pytest.mark.parametrize(
    "last",
    [
        ITERATION,
        changed(LATER, iteration=1),
        changed(LATER, seconds=0.4),
        START,
        {"event": "iteration"},
    ],
)
def test_a_third_line_that_does_not_follow_the_second_is_refused(
    record: Path, last: dict[str, Any]
) -> None:
    record.write_text(text(START, ITERATION, last))
    with pytest.raises(RecordError, match=r"line 3: "):
        read_record(record)


def test_only_a_line_without_a_break_is_taken_for_one_that_was_cut(record: Path) -> None:
    cut = text(LATER)[:30]
    record.write_text(text(START, ITERATION) + cut)
    assert len(read_record(record)) == 1
    record.write_text(text(START, ITERATION) + cut + "\n")
    with pytest.raises(RecordError, match="line 3: it is not JSON"):
        read_record(record)


@pytest.mark.parametrize("extra", [LATER, END, START, {}])
def test_nothing_may_follow_the_end(record: Path, extra: dict[str, Any]) -> None:
    record.write_text(text(START, ITERATION, END, extra))
    with pytest.raises(RecordError, match="line 4: there is more after the end"):
        read_record(record)


def test_files_lines_and_counts_beyond_a_record_s_are_refused(
    record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = text(START, ITERATION, LATER)
    record.write_text(content)
    with monkeypatch.context() as limits:
        limits.setattr(records, "MAX_BYTES", len(content) - 1)
        with pytest.raises(RecordError, match="larger than"):
            read_record(record)
        limits.setattr(records, "MAX_BYTES", len(content))
        limits.setattr(records, "MAX_ENTRIES", 2)
        with pytest.raises(RecordError, match="line 3: there are more than 2 lines"):
            read_record(record)
        limits.setattr(records, "MAX_ENTRIES", 3)
        limits.setattr(records, "MAX_LINE", len(text(ITERATION)) - 1)
        with pytest.raises(RecordError, match="line 2: it is longer"):
            read_record(record)
    assert len(read_record(record)) == 2


@pytest.mark.parametrize("place", ["nowhere.jsonl", "."])
def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, place: str) -> None:
    with pytest.raises(RecordError, match=r"^cannot read .*[^\n]$"):
        read_record(tmp_path / place)


def test_a_device_without_an_end_is_read_up_to_the_limit_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    zeros = Path("/dev/zero")
    if not zeros.exists():
        pytest.skip("there is no /dev/zero on this system")
    monkeypatch.setattr(records, "MAX_BYTES", 10_000)
    with pytest.raises(RecordError, match="larger than"):
        read_record(zeros)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
entries = st.sampled_from([START, ITERATION, LATER, END])
damaged = st.builds(
    lambda entry, key, value: {**entry, key: value},
    entries,
    st.sampled_from(sorted({*START, *ITERATION})),
    junk,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(entries | damaged | junk, max_size=4), st.binary(max_size=20), st.booleans())
def test_whatever_a_file_holds_it_is_points_or_one_line(
    record: Path, lines: list[object], tail: bytes, begun: bool
) -> None:
    record.write_bytes((text(START) if begun else "").encode() + text(*lines).encode() + tail)
    problem = ""
    points: tuple[Point, ...] = ()
    try:
        points = read_record(record)
    except RecordError as error:
        problem = str(error)
    # One of the two, never both or neither.
    assert bool(points) != bool(re.fullmatch(r".*run\.jsonl, line \d+: .+", problem))
    assert all(0 <= point.total <= records.MAX_NUMBER for point in points)
    assert [p.iteration for p in points] == sorted({p.iteration for p in points})
