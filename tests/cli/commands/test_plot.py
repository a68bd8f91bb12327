"""`gramstyle plot`: records in, an image out, one-line errors."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cli.assertions import assert_one_line
from gramstyle.cli import main
from gramstyle.cli.commands import plot
from gramstyle.run.records.reading import Point

START = {
    "loss": {
        "content": {"weight": 1.0, "layers": {"conv4_2": 1.0}},
        "style": {"weight": 2.0, "layers": {"conv1_1": 3.0}},
    }
}
MAGIC = {".png": b"\x89PNG\r\n", ".svg": b"<?xml", ".pdf": b"%PDF-"}


def lines(*, iterations: int = 3, loss: float = 8.0) -> str:
    entries: list[dict[str, Any]] = [{"event": "start", **START}]
    for number in range(1, iterations + 1):
        terms = {"content": loss / 4, "style": loss * 3 / 8}
        layers = {"content": {"conv4_2": loss / 4}, "style": {"conv1_1": loss / 8}}
        losses = {"loss": loss, "terms": terms, "layers": layers}
        at = {"iteration": number, "seconds": float(number)}
        entries.append({"event": "iteration", **losses, **at})
    return "".join(json.dumps(entry) + "\n" for entry in entries)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with two records."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text(lines())
    (tmp_path / "b.jsonl").write_text(lines(iterations=2) + '{"event": "itera')
    return tmp_path


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Mapping[str, Sequence[Point]], Any]]:
    """The arguments of `loss_curves`, which draws nothing."""
    calls: list[tuple[Mapping[str, Sequence[Point]], Any]] = []

    def record(runs: Mapping[str, Sequence[Point]], **how: Any) -> bytes:
        calls.append((runs, how))
        return b"an image"

    monkeypatch.setattr(plot, "loss_curves", record)
    return calls


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".PNG"])
def test_records_are_drawn_into_an_image(
    folder: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    assert main(["plot", "a.jsonl", "b.jsonl", "-o", f"curves{suffix}"]) == 0
    assert capsys.readouterr() == (f"wrote curves{suffix} with 2 runs\n", "")
    assert (folder / f"curves{suffix}").read_bytes().startswith(MAGIC[suffix.lower()])
    assert {path.name for path in folder.iterdir()} == {"a.jsonl", "b.jsonl", f"curves{suffix}"}


def test_every_run_is_drawn_with_its_name_up_to_its_last_complete_line(
    folder: Path, drawn: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plot", "a.jsonl", "b.jsonl", "-o", "curves.svg", "--by", "seconds"]) == 0
    ((runs, how),) = drawn
    assert {name: len(points) for name, points in runs.items()} == {"a.jsonl": 3, "b.jsonl": 2}
    layers = {"content": {"conv4_2": 2.0}, "style": {"conv1_1": 6.0}}
    assert runs["a.jsonl"][0].layers == layers
    assert how == {"by": "seconds", "suffix": ".svg"}
    assert (folder / "curves.svg").read_bytes() == b"an image"


def test_a_name_includes_its_folder_only_if_two_are_equal(folder: Path, drawn: list[Any]) -> None:
    other = folder / "other" / "a.jsonl"
    other.parent.mkdir()
    other.write_text(lines())
    assert main(["plot", "other/a.jsonl", "-o", "curves.png"]) == 0
    assert main(["plot", "a.jsonl", "other/a.jsonl", "b.jsonl", "-o", "curves.png"]) == 0
    assert [list(runs) for runs, _ in drawn] == [
        ["a.jsonl"],
        ["a.jsonl", "other/a.jsonl", "b.jsonl"],
    ]


def test_an_existing_image_is_replaced(folder: Path, drawn: list[Any]) -> None:
    (folder / "curves.png").write_bytes(b"old")
    assert main(["plot", "a.jsonl", "-o", "curves.png"]) == 0
    assert (folder / "curves.png").read_bytes() == b"an image"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a.jsonl", "-o", "curves.bmp"), ("curves.bmp", ".png, .svg or .pdf")),
        (("a.jsonl", "-o", "curves"), ("curves", ".png, .svg or .pdf")),
        (("a.jsonl", "-o", "a.jsonl"), ("a.jsonl", ".png, .svg or .pdf")),
        (("a.jsonl", "-o", "no/curves.png"), ("no/curves.png", "no folder")),
        (("a.jsonl", "-o", "folder.png"), ("folder.png", "not a file")),
        (("no.jsonl", "-o", "curves.png"), ("no.jsonl",)),
        ((".", "-o", "curves.png"), ("cannot read .",)),
        (("a.jsonl", "bad.jsonl", "-o", "curves.png"), ("bad.jsonl, line 3", "NaN")),
        (("still.jsonl", "-o", "curves.png"), ("every loss is 0",)),
        (("a.jsonl", "begun.jsonl", "-o", "curves.png"), ("begun.jsonl, line 1",)),
    ],
)
def test_unusable_arguments_give_one_line_and_write_nothing(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    (folder / "bad.jsonl").write_text(
        lines(iterations=1) + lines(loss=float("nan")).splitlines()[2] + "\n"
    )
    (folder / "still.jsonl").write_text(lines(loss=0.0))
    (folder / "begun.jsonl").write_text(lines(iterations=0))
    (folder / "folder.png").mkdir()
    before = {path.name: path.is_file() and path.read_bytes() for path in folder.iterdir()}
    assert main(["plot", *arguments]) == 2
    assert_one_line(capsys, *words)
    after = {path.name: path.is_file() and path.read_bytes() for path in folder.iterdir()}
    assert after == before


@pytest.mark.parametrize("kind", ["itself", "link", "hard link"])
def test_a_record_is_never_overwritten_under_any_name(
    folder: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    record = folder / "record.png"
    record.write_text(lines())
    output = folder / ("record.png" if kind == "itself" else "other.png")
    if kind == "link":
        output.symlink_to(record)
    elif kind == "hard link":
        os.link(record, output)
    assert main(["plot", "a.jsonl", "record.png", "-o", output.name]) == 2
    assert_one_line(capsys, output.name, "overwrite a record")
    assert record.read_text() == lines()
    assert output.read_text() == lines()


def test_a_line_break_in_a_name_is_escaped_in_the_error(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a\nb.jsonl").write_text("junk\n")
    assert main(["plot", "a\nb.jsonl", "-o", "curves.png"]) == 2
    assert_one_line(capsys, r"a\nb.jsonl, line 1")


def test_without_matplotlib_the_error_says_what_to_install(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["plot", "a.jsonl", "-o", "curves.png"]) == 2
    assert_one_line(capsys, 'pip install "matplotlib>=')


@pytest.mark.parametrize("arguments", [(), ("a.jsonl",), ("a.jsonl", "-o", "x.png", "--by", "x")])
def test_an_invalid_command_line_gives_one_line_that_refers_to_the_help(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["plot", *arguments])
    assert stop.value.code == 2
    assert_one_line(capsys, "gramstyle plot --help")


def test_the_help_names_every_option_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["plot", "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for word in ("RECORD", "--output", ".png, .svg or .pdf", "--by", "(default iterations)"):
        assert word in text
