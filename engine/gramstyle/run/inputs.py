"""The images and the model, which a run reads once, and the images at each scale."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from gramstyle.engines.cache import EngineCache
from gramstyle.errors import OptionError
from gramstyle.images import Image, Original, Source, fitted_size, read_original
from gramstyle.model import Model
from gramstyle.run.masks import Masks, ScaleMasks, read_masks, scaled_masks
from gramstyle.run.options import MOST_STYLES, Options, is_named_start
from gramstyle.run.options.masks import MASK_ROLES, roles_of
from gramstyle.run.settings import name_of, style_roles
from gramstyle.system.machine import check_memory, physical_memory

# The least number of bytes that a run takes per pixel of the result: for the images while they are
# resized, or for the optimiser's vectors while tiles are computed.
BYTES_PER_PIXEL = 80

# The fraction of the memory of the machine or the container that is the default budget.
DEFAULT_BUDGET = 0.75


# The bytes of a pixel of an image in memory, three colours in float32.
PIXEL = 12

# One style image, or several.
Styles = Source | Sequence[Source]


class Canvas(NamedTuple):
    """The size of the result at one scale, in pixels."""

    width: int
    height: int

    def fitted(self, edge: int, multiple: int = 1) -> "Canvas":
        """Return a canvas with a longer edge of so many pixels; both edges rounded to multiples."""
        if edge == max(self):
            return self
        sizes = fitted_size(self.width, self.height, edge)
        return Canvas(*(max(1, round(each / multiple)) * multiple for each in sizes))


@dataclass(frozen=True, kw_only=True)
class StyleSample:
    """A style image at one size.

    Attributes
    ----------
    number
        The number of the style image, from 0.
    image
        The image.
    share
        Its share of the style; the shares of all samples add up to 1.
    """

    number: int
    image: Image
    share: float


@dataclass(frozen=True, kw_only=True)
class ScaleImages:
    """The images at one scale; `content` or the styles may be missing.

    Attributes
    ----------
    content, styles
        The content image, and the samples of the style images.
    canvas
        The size of the result.
    custom
        The image to start from, if one is given.
    first_style
        The first style image, as large as the result, if the run starts from it.
    masks
        The masks of regions, if the run has some.
    """

    content: Image | None
    styles: tuple[StyleSample, ...]
    canvas: Canvas
    custom: Image | None = None
    first_style: Image | None = None
    masks: ScaleMasks | None = None

    @property
    def largest_styles(self) -> tuple[Image, ...]:
        """Each style image at the largest of its sizes."""
        largest: dict[int, Image] = {}
        for sample in self.styles:
            known = largest.setdefault(sample.number, sample.image)
            if sample.image.width * sample.image.height > known.width * known.height:
                largest[sample.number] = sample.image
        return tuple(largest.values())


@dataclass(frozen=True, kw_only=True)
class Originals:
    """The decoded images of a run in their own sizes; as in `ScaleImages`, each may be missing."""

    content: Original | None
    styles: tuple[Original, ...]
    custom: Original | None
    masks: Masks | None = None

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Return width and height of the image that each mask belongs to, by the mask's role."""
        content = self.content or self.styles[0]
        sizes = dict.fromkeys(MASK_ROLES, (content.width, content.height))
        for role, style in zip(
            roles_of("style_labels", len(self.styles)), self.styles, strict=True
        ):
            sizes[role] = style.width, style.height
        return sizes


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


def style_sources(style: Styles | None) -> tuple[Source, ...]:
    """Return the style images that are given: one, or a list or tuple of some.

    Raises
    ------
    OptionError
        If the list is empty or too long.
    """
    if style is None:
        return ()
    if not isinstance(style, list | tuple):  # an array is one image
        return (style,)  # type: ignore[return-value]
    if not 1 <= len(style) <= MOST_STYLES:
        raise OptionError(f"give from 1 to {MOST_STYLES} style images, not {len(style)}")
    return tuple(style)


def read_originals(content: Source | None, styles: Sequence[Source], options: Options) -> Originals:
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
        styles=tuple(map(read, styles, style_roles(len(styles)))),
        custom=None,
    )
    if content is None and not styles:
        raise OptionError("there is nothing to compare with; name a content or a style image")
    originals = replace(originals, masks=read_masks(options, styles, max_bytes=left))
    missing = {"content": content is None, "style": not styles}
    if not is_named_start(options.start):
        return replace(originals, custom=read(options.start, "init"))
    if missing.get(start := str(options.start), False):
        raise OptionError(f"there is no {start} image to start from; choose another --init")
    return originals


def sizes_of_styles(
    originals: Originals, edge: int, options: Options
) -> Iterator[tuple[int, int, int]]:
    """Yield the samples of the style images where the result's longer edge has so many pixels.

    Yields
    ------
    int, int, int
        The number of the style image, the sample's width and its height.
    """
    for number, original in enumerate(originals.styles):
        for scale in options.style_scales:
            longer = max(1, round(edge * scale))
            yield number, *used_size(original, longer, options)


def shorter_edge(originals: Originals, options: Options, canvas: Canvas | None = None) -> int:
    """Return the shortest edge of all images at the last scale, in pixels."""
    sizes = [] if canvas is None else [list(canvas)]
    sizes += [size for _, *size in sizes_of_styles(originals, options.size, options)]
    content = originals.content
    if content is not None:
        sizes.append(list(used_size(content, options.size, options)))
    return min(map(min, sizes))


