"""The colours of a result: what each scale compares with, and what turns an iterate into an image.

"style" compares with the images as they are. "content" compares luminances and gives the result the
chroma of the content image. "match" compares with style images in the content image's colours.
"""

from dataclasses import dataclass, replace

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.errors import OptionError
from gramstyle.images import Image
from gramstyle.images.colour.luminance import (
    Chroma,
    chroma_of,
    grey,
    luminance,
    matched,
    mean_and_deviation,
    with_chroma,
)
from gramstyle.images.colour.transport import recoloured, statistics_of
from gramstyle.images.strips import strips
from gramstyle.run.inputs import ScaleImages
from gramstyle.run.options import Options

# The bytes per pixel of the chroma that is stored until the end of a run.
CHROMA = 4


@dataclass(frozen=True, eq=False)
class Finishing:
    """What an iterate of a scale lacks to be an image.

    Attributes
    ----------
    transparency
        The content image's alpha, (H, W) float32, if it has one.
    chroma
        The content image's chroma, if the result has its colours.
    """

    transparency: Array | None = None
    chroma: Chroma | None = None

    def image(self, x: Array) -> Image:
        """Return an iterate x (3, H, W), 0..255, as an image."""
        pixels = x.transpose(1, 2, 0)
        if self.chroma is None:
            return Image(pixels.astype(np.float32), self.transparency)
        colours = np.empty(pixels.shape, np.float32)
        for top, bottom in strips(pixels.shape[1], pixels.shape[0]):
            luma = luminance(pixels[top:bottom].astype(np.float32))
            colours[top:bottom] = with_chroma(luma, self.chroma, top)
        return Image(colours, self.transparency)


def finishing_of(images: ScaleImages, options: Options) -> Finishing:
    """Return what the iterates of a scale lack, from its images as they were read."""
    if images.content is None:
        return Finishing()
    chroma = chroma_of(images.content) if options.colours == "content" else None
    return Finishing(images.content.alpha, chroma)


def in_colours(images: ScaleImages, options: Options) -> ScaleImages:
    """Return the images that a scale compares with, and starts from."""
    if options.colours == "style" or images.content is None:
        return images
    return _luminances(images) if options.colours == "content" else _matched(images)


def check_colours(options: Options, *, content: bool, style: bool) -> None:
    """Refuse colours that need an image which is missing; raises OptionError."""
    if options.colours != "style" and not (content and style):
        raise OptionError(
            f"colours {options.colours} needs a content image and a style image; leave --colours / "
            "colours out"
        )


def _luminances(images: ScaleImages) -> ScaleImages:
    """Return the luminances as grey images, the styles' like the content's in mean and deviation.

    Gatys, Bethge, Hertzmann, Shechtman, "Preserving Color in Neural Artistic Style Transfer", arXiv
    1606.05897, sections 3 and 4.
    """
    content = images.content
    assert content is not None  # noqa: S101 - the caller has checked it
    luma = luminance(content.pixels)
    mean, deviation = mean_and_deviation(luma)

    def like_content(style: Image) -> Image:
        return grey(matched(luminance(style.pixels), mean, deviation), style.alpha)

    first, custom = images.first_style, images.custom
    return replace(
        images,
        content=grey(luma, content.alpha),
        styles=tuple(replace(each, image=like_content(each.image)) for each in images.styles),
        custom=None if custom is None else grey(luminance(custom.pixels), custom.alpha),
        first_style=None if first is None else like_content(first),
    )


def _matched(images: ScaleImages) -> ScaleImages:
    """Return the images with the styles in the content's colours."""
    assert images.content is not None  # noqa: S101 - the caller has checked it
    statistics = statistics_of(images.content.pixels)

    def like_content(style: Image) -> Image:
        return Image(recoloured(style.pixels, statistics), style.alpha)

    first = images.first_style
    return replace(
        images,
        styles=tuple(replace(each, image=like_content(each.image)) for each in images.styles),
        first_style=None if first is None else like_content(first),
    )
