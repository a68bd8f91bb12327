"""Standard streams that fail: what only informs falls silent, and the work goes on."""

import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import PIL.Image
import pytest

from gramstyle.cli import main

Run = Callable[..., int]

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full on this system")


def without_reader() -> TextIO:
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w", encoding="utf-8")


def closed() -> TextIO:
    stream = io.StringIO()
    stream.close()
    return stream


def strict(encoding: str) -> TextIO:
    return io.TextIOWrapper(io.BytesIO(), encoding, errors="strict")


FAILING: dict[str, Callable[[], TextIO | None]] = {
    "full": lambda: FULL.open("w", encoding="utf-8"),
    "no reader": without_reader,
    "closed": closed,
    "closed from the start": lambda: None,
    "ASCII": lambda: strict("ascii"),
    "KOI8-R": lambda: strict("koi8-r"),
    "UTF-8": lambda: strict("utf-8"),
}


each_kind = pytest.mark.parametrize(
    "kind", [pytest.param(name, marks=needs_full if name == "full" else ()) for name in FAILING]
)


@contextmanager
def standard_streams(kind: str) -> Iterator[TextIO | None]:
    """Replace stdout and stderr; yield the latter. Not in a fixture, since pytest replaces them."""
    before = sys.stdout, sys.stderr
    streams = [FAILING[kind]() for _ in before]
    sys.stdout, sys.stderr = streams  # type: ignore[assignment]
    try:
        yield streams[1]
    finally:
        sys.stdout, sys.stderr = before
    for stream in streams:
        if stream is not None:
            stream.close()  # Python flushes streams at the end, which must not fail either


@each_kind
def test_a_run_ends_well_whatever_becomes_of_its_output(
    transfer: Run, images: Path, kind: str
) -> None:
    odd = images / os.fsdecode(b"photo-\xff\xd7.png")
    (images / "photo.png").rename(odd)
    with standard_streams(kind) as stream:
        assert transfer(content=odd.name, output="×.png") == 0
        if isinstance(stream, io.TextIOWrapper) and isinstance(stream.buffer, io.BytesIO):
            assert "iteration 3/3" in stream.buffer.getvalue().decode(stream.encoding)
    with PIL.Image.open(images / "×.png") as image:
        assert image.size == (32, 24)


@each_kind
def test_an_error_keeps_its_exit_code_and_leaves_no_traceback(transfer: Run, kind: str) -> None:
    with standard_streams(kind):
        assert transfer(content="nowhere-×.png") == 2


@pytest.mark.parametrize(
    ("command", "made"),
    [
        ("batch jobs.toml", "batch.png"),
        ("figure styles photo.png painting.png --size 32 --iterations 2 -o fig.png", "fig.png"),
        ("reconstruct style painting.png --size 32 --iterations 2 -o style.png", "style.png"),
        ("objective export --size 32x24 --content photo.png -o objective.onnx", "objective.onnx"),
        ("model normalise photo.png --size 32 --to normal.onnx", "normal.onnx"),
        ("conformance build cases", "cases"),
    ],
)
def test_no_command_needs_a_reader(
    images: Path, monkeypatch: pytest.MonkeyPatch, command: str, made: str
) -> None:
    (images / "jobs.toml").write_text(
        '[[jobs]]\nsize = 32\niterations = 2\ncontent = "photo.png"\nstyle = "painting.png"\n'
        'output = "batch.png"\n'
    )
    with without_reader() as out, without_reader() as err:
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        assert main(shlex.split(command)) == 0
    assert (images / made).exists()


ANSWERS = ["model info", "--help", "--version", "model fetch --help"]


def outcome(command: str) -> int:
    try:
        return main(shlex.split(command))
    except SystemExit as end:
        return int(end.code or 0)


@needs_full
@pytest.mark.parametrize("command", [*ANSWERS, "trace photo.png painting.png --size 32"])
def test_an_answer_that_cannot_be_written_is_an_error_in_one_line(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    with FULL.open("w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert outcome(command) == 2
    error = capsys.readouterr().err
    assert error.startswith("gramstyle: error: cannot write to standard output: No space left")
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", ANSWERS)
def test_a_reader_that_has_enough_ends_an_answer_silently(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    with without_reader() as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert outcome(command) == 141
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("encoding", ["ascii", "koi8-r", "iso8859-1"])
def test_help_in_a_narrow_encoding_shows_other_characters_as_escapes(
    monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding, errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    assert outcome("transfer --help-all") == 0
    text = stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert "--style-weights W,\\u2026" in text


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_a_program_without_streams_writes_no_messages_into_its_files(images: Path) -> None:
    # Libraries write messages to the descriptors 1 and 2, not to Python's streams.
    program = """
import contextlib, os, sys, threading, time
def complain():
    while True:
        for number in (1, 2):
            with contextlib.suppress(OSError):
                os.write(number, b"a message of a library\\n")
        time.sleep(0.001)
from gramstyle.cli import main
threading.Thread(target=complain, daemon=True).start()
sys.exit(main())
"""
    arguments = (
        "transfer photo.png painting.png -o out.png --log log "
        "--size 32 --iterations 2 --engine numpy"
    )
    shell = f"exec {shlex.join([sys.executable, '-c', program])} {arguments} >&- 2>&-"
    assert subprocess.run(["/bin/sh", "-c", shell], check=False).returncode == 0
    events = [json.loads(line)["event"] for line in (images / "log").read_text().splitlines()]
    assert events == ["start", "iteration", "iteration", "end"]
    with PIL.Image.open(images / "out.png") as image:
        assert image.size == (32, 24)


def test_control_codes_in_names_and_errors_are_shown_as_text(
    transfer: Run, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "\x1b]0;title\x07[red]:cat:\r\u202e"
    (images / "photo.png").rename(images / f"{code}.png")
    assert transfer(content=f"{code}.png", output=f"out{code}.png") == 0
    assert main(["model", "info", f"{code}.onnx"]) == 2
    assert main(["plot", f"{code}.jsonl", "-o", "plot.svg"]) == 2
    shown = "".join(capsys.readouterr())
    assert not set("\x1b\x07\r\u202e") & set(shown)
    assert r"\x1b]0;title\x07[red]:cat:\r\u202e" in shown
