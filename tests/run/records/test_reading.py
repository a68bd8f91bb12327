"""Records of finished runs, of stopped runs, and hostile records."""

import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gramstyle.run.plan import ScalePlan
from gramstyle.run.progress import Losses
from gramstyle.run.records import reading as records
from gramstyle.run.records.log import RunLog
from gramstyle.run.records.reading import Point, RecordError, read_record
from gramstyle.run.settings import LossSettings, RunSettings

LOSS: dict[str, Any] = {
    "content": {"weight": 0.25, "layers": {"conv4_2": 1.0}},
    "style": {"weight": 2.0, "layers": {"conv1_1": 0.5, "conv2_1": 4}},
}
START: dict[str, Any] = {"event": "start", "loss": LOSS}
TERMS = {"content": 20.0, "style": 13.0}
LAYERS = {"content": {"conv4_2": 20.0}, "style": {"conv1_1": 2.0, "conv2_1": 3.0}}
ITERATION: dict[str, Any] = {
    "event": "iteration",
    "iteration": 1,
    "evaluations": 2,
    "seconds": 0.5,
    "loss": 31.0,
    "terms": TERMS,
    "layers": LAYERS,
}
SETTINGS = RunSettings(
    program="gramstyle",
    options={},
    given={},
    loss={name: LossSettings(each["weight"], each["layers"]) for name, each in LOSS.items()},
    content=None,
    styles=(),
    start=None,
    model={},
    sha256="",
    versions={},
)
LATER = {**ITERATION, "iteration": 2, "seconds": 1.0, "loss": 10}
END = {"event": "end", "iterations": 2}


def text(*entries: object) -> str:
    return "".join(json.dumps(entry) + "\n" for entry in entries)


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "run.jsonl"


def test_logged_losses_are_read_multiplied_by_their_weights(record: Path) -> None:
    with RunLog(record) as log:
        log.start(SETTINGS.to_json())
        for number in (1, 2):
            losses = Losses(
                iteration=number,
                evaluations=number,
                seconds=0.5 * number,
                loss=31.0 / number,
                terms=TERMS,
                layers=LAYERS,
            )
            # A record of a run of one scale does not mention the scale.
            log.iteration(losses, cast(ScalePlan, None), scales=1)
        log.end({"iterations": 2})
    first, second = read_record(record)
    assert first == Point(
        iteration=1,
        seconds=0.5,
        total=31.0,
        terms={"content": 5.0, "style": 26.0},
        layers={"content": {"conv4_2": 5.0}, "style": {"conv1_1": 2.0, "conv2_1": 24.0}},
    )
    assert first.total == sum(first.terms.values())
    assert first.terms["style"] == sum(first.layers["style"].values())
    assert (second.iteration, second.seconds, second.total) == (2, 1.0, 15.5)


def test_a_run_without_a_style_image_has_no_style_loss(record: Path) -> None:
    start = {"event": "start", "loss": {"content": LOSS["content"]}}
    only = {"terms": {"content": 20.0}, "layers": {"content": {"conv4_2": 20.0}}}
    record.write_text(text(start, {**ITERATION, **only}))
    (point,) = read_record(record)
    assert point.terms == {"content": 5.0}
    assert point.layers == {"content": {"conv4_2": 5.0}}


def test_a_scale_changes_the_weights(record: Path) -> None:
    scale = {"event": "scale", "scale": 0, "weights": {"content": 0.5, "style": 2.0}}
    record.write_text(text(START, scale, ITERATION))
    (point,) = read_record(record)
    assert point.terms == {"content": 10.0, "style": 26.0}


def test_a_record_truncated_anywhere_is_read_up_to_its_last_complete_line(record: Path) -> None:
    whole = text(START, ITERATION, LATER, END).encode()
    record.write_bytes(whole)
    points = read_record(record)
    assert len(points) == 2
    ends = [match.end() for match in re.finditer(rb"\n", whole)]
    for cut in range(len(whole)):
        record.write_bytes(whole[:cut])
        # A line that lacks only its line break is complete.
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


