"""The images and the model, which a run reads once, and the images at each scale."""

from dataclasses import dataclass, replace

from gramstyle.errors import OptionError
from gramstyle.images import Image, Source, fitted_size, read_image, resize
from gramstyle.model import Model
from gramstyle.run.options import Options, is_named_start
from gramstyle.system.machine import check_memory

# The least number of bytes that a run takes per pixel of the result: for the images while they are
# resized, or for the optimiser's vectors while tiles are computed.
BYTES_PER_PIXEL = 80


@dataclass(frozen=True, kw_only=True)
class ScaleImages:
    """The images at one scale; `content` or `style` may be missing.

    Attributes
    ----------
    custom
        The image to start from, if one is given.
    """

    content: Image | None
    style: Image | None
    custom: Image | None

    @property
    def canvas(self) -> Image:
        """The image that has the size of the result."""
        canvas = self.style if self.content is None else self.content
        assert canvas is not None  # noqa: S101 - a run has at least one image
        return canvas


@dataclass
class RunInputs:
    """The large inputs of a run, which the run releases once it has used them.

    Attributes
    ----------
    model
        The model; None once the engine has its weights.
    images
        The images of each scale; None once their targets are computed.
    """

    model: Model | None
    images: list[ScaleImages | None]

    def take_images(self, number: int) -> ScaleImages:
        """Return the images of a scale; release them and those of all earlier scales."""
        images = self.images[number]
        assert images is not None  # noqa: S101 - a scale is run once
        self.images[: number + 1] = [None] * (number + 1)
        return images

    def take_model(self) -> Model:
        """Return the model and release it."""
        model, self.model = self.model, None
        assert model is not None  # noqa: S101 - an engine is opened once
        return model


def read_originals(content: Source | None, style: Source | None, options: Options) -> ScaleImages:
    """Return the decoded images; raises ImageError or OptionError if one is bad or missing."""

    def read(source: Source, role: str) -> Image:
        return read_image(source, name=role, max_pixels=options.max_pixels)

    originals = ScaleImages(
        content=None if content is None else read(content, "content"),
        style=None if style is None else read(style, "style"),
        custom=None,
    )
    if content is None and style is None:
        raise OptionError("there is nothing to compare with; name a content or a style image")
    missing = {"content": content is None, "style": style is None}
    if not is_named_start(options.start):
        return replace(originals, custom=read(options.start, "init"))
    start = str(options.start)
    if missing.get(start, False):
        raise OptionError(f"there is no {start} image to start from; choose another --init")
    return originals


def scaled_to(originals: ScaleImages, edge: int) -> ScaleImages:
    """Return the images with a longer edge of so many pixels, each in its own aspect ratio."""

    def scaled(image: Image | None) -> Image | None:
        if image is None:
            return None
        width, height = fitted_size(image.width, image.height, edge)
        check_memory(width, height, bytes_per_pixel=BYTES_PER_PIXEL)
        return resize(image, width, height)

    images = ScaleImages(
        content=scaled(originals.content), style=scaled(originals.style), custom=None
    )
    if originals.custom is None:
        return images
    size = (images.canvas.width, images.canvas.height)
    return replace(images, custom=resize(originals.custom, *size))
