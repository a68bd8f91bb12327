"""An animation of many images: a video, an animated GIF or an animated WebP."""

import io
from pathlib import Path

import PIL.Image

from gramstyle.errors import ImageError, suggestion
from gramstyle.images.colour.srgb import opaque
from gramstyle.images.image import fitted_size
from gramstyle.images.video import CODECS, VideoEncoder, load_av
from gramstyle.system.files import write_atomically
from gramstyle.system.replaceable import check_file

# The longer edge of a frame in pixels, at most. A video is for a screen, a GIF for a page.
LONGEST = {".mp4": 1280, ".webm": 1280, ".gif": 480, ".webp": 720}
# How many frames a GIF or a WebP has at most, and how long each is shown, in milliseconds. Their
# frames stay in memory until the end.
MOST_FRAMES, MILLISECONDS = 100, 50


def check_animation(path: Path) -> None:
    """Check, before the work, that an animation can be written to a file.

    Raises
    ------
    ImageError
        If its suffix is not one of `LONGEST`, PyAV is missing, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in LONGEST:
        known = tuple(LONGEST)
        raise ImageError(
            f"cannot write {path}: an animation is a {', '.join(known[:-1])} or {known[-1]} file"
            f"{suggestion(suffix, known)}"
        )
    if suffix in CODECS:
        load_av()
    check_file(path, error=ImageError)


def frame_size(suffix: str, width: int, height: int) -> tuple[int, int]:
    """Return the size of the frames for images of a size: even edges for a video.

    Parameters
    ----------
    suffix
        One of `LONGEST`, which has the longer edge at most.
    width, height
        The size of the images in pixels.
    """
    if max(width, height) > LONGEST[suffix]:
        width, height = fitted_size(width, height, LONGEST[suffix])
    if suffix in CODECS:  # yuv420p stores one colour for two by two pixels
        width, height = (max(2, edge // 2 * 2) for edge in (width, height))
    return width, height


class Animation:
    """An animation whose frames are added one by one, and which is written at the end.

    Parameters
    ----------
    path
        The file to write, as `check_animation` accepts it.
    width, height
        The size of the last image in pixels. Images of all sizes are resized to `frame_size`;
        transparent parts are white.
    """

    def __init__(self, path: Path, width: int, height: int) -> None:
        suffix = path.suffix.lower()
        self.path, self.size = path, frame_size(suffix, width, height)
        self.frames: _Frames | VideoEncoder
        self.frames = VideoEncoder(suffix, *self.size) if suffix in CODECS else _Frames(suffix)
        self.empty = True

    def add(self, image: PIL.Image.Image) -> None:
        """Add an image as the next frame; raises ImageError if it cannot be encoded."""
        self.frames.add(opaque(image).resize(self.size, PIL.Image.Resampling.LANCZOS))
        self.empty = False

    def save(self) -> None:
        """Write the file; raises ImageError if that fails. No frame can be added afterwards."""
        write_atomically(self.path, self.frames.finish(), error=ImageError)


class _Frames:
    """The frames of a GIF or a WebP: at most `MOST_FRAMES` of them, at equal distances.

    The last frame is always one of them.
    """

    def __init__(self, suffix: str) -> None:
        self._format = suffix[1:]
        self._kept: list[PIL.Image.Image] = []
        self._last: PIL.Image.Image | None = None
        self._step, self._count = 1, 0

    def add(self, image: PIL.Image.Image) -> None:
        """Keep every `step`-th image; double the step once there are too many."""
        if self._count % self._step == 0:
            self._kept.append(image)
            if len(self._kept) >= MOST_FRAMES:
                del self._kept[1::2]
                self._step *= 2
        self._last, self._count = image, self._count + 1

    def finish(self) -> bytes:
        """Return the bytes of the file."""
        frames = list(self._kept)
        if self._last is not None and frames[-1] is not self._last:
            frames.append(self._last)
        data = io.BytesIO()
        first, *others = frames
        how = {"quality": 85, "method": 4} if self._format == "webp" else {}
        first.save(
            data,
            self._format,
            save_all=True,
            append_images=others,
            duration=MILLISECONDS,
            loop=0,
            **how,
        )
        return data.getvalue()
