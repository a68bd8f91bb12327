"""Animations: each format is decoded again and compared with the images that it was made of."""

import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from gramstyle.core.arrays import Array
from gramstyle.errors import ImageError
from gramstyle.images import animation, video
from gramstyle.images.animation import Animation, check_animation, frame_size

# Lossy coding of a smooth image: the mean difference in grey levels.
LOSSY = 4.0


def picture(number: int, width: int = 64, height: int = 48) -> PIL.Image.Image:
    """A smooth image whose colours depend on its number."""
    y, x = np.mgrid[:height, :width]
    planes = 3 * x, 4 * y, np.full(x.shape, 20 + 10 * number)
    return PIL.Image.fromarray(np.stack(planes, axis=-1).clip(0, 255).astype(np.uint8))


def frames_of(path: Path) -> list[Array]:
    """The frames of an animation, decoded, as RGB."""
    if path.suffix in (".mp4", ".webm"):
        av = pytest.importorskip("av")
        with av.open(str(path)) as container:
            decoded = (
                frame.reformat(format="rgb24", src_colorspace="ITU709", src_color_range="MPEG")
                for frame in container.decode(video=0)
            )
            return [frame.to_ndarray().astype(float) for frame in decoded]
    with PIL.Image.open(path) as image:
        found = []
        for number in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(number)
            found.append(np.asarray(image.convert("RGB")).astype(float))
        return found


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ".webp"])
def test_an_animation_has_one_frame_for_each_image_in_order(suffix: str, tmp_path: Path) -> None:
    made = Animation(tmp_path / f"run{suffix}", 64, 48)
    images = [picture(number) for number in range(5)]
    for image in images:
        made.add(image)
    made.save()
    found = frames_of(tmp_path / f"run{suffix}")
    assert len(found) == 5
    for frame, image in zip(found, images, strict=True):
        assert np.abs(frame - np.asarray(image)).mean() < LOSSY


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_images_of_other_sizes_are_resized_to_the_last_one(suffix: str, tmp_path: Path) -> None:
    made = Animation(tmp_path / f"run{suffix}", 65, 49)
    for size in ((16, 12), (33, 24), (65, 49)):
        made.add(picture(3, *size))
    made.save()
    expected = (48, 64, 3) if suffix == ".mp4" else (49, 65, 3)  # a video has even edges
    assert {frame.shape for frame in frames_of(tmp_path / f"run{suffix}")} == {expected}


def test_frames_of_large_images_are_reduced() -> None:
    assert frame_size(".mp4", 4000, 3000) == (1280, 960)
    assert frame_size(".webm", 1000, 9000) == (142, 1280)
    assert frame_size(".gif", 481, 300) == (480, 299)
    assert frame_size(".webp", 700, 3) == (700, 3)
    assert frame_size(".mp4", 1, 5) == (2, 4)


def test_a_long_gif_is_thinned_and_keeps_its_last_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(animation, "MOST_FRAMES", 6)
    made = Animation(tmp_path / "run.gif", 64, 48)
    images = [picture(number) for number in range(20)]
    for image in images:
        made.add(image)
    made.save()
    found = frames_of(tmp_path / "run.gif")
    # Every fourth one, and the last one.
    for frame, number in zip(found, (0, 4, 8, 12, 16, 19), strict=True):
        assert np.abs(frame - np.asarray(images[number])).mean() < LOSSY


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    made = Animation(tmp_path / "run.gif", 8, 8)
    made.add(PIL.Image.new("RGBA", (8, 8), (255, 0, 0, 0)))
    made.add(PIL.Image.new("RGBA", (8, 8), (255, 0, 0, 255)))
    made.save()
    first, second = frames_of(tmp_path / "run.gif")
    assert first.min() == 255
    assert second[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("run.avi", "an animation is a .mp4, .webm, .gif or .webp file"),
        ("run", "an animation is a .mp4, .webm, .gif or .webp file"),
        ("run.mpg", "did you mean .mp4?"),
        ("missing/run.gif", "there is no folder"),
        ("folder.gif", "it exists and is not a file"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_in_one_line(
    name: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / "folder.gif").mkdir()
    with pytest.raises(ImageError) as caught:
        check_animation(tmp_path / name)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_pyav_a_video_is_refused_in_one_line_and_a_gif_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        ImageError, match=r"needs PyAV .*install.* or name a \.gif or \.webp file"
    ) as e:
        check_animation(tmp_path / "run.mp4")
    assert "\n" not in str(e.value)
    check_animation(tmp_path / "run.gif")


def test_an_encoder_that_pyav_lacks_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(video.CODECS, ".mp4", video.Codec("mp4", "no_such_encoder", {}))
    with pytest.raises(ImageError, match=r"cannot encode \.mp4 here .*name a \.gif") as caught:
        Animation(tmp_path / "run.mp4", 8, 8)
    assert "\n" not in str(caught.value)