def check_samples(originals: Originals, edges: Sequence[int], options: Options) -> None:
    """Refuse more samples of the style images than the memory budget holds.

    A single one is not checked here: it is about as large as the result.

    Raises
    ------
    OptionError
        If they do not fit.
    """
    sizes = [size for edge in edges for size in sizes_of_styles(originals, edge, options)]
    needed = PIXEL * sum(width * height for _, width, height in sizes)
    single = len(originals.styles) * len(options.style_scales) == 1
    if not single and needed > memory_budget(options):
        raise OptionError(
            f"the style images at all sizes take {needed / 1e9:.1f} GB, and the memory budget is "
            f"{memory_budget(options) / 1e9:.1f} GB; raise --memory, or choose fewer style images "
            "or a smaller --style-scale"
        )


def scaled_to(
    originals: Originals, edge: int, options: Options, canvas: Canvas | None = None
) -> ScaleImages:
    """Return the images for a result with a longer edge of so many pixels.

    The content image has that edge, and the style images have its multiples by their scales. Each
    has its own aspect ratio. The result has that of the content image, or of the first style image,
    unless a canvas is given: the size of the result at this scale. With circular padding, all edges
    are rounded to sizes that wrap.
    """

    def resized(original: Original, width: int, height: int, option: str = "--size") -> Image:
        check_memory(width, height, bytes_per_pixel=BYTES_PER_PIXEL, option=option)
        return original.resized(width, height)

    def size_of(original: Original) -> tuple[int, int]:
        return used_size(original, edge, options)

    def size_before(number: int) -> tuple[int, int]:
        return originals.styles[number].width, originals.styles[number].height

    content, custom = originals.content, originals.custom
    shares, scales = options.style_shares(len(originals.styles)), options.style_scales
    option = "--style-size" if options.style_size is not None else "--style-scale"
    images = ScaleImages(
        content=None if content is None else resized(content, *size_of(content)),
        styles=tuple(
            StyleSample(
                number=number,
                image=resized(
                    originals.styles[number],
                    width,
                    height,
                    "--size" if max(width, height) <= edge else option,
                ),
                share=shares[number] / len(scales),
            )
            for number, width, height in sizes_of_styles(originals, edge, options)
        ),
        canvas=canvas or Canvas(*size_of(content or originals.styles[0])),
    )
    if originals.masks is not None:
        samples = [
            (each.number, (each.image.width, each.image.height), size_before(each.number))
            for each in images.styles
        ]
        images = replace(images, masks=scaled_masks(originals.masks, images.canvas, samples))
    if custom is not None:
        return replace(images, custom=custom.resized(*images.canvas))
    if options.start != "style":
        return images
    first = originals.styles[0]
    same = [
        each.image
        for each in images.styles
        if (each.number, each.image.width, each.image.height) == (0, *size_of(first))
    ]
    return replace(images, first_style=same[0] if same else resized(first, *size_of(first)))


def used_size(original: Original, longer: int, options: Options) -> tuple[int, int]:
    """Return the width and the height at which a run uses an image, with this longer edge."""
    multiple = options.multiple
    width, height = (
        max(1, round(edge / multiple)) * multiple
        for edge in fitted_size(original.width, original.height, longer)
    )
    return width, height


def notify_of_lost_bits(
    originals: Originals,
    content: Source | None,
    styles: Sequence[Source],
    start: Source,
    notify: Callable[[str], None],
) -> None:
    """Call `notify` for each image of which some bits are not read."""
    for original, source, role in (
        (originals.content, content, "content"),
        *zip(originals.styles, styles, style_roles(len(styles)), strict=True),
        (originals.custom, start, "init"),
    ):
        if original is not None and original.note:
            notify(f"{name_of(source, role)} {original.note}")


def notify_of_invisible(
    images: ScaleImages,
    content: Source | None,
    styles: Sequence[Source],
    start: Source,
    notify: Callable[[str], None],
) -> None:
    """Call `notify` for each image that is transparent everywhere, which is rarely intended."""
    for image, source, role in (
        (images.content, content, "content"),
        *zip(images.largest_styles, styles, style_roles(len(styles)), strict=True),
        (images.custom, start, "init"),
    ):
        if image is not None and image.alpha is not None and not image.alpha.any():
            name = name_of(source, role)
            notify(f"{name} is transparent everywhere; it is read as a white image.")


def notify_of_enlarged(
    originals: Originals,
    images: ScaleImages,
    styles: Sequence[Source],
    options: Options,
    notify: Callable[[str], None],
) -> None:
    """Call `notify` for each style image that a given scale or size enlarges, and so blurs."""
    if options.style_scale is None and options.style_size is None:
        return
    option = "--style-scale" if options.style_size is None else "--style-size"
    for original, image, source, role in zip(
        originals.styles, images.largest_styles, styles, style_roles(len(styles)), strict=True
    ):
        if image.width > original.width or image.height > original.height:
            notify(
                f"{name_of(source, role)} has {original.width}×{original.height} pixels and is "
                f"enlarged to {image.width}×{image.height}, which blurs its strokes; a larger "
                f"image or a smaller {option} keeps them sharp."
            )
