"""`--record`: the animation of a run, whether it ends, is stopped, fails or is resumed."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from gramstyle.cli import main
from gramstyle.cli.running import performing as running
from gramstyle.errors import ImageError
from gramstyle.images.animation import Animation

pytest.importorskip("av")


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    for name in ("photo", "painting"):
        pixels = rng.integers(0, 256, (36, 48, 3)).astype(np.uint8)
        PIL.Image.fromarray(pixels).resize((48, 36)).save(tmp_path / f"{name}.png")
    return tmp_path


def command(folder: Path, model: Path, record: str, *more: str) -> list[str]:
    images = [str(folder / f"{name}.png") for name in ("photo", "painting")]
    how = ["--model", str(model), "--quiet", "--size", "48", "--iterations", "4"]
    files = ["-o", str(folder / "out.png"), "--record", str(folder / record)]
    return ["transfer", *images, *files, *how, *more]


def count_and_last(path: Path) -> tuple[int, Any]:
    """The number of frames, and the last one as RGB."""
    import av

    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    last = frames[-1].reformat(format="rgb24", src_colorspace="ITU709", src_color_range="MPEG")
    return len(frames), last.to_ndarray().astype(float)


@pytest.mark.parametrize("name", ["run.mp4", "run.webm"])
def test_a_video_has_the_iterates_and_ends_with_the_result(
    name: str, folder: Path, tiny_model_path: Path
) -> None:
    scales = ["--scales", "2", "--iterations", "4", "--size", "64"]
    assert main(command(folder, tiny_model_path, name, *scales)) == 0
    count, last = count_and_last(folder / name)
    assert count == 4 + 4 + 1
    result = np.asarray(PIL.Image.open(folder / "out.png")).astype(float)
    assert last.shape == result.shape == (48, 64, 3)
    # The brightness, which yuv420p stores for each pixel: an image of noise, coded with loss.
    weights = np.array([0.2126, 0.7152, 0.0722])
    assert np.abs(last @ weights - result @ weights).mean() < 8
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["out.png", "painting.png", "photo.png", name]
    )


def test_a_gif_has_the_iterates_and_the_result(folder: Path, tiny_model_path: Path) -> None:
    assert main(command(folder, tiny_model_path, "run.gif")) == 0
    with PIL.Image.open(folder / "run.gif") as image:
        # The result is the last iterate, and Pillow joins equal frames.
        assert image.n_frames == 4  # type: ignore[attr-defined]


def test_the_image_is_the_same_with_and_without_an_animation(
    folder: Path, tiny_model_path: Path
) -> None:
    arguments = command(folder, tiny_model_path, "run.gif")
    at = arguments.index("--record")
    results = []
    for each in (arguments, [*arguments[:at], *arguments[at + 2 :]]):
        assert main(each) == 0
        results.append(np.asarray(PIL.Image.open(folder / "out.png")))
    np.testing.assert_array_equal(*results)


def stopped_after(monkeypatch: pytest.MonkeyPatch, iteration: int, error: BaseException) -> None:
    add = running.AnimationOutput.add

    def stop(self: Any, progress: Any) -> None:
        add(self, progress)
        if progress.losses.iteration == iteration:
            raise error

    monkeypatch.setattr(running.AnimationOutput, "add", stop)


@pytest.mark.parametrize("name", ["run.mp4", "run.gif"])
def test_a_stopped_run_writes_the_iterates_so_far(
    name: str,
    folder: Path,
    tiny_model_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stopped_after(monkeypatch, 3, KeyboardInterrupt())
    assert main(command(folder, tiny_model_path, name)) == 130
    (line,) = capsys.readouterr().err.splitlines()
    assert "The image of iteration 3 is in" in line
    assert f"The animation so far is in {folder / name}" in line
    if name == "run.mp4":
        assert count_and_last(folder / name)[0] == 3
    else:
        with PIL.Image.open(folder / name) as image:
            assert image.n_frames == 3  # type: ignore[attr-defined]


def test_a_run_out_of_memory_writes_the_iterates_so_far(
    folder: Path,
    tiny_model_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stopped_after(monkeypatch, 2, MemoryError())
    assert main(command(folder, tiny_model_path, "run.mp4")) == 2
    assert "The animation so far is in" in capsys.readouterr().err
    assert count_and_last(folder / "run.mp4")[0] == 2


def test_an_animation_that_cannot_be_written_leaves_the_image_and_the_older_file(
    folder: Path,
    tiny_model_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "run.gif").write_bytes(b"older")

    def full(self: Animation) -> None:
        raise ImageError("cannot write run.gif: No space left; nothing was written")

    monkeypatch.setattr(Animation, "save", full)
    assert main(command(folder, tiny_model_path, "run.gif")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot write run.gif" in line
    assert f"The finished image is in {folder / 'out.png'}" in line
    assert (folder / "run.gif").read_bytes() == b"older"
    assert (folder / "out.png").exists()


def test_a_resumed_run_records_the_iterations_from_there_on(
    folder: Path, tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = folder / "saved"
    with monkeypatch.context() as patch:
        stopped_after(patch, 3, KeyboardInterrupt())
        more = ("--checkpoint", str(saved), "--every", "1")
        assert main(command(folder, tiny_model_path, "run.mp4", *more)) == 130
    again = ["resume", str(saved), "-o", str(folder / "out.png"), "--quiet"]
    files = ["--model", str(tiny_model_path), "--record", str(folder / "rest.mp4")]
    assert main([*again, *files]) == 0
    first, rest = (count_and_last(folder / name)[0] for name in ("run.mp4", "rest.mp4"))
    assert (first, rest) == (3, 2)  # iterations 1 to 3; iteration 4 and the result


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ("run.avi", "an animation is a .mp4, .webm, .gif or .webp file"),
        ("out.webp", "--record"),
        ("log.gif", "is the log"),
    ],
)
def test_a_wrong_file_is_one_line_and_nothing_is_written(
    record: str,
    words: str,
    folder: Path,
    tiny_model_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = sorted(folder.iterdir())
    arguments = command(folder, tiny_model_path, record, "--log", str(folder / "log.gif"))
    arguments[arguments.index("-o") + 1] = str(folder / "out.webp")
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert sorted(folder.iterdir()) == before


def test_without_pyav_the_command_says_what_to_install(
    folder: Path,
    tiny_model_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    assert main(command(folder, tiny_model_path, "run.webm")) == 2
    assert "a video needs PyAV" in capsys.readouterr().err
    assert not (folder / "out.png").exists()
