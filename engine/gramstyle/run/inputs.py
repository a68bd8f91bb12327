"""The images and the model, which a run reads once, and the images at each scale."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

from gramstyle.engines.cache import EngineCache
from gramstyle.errors import OptionError
from gramstyle.images import Image, Original, Source, fitted_size, read_original
from gramstyle.model import Model
from gramstyle.run.options import Options, is_named_start
from gramstyle.run.settings import name_of
from gramstyle.system.machine import check_memory, physical_memory

# The least number of bytes that a run takes per pixel of the result: for the images while they are
# resized, or for the optimiser's vectors while tiles are computed.
BYTES_PER_PIXEL = 80

# The fraction of the memory of the machine or the container that is the default budget.
DEFAULT_BUDGET = 0.75


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


@dataclass(frozen=True, kw_only=True)
class Originals:
    """The decoded images of a run in their own sizes; as in `ScaleImages`, each may be missing."""

    content: Original | None
    style: Original | None
    custom: Original | None


@dataclass
class RunInputs:
    """The large inputs of a run, which the run releases once it has used them.

    Attributes
    ----------
    model
        The model; None once the engine has its weights.
    images
        The images of each scale; None once their targets are computed.
    cache
        Stores what engines compute from the weights of an open model; None stores nothing.
    """

    model: Model | None
    images: list[ScaleImages | None]
    cache: EngineCache | None = None

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


def memory_budget(options: Options) -> int:
    """Return the memory budget of a run in bytes: the given one, or the default."""
    if options.memory is not None:
        return options.memory
    there = physical_memory()
    return sys.maxsize if there is None else int(DEFAULT_BUDGET * there)


def read_originals(content: Source | None, style: Source | None, options: Options) -> Originals:
    """Return the decoded images; raises ImageError or OptionError if one is bad or missing.

    The decoded images, which are in memory at the same time, must fit in the memory budget.
    """
    left = memory_budget(options)

    def read(source: Source, role: str) -> Original:
        nonlocal left
        original = read_original(source, name=role, max_pixels=options.max_pixels, max_bytes=left)
        left -= original.bytes
        return original

    originals = Originals(
        content=None if content is None else read(content, "content"),
        style=None if style is None else read(style, "style"),
        custom=None,
    )
    if content is None and style is None:
        raise OptionError("there is nothing to compare with; name a content or a style image")
    missing = {"content": content is None, "style": style is None}
    if not is_named_start(options.start):
        return replace(originals, custom=read(options.start, "init"))
    if missing.get(start := str(options.start), False):
        raise OptionError(f"there is no {start} image to start from; choose another --init")
    return originals


def scaled_to(originals: Originals, edge: int) -> ScaleImages:
    """Return the images with a longer edge of so many pixels, each in its own aspect ratio."""

    def scaled(original: Original | None) -> Image | None:
        if original is None:
            return None
        width, height = fitted_size(original.width, original.height, edge)
        check_memory(width, height, bytes_per_pixel=BYTES_PER_PIXEL)
        return original.resized(width, height)

    images = ScaleImages(
        content=scaled(originals.content), style=scaled(originals.style), custom=None
    )
    if originals.custom is None:
        return images
    size = (images.canvas.width, images.canvas.height)
    return replace(images, custom=originals.custom.resized(*size))


def notify_of_invisible(
    images: ScaleImages,
    content: Source | None,
    style: Source | None,
    start: Source,
    notify: Callable[[str], None],
) -> None:
    """Call `notify` for each image that is transparent everywhere, which is rarely intended."""
    for image, source, role in (
        (images.content, content, "content"),
        (images.style, style, "style"),
        (images.custom, start, "init"),
    ):
        if image is not None and image.alpha is not None and not image.alpha.any():
            name = name_of(source, role)
            notify(f"{name} is transparent everywhere; it is read as a white image.")