def with_loss(name: str, value: object = ..., **values: object) -> dict[str, Any]:
    """The start with another description of one loss."""
    given = {**LOSS[name], **values} if value is ... else value
    return {**START, "loss": {**LOSS, name: given}}


def with_layers(**values: object) -> dict[str, Any]:
    """The iteration with other values of the style layers."""
    return {**ITERATION, "layers": {**LAYERS, "style": values}}


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
    text(without(START, "loss")),
    text(with_loss("content", None)),
    text(with_loss("content", weight=None)),
    text(with_loss("content", weight="1")),
    text(with_loss("content", weight=True)),
    text(with_loss("content", weight=-1)),
    text(with_loss("content", weight=10**200)),
    text(START).replace("0.25", "1e999"),
    text(START).replace("0.25", "1" * 5000),
    text(with_loss("style", weight=float("nan"))),
    text(changed(START, loss="content")),
    text(changed(START, loss=None)),
    text(changed(START, loss=["content"])),
    text(changed(START, loss={"$x$": LOSS["content"]})),
    text(with_loss("style", layers=None)),
    text(with_loss("style", layers=["conv1_1", "conv2_1"])),
    text(with_loss("style", layers={"conv1_1": 1, "$x$": 1})),
    text(with_loss("style", layers={"conv1_1": 1, "a\nb": 1})),
    text(with_loss("style", layers={"conv1_1": 1, "x" * 101: 1})),
    text(with_loss("style", layers={"conv1_1": 1, "conv2_1": float("inf")})),
    text(with_loss("style", layers={"conv1_1": {}})),
    text(with_loss("style", layers={f"l{n}": 1 for n in range(33)})),
]


@pytest.mark.parametrize("content", BAD_STARTS, ids=lambda content: content[:60])
def test_a_file_that_does_not_begin_as_a_record_is_refused_at_line_1(
    record: Path, content: str
) -> None:
    more = text(ITERATION) if content.endswith("}\n") else ""  # valid lines after the invalid start
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
    text(without(ITERATION, "terms")),
    text(without(ITERATION, "layers")),
    text(without(ITERATION, "seconds")),
    text(changed(ITERATION, terms=[1.0, 2.0])),
    text(changed(ITERATION, terms={"content": 1.0})),
    text(changed(ITERATION, terms={"content": 1.0, "style": float("nan")})),
    text(changed(ITERATION, layers={"content": LAYERS["content"]})),
    text(changed(ITERATION, layers={**LAYERS, "tv": {}})),
    text(with_layers(conv1_1=1.0)),
    text(with_layers(conv1_1=1.0, conv2_1=1.0, conv3_1=1.0)),
    text(with_layers(conv1_1=1.0, conv2_1={})),
    text(with_layers(conv1_1=1.0, conv2_1=float("nan"))),
    text({"event": "scale"}),
    text({"event": "scale", "weights": {"content": 1.0}}),
    text({"event": "scale", "weights": {"content": 1.0, "style": -1.0}}),
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


def test_only_a_line_without_a_line_break_counts_as_truncated(record: Path) -> None:
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


def test_too_large_files_too_long_lines_and_too_many_lines_are_refused(
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


def test_an_endless_device_is_read_only_up_to_the_limit(
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


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(entries | damaged | junk, max_size=4), st.binary(max_size=20), st.booleans())
def test_any_file_gives_points_or_a_one_line_error(
    record: Path, lines: list[object], tail: bytes, begun: bool
) -> None:
    record.write_bytes((text(START) if begun else "").encode() + text(*lines).encode() + tail)
    problem = ""
    points: tuple[Point, ...] = ()
    try:
        points = read_record(record)
    except RecordError as error:
        problem = str(error)
    # Exactly one of the two.
    assert bool(points) != bool(re.fullmatch(r".*run\.jsonl, line \d+: .+", problem))
    assert all(0 <= point.total <= records.MAX_NUMBER for point in points)
    assert [p.iteration for p in points] == sorted({p.iteration for p in points})
