"""Standard input as an image to read, and standard output as the image to write."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest

from gramstyle.cli import main, pipes

Run = Callable[..., int]
BinaryCapture = pytest.CaptureFixture[bytes]


def give(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Pass bytes to the standard input of the program."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


def pixels(source: Path | bytes) -> np.ndarray:
    with PIL.Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def test_an_image_in_and_an_image_out_through_pipes_is_the_one_from_and_to_files(
    transfer: Run, images: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: BinaryCapture
) -> None:
    assert transfer() == 0
    capsysbinary.readouterr()
    give(monkeypatch, (images / "photo.png").read_bytes())
    assert transfer(content="-", output="-") == 0
    out, err = capsysbinary.readouterr()
    np.testing.assert_array_equal(pixels(out), pixels(images / "out.png"))
    last = err.decode().splitlines()[-1]
    assert last.startswith("wrote standard output (32×24) after 3 iterations")


def test_a_reconstruction_reads_standard_input_too(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, (images / "painting.png").read_bytes())
    brief = ["--size", "32", "--iterations", "2", "--engine", "numpy"]
    assert main(["reconstruct", "content", "-", "-o", "out.png", *brief]) == 0
    assert (images / "out.png").exists()


def test_a_file_named_dash_is_a_file(
    transfer: Run, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    (images / "photo.png").rename(images / "-")
    assert transfer(content="./-") == 0


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "standard input is empty"),
        (b"not an image", "it is not an image of a known format"),
        (b"\x89PNG" + bytes(2000), "standard input has more than"),
        (None, "standard input is closed"),
    ],
)
def test_what_is_no_image_on_standard_input_is_one_line(
    transfer: Run,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    data: bytes | None,
    words: str,
) -> None:
    monkeypatch.setattr(pipes, "METADATA_BYTES", 1000)
    if data is None:
        monkeypatch.setattr(sys, "stdin", None)
    else:
        give(monkeypatch, data)
    assert transfer("--max-pixels", "100", content="-") == 2
    error = capsys.readouterr().err
    assert error.startswith("gramstyle: error: ")
    assert words in error
    assert error.count("\n") == 1
    assert not (images / "out.png").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        "transfer - - -o out.png",
        "transfer photo.png painting.png -o - --checkpoint saved",
        "transfer - painting.png -o out.png --checkpoint saved",
        "transfer photo.png painting.png -o - --save-every 2",
        "batch -",
        "trace - painting.png",
    ],
)
def test_standard_streams_are_refused_where_files_are_needed(
    images: Path, capsysbinary: BinaryCapture, arguments: str
) -> None:
    assert main(arguments.split()) == 2
    out, err = capsysbinary.readouterr()
    assert out == b""
    assert err.startswith(b"gramstyle: error: ")
    assert err.count(b"\n") == 1
    assert {path.name for path in images.iterdir()} <= {"photo.png", "painting.png"}


def test_an_image_is_not_written_to_a_terminal(
    transfer: Run, terminal: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transfer(output="-") == 2
    out, err = capsys.readouterr()
    assert (out, "is a terminal" in err) == ("", True)


def test_an_image_that_standard_output_does_not_take_is_saved_elsewhere(
    transfer: Run,
    spare: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Gone(io.BytesIO):
        def write(self, _data: object) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(Gone(), write_through=True))
    assert transfer("--quiet", output="-") == 2
    (kept,) = spare.iterdir()
    assert str(kept) in capsys.readouterr().err
    assert pixels(kept).shape == (24, 32, 3)
