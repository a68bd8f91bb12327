"""A decoded image that is converted to floating point strip by strip, and its resampling."""

from dataclasses import dataclass

import numpy as np
import PIL.Image

from gramstyle.errors import OptionError
from gramstyle.images.encoding import NO_PRINT_DATA, PrintData
from gramstyle.images.image import Image, Plane
from gramstyle.images.orientation import Rows
from gramstyle.images.problems import explain_read_failure, raise_image_error
from gramstyle.images.strips import strips


@dataclass(frozen=True, slots=True, eq=False)
class Original:
    """A decoded image of a source, from which a run makes the images of its scales.

    A float32 image takes 12 or 16 bytes per pixel, a decoded one at most 4. An image that is
    needed only in a smaller size is therefore resized directly from this object.

    Attributes
    ----------
    width, height : int
        The size of the upright image in pixels.
    rows : callable
        Returns pixels and alpha, as those of an `Image`, of the rows from a first one to before
        another one.
    bytes : int
        The memory of the decoded pixels.
    start : str
        The beginning of error messages.
    print_data : PrintData
        The profile and the resolution that the file states.
    note : str
        What a message says about the image after its name, such as that some bits are not read;
        empty if there is nothing to say.

    Examples
    --------
    >>> from gramstyle.images import read_original
    >>> original = read_original("photo.jpg")
    >>> original.width, original.resized(32, 24).width
    (64, 32)
    """

    width: int
    height: int
    rows: Rows
    bytes: int
    start: str
    print_data: PrintData = NO_PRINT_DATA
    note: str = ""

    def image(self) -> Image:
        """Return the whole image in its own size; raises ImageError."""
        with raise_image_error(self.start, explain_read_failure):
            pixels = np.empty((self.height, self.width, 3), np.float32)
            alpha: Plane | None = None
            for top, bottom in strips(self.width, self.height):
                pixels[top:bottom], part = self.rows(top, bottom)
                if part is not None:
                    alpha = np.empty(pixels.shape[:2], np.float32) if alpha is None else alpha
                    alpha[top:bottom] = part
            return Image(pixels, alpha)

    def resized(self, width: int, height: int) -> Image:
        """Return the image in another size, as `resize`; raises ImageError, too."""
        if (width, height) == (self.width, self.height):
            return self.image()
        _check_size(width, height)
        with raise_image_error(self.start, explain_read_failure):
            return _resampled(self.rows, (self.width, self.height), (width, height))


def resize(image: Image, width: int, height: int) -> Image:
    """Resample an image with an antialiasing Lanczos filter, entirely in floating point.

    Colours need no weighting by alpha: compositing over white is linear in the premultiplied
    colour, so filtering pixels and alpha separately keeps them consistent.

    Parameters
    ----------
    image : Image
    width, height : int
        The new size in pixels.

    Returns
    -------
    Image
        The resampled image, clipped to 0..255, since the filter overshoots at edges. The same
        object if the size does not change.

    Raises
    ------
    OptionError
        If `width` or `height` is below 1.

    Examples
    --------
    >>> from gramstyle.images import read_image, resize
    >>> resize(read_image("photo.jpg"), 32, 24).height
    24
    """
    if (width, height) == (image.width, image.height):
        return image

    def rows(top: int, bottom: int) -> tuple[Plane, Plane | None]:
        alpha = None if image.alpha is None else image.alpha[top:bottom]
        return image.pixels[top:bottom], alpha

    _check_size(width, height)
    return _resampled(rows, (image.width, image.height), (width, height))


def _check_size(width: int, height: int) -> None:
    if min(width, height) < 1:
        msg = f"an image cannot be resized to {width} × {height}; give a size of at least 1 × 1"
        raise OptionError(msg)


def _resampled(rows: Rows, before: tuple[int, int], after: tuple[int, int]) -> Image:
    """Resample along the rows, strip by strip, then along the columns.

    Pillow does the same in one call: the results are equal to the last bit.
    """
    (old_width, old_height), (width, height) = before, after
    across: list[Plane] = []
    for top, bottom in strips(old_width, old_height):
        pixels, alpha = rows(top, bottom)
        planes = [*np.moveaxis(pixels, 2, 0), *([] if alpha is None else [alpha])]
        across = across or [np.empty((old_height, width), np.float32) for _ in planes]
        for target, plane in zip(across, planes, strict=True):
            target[top:bottom] = _lanczos(plane, width, bottom - top)
    red, green, blue, *opacity = [_lanczos(plane, width, height) for plane in across]
    return Image(
        np.clip(np.stack((red, green, blue), axis=-1), 0, 255),
        np.clip(opacity[0], 0, 1) if opacity else None,
    )


def _lanczos(plane: Plane, width: int, height: int) -> Plane:
    image = PIL.Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))  # Pillow's mode "F"
    return np.asarray(image.resize((width, height), PIL.Image.Resampling.LANCZOS))
