"""Encode a video frame by frame. The only module that imports PyAV (the package av)."""

import io
from typing import Any, NamedTuple

import numpy as np
import PIL.Image

from gramstyle.errors import ImageError
from gramstyle.system.installing import remedy

FRAMES_PER_SECOND = 25
# FFmpeg's number for the matrix and the primaries of BT.709, which players assume for HD video.
_BT709 = 1


class Codec(NamedTuple):
    """A video codec: FFmpeg's names of the container and of the encoder, and its options."""

    container: str
    encoder: str
    options: dict[str, str]


# Constant quality (crf): a video is as long as its content needs, and every frame looks alike.
# A short lookahead keeps few frames in memory.
CODECS = {
    ".mp4": Codec("mp4", "libx264", {"crf": "18", "rc-lookahead": "10"}),
    ".webm": Codec("webm", "libvpx-vp9", {"crf": "24", "b": "0", "lag-in-frames": "10"}),
}


def load_av() -> Any:
    """Return PyAV; raises ImageError with the command that installs it."""
    try:
        import av
    except ImportError as error:
        raise ImageError(
            f"a video needs PyAV ({error}); {remedy('video', error)}, or name a .gif or .webp file"
        ) from None
    return av


class VideoEncoder:
    """Encodes frames of one size in memory, with the pixel format yuv420p, colours of BT.709.

    Parameters
    ----------
    suffix
        The suffix of the file: one of `CODECS`.
    width, height
        The size of every frame in pixels, both even.

    Raises
    ------
    ImageError
        If PyAV is missing, or lacks the encoder.
    """

    def __init__(self, suffix: str, width: int, height: int) -> None:
        self._av, codec = load_av(), CODECS[suffix]
        self._data, self._count = io.BytesIO(), 0
        try:
            self._container = self._av.open(self._data, "w", format=codec.container)
            stream = self._container.add_stream(
                codec.encoder, rate=FRAMES_PER_SECOND, options=dict(codec.options)
            )
        except self._errors as error:
            raise ImageError(
                f"PyAV cannot encode {suffix} here ({error}); name a .gif or .webp file"
            ) from None
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = self._av.video.reformatter.ColorRange.MPEG
        self._stream = stream

    def add(self, image: PIL.Image.Image) -> None:
        """Encode an RGB image as the next frame; raises ImageError if that fails."""
        frame = self._av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts, self._count = self._count, self._count + 1
        self._encode(frame)

    def finish(self) -> bytes:
        """Return the bytes of the video; no frame can be added afterwards."""
        self._encode(None)
        self._container.close()
        return self._data.getvalue()

    def _encode(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except self._errors as error:
            raise ImageError(f"a frame of the video cannot be encoded ({error})") from None

    @property
    def _errors(self) -> tuple[type[Exception], ...]:
        """What PyAV raises: FFmpeg's errors, and those of an unknown encoder or size."""
        return (self._av.FFmpegError, ValueError)
