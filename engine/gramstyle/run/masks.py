"""The masks of a run: which region of the result has the style of which part of a style image."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import ceil

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.guides import Guides, eroded, inside_guides, mean_guides
from gramstyle.core.network import Network, Pool
from gramstyle.errors import OptionError
from gramstyle.images import LabelMap, Mask, Source, read_labels, read_mask
from gramstyle.run.options import Options
from gramstyle.run.options.masks import mask_sources, roles_of
from gramstyle.run.settings import ImageSettings, name_of, style_roles
from gramstyle.tiling.areas import reach

Size = tuple[int, int]

# The filters that resize images and masks reach three pixels and one of the smaller of two sizes.
REACH = 3 + 1


@dataclass(frozen=True, kw_only=True)
class Region:
    """A region of the result, and where its style comes from.

    Attributes
    ----------
    name
        What messages call it.
    result
        Its mask in the result.
    styles
        Its mask in each style image; None in one that has no such region.
    """

    name: str
    result: Mask
    styles: tuple[Mask | None, ...]


@dataclass(frozen=True, kw_only=True)
class Masks:
    """The masks and label maps of a run by role, in their own sizes.

    Attributes
    ----------
    images
        The masks and label maps.
    names
        What messages and records call them.
    styles
        The names of the style images.
    """

    images: Mapping[str, Mask | LabelMap]
    names: Mapping[str, str]
    styles: tuple[str, ...]

    @property
    def protect(self) -> Mask | None:
        """The mask of the protected part, if there is one."""
        found = self.images.get("protect")
        assert found is None or isinstance(found, Mask)  # noqa: S101 - read as one
        return found

    def described(self) -> dict[str, ImageSettings]:
        """Return the masks as a record names them."""
        return {role: _described(self.names[role], each) for role, each in self.images.items()}

    def regions(self) -> Iterator[Region]:
        """Yield the regions; without masks of regions, one that is the whole image."""
        count = len(self.styles)
        content = self.images.get("content_labels")
        if isinstance(content, LabelMap):
            for colour in content.colours:
                yield Region(
                    name=f"the region {colour} of {self.names['content_labels']}",
                    result=content.mask(colour),
                    styles=tuple(
                        labels.mask(colour) if colour in labels.colours else None
                        for labels in self.style_labels
                    ),
                )
        elif "region" in self.images:
            for number, role in enumerate(roles_of("style_regions", count)):
                mask = self.images[role]
                assert isinstance(mask, Mask)  # noqa: S101 - as above
                own = [Mask.full() if each == number else None for each in range(count)]
                yield Region(name=f"the region {self.names[role]}", result=mask, styles=tuple(own))
        else:
            yield Region(
                name="the part of the image that is not protected",
                result=Mask.full(),
                styles=(Mask.full(),) * count,
            )

    @property
    def style_labels(self) -> tuple[LabelMap, ...]:
        """The label maps of the style images."""
        found = [self.images[role] for role in roles_of("style_labels", len(self.styles))]
        return tuple(each for each in found if isinstance(each, LabelMap))


@dataclass(frozen=True, kw_only=True)
class ScaleMasks:
    """The masks of a run at one scale, float32 from 0 to 1.

    Attributes
    ----------
    names
        What messages call the regions.
    result
        The mask (H, V) of each region in the result, 0 where the image is protected.
    styles
        For each sample of a style image, the mask (h, v) of each region; None if it has none.
    protect
        The mask (H, V) of the protected part, if there is one.
    """

    names: tuple[str, ...]
    result: tuple[Array, ...]
    styles: tuple[tuple[Array | None, ...], ...]
    protect: Array | None

    def bytes(self) -> int:
        """Return approximately how many bytes a run takes for the masks and the guidance.

        The first style layer's guidance has up to one float32 for each pixel; that of all deeper
        ones together is assumed to have as many. A tile has a copy of its own part.
        """
        pixels = self.result[0].size
        # The protected part: the mask, the photograph, and an image and a gradient composited.
        return pixels * 4 * (3 * len(self.result) + 10 * (self.protect is not None))

    def guides(self, network: Network, layers: Sequence[str]) -> Guides:
        """Return the guidance of the result at some layers."""
        return _by_layer([mean_guides(network, T) for T in self.result], layers)

    def style_guides(self, sample: int, network: Network, layers: Sequence[str]) -> Guides:
        """Return the guidance of a sample of a style image at some layers."""
        found = self.styles[sample]
        return _by_layer([None if T is None else inside_guides(network, T) for T in found], layers)


def read_masks(options: Options, styles: Sequence[Source], *, max_bytes: int) -> Masks | None:
    """Read the masks and label maps of a run; None if the options have none.

    Parameters
    ----------
    options, styles
        The options, and the style images.
    max_bytes
        The memory that decoding one may take.

    Raises
    ------
    ImageError
        If one cannot be read.
    OptionError
        If a mask is empty, or a label is in the maps of one side alone.
    """
    sources = mask_sources(options)
    if not sources:
        return None
    images: dict[str, Mask | LabelMap] = {}
    names = {role: name_of(source, role) for role, source in sources.items()}
    for role, source in sources.items():
        read = read_labels if "labels" in role else read_mask
        images[role] = read(source, name=role, max_pixels=options.max_pixels, max_bytes=max_bytes)
        found = images[role]
        if isinstance(found, Mask) and not found.values.any():
            raise OptionError(
                f"{names[role]} is black everywhere, so its region is empty; paint the region white"
            )
    named = tuple(map(name_of, styles, style_roles(len(styles))))
    masks = Masks(images=images, names=names, styles=named)
    content = images.get("content_labels")
    if isinstance(content, LabelMap):
        _check_labels(masks, content)
    return masks


def scaled_masks(
    masks: Masks, result: Size, samples: Sequence[tuple[int, Size, Size]]
) -> ScaleMasks:
    """Return the masks for a scale of the run.

    Parameters
    ----------
    masks
        The masks in their own sizes.
    result
        The width and height of the result in pixels.
    samples
        For each sample of a style image: the number of the style image, the size of the sample, and
        the size of the file that it was resized from.
    """
    protect = None if masks.protect is None else masks.protect.resized(*result)
    names, planes = [], []
    styles: list[list[Array | None]] = [[] for _ in samples]
    for region in masks.regions():
        T = region.result.resized(*result)
        names.append(region.name)
        planes.append(T if protect is None else T * (1 - protect))
        for found, (number, size, before) in zip(styles, samples, strict=True):
            mask = region.styles[number]
            found.append(None if mask is None else _without_seam(mask.resized(*size), size, before))
    return ScaleMasks(
        names=tuple(names),
        result=tuple(planes),
        styles=tuple(map(tuple, styles)),
        protect=protect,
    )


def check_guides(
    masks: ScaleMasks, network: Network, layers: Sequence[str], *, several: bool
) -> None:
    """Check that each region has positions at every style layer, in the result and in a style.

    Parameters
    ----------
    masks, network, layers
        The masks of a scale, the network, and the style layers.
    several
        Whether the run has several scales, the smallest of which has the fewest positions.

    Raises
    ------
    OptionError
        If one has none; names the region and the layer.
    """
    guides = masks.guides(network, layers)
    samples = [masks.style_guides(each, network, layers) for each in range(len(masks.styles))]
    size = "larger --size, or --scales 1" if several else "larger --size"
    scale = "larger --style-scale or --scales 1" if several else "larger --style-scale"
    for layer in layers:
        for r, name in enumerate(masks.names):
            if not _any(guides[layer][r]):
                height, width = masks.result[r].shape
                raise OptionError(
                    f"{name} is empty at layer {layer} of the result ({width}×{height} pixels); "
                    f"make it larger, or choose a {size}"
                )
            if not any(_any(sample[layer][r]) for sample in samples):
                below = network.until([layer])
                pools = sum(isinstance(each, Pool) for each in below.layers)
                sees = 2**pools + 2 * reach(below)
                raise OptionError(
                    f"{name} is empty at layer {layer} of the style: a position there sees "
                    f"{sees}×{sees} pixels, and none sees only this region; enlarge it in the "
                    f"style's label map, choose a {scale}, or leave {layer} out of "
                    "--style-layers"
                )


def notify_of_resized(
    masks: Masks,
    result: Size,
    originals: Mapping[str, Size],
    notify: Callable[[str], None],
) -> None:
    """Call `notify` for each mask whose size is neither the result's nor its image's.

    Parameters
    ----------
    masks, result
        The masks, and the size of the result.
    originals
        The size of the image that each mask belongs to, by the mask's role.
    """
    for role, image in masks.images.items():
        size, name = (image.width, image.height), masks.names[role]
        if size not in (result, originals[role]):
            there = "×".join(map(str, originals[role]))
            notify(
                f"{name} has {size[0]}×{size[1]} pixels and its image {there}; it is resized to "
                "cover the whole image."
            )


def _without_seam(T: Array, size: Size, before: Size) -> Array:
    """Return a style image's mask without the pixels that resizing mixed with other regions."""
    if size == before or T.min() == 1:
        return T
    for _ in range(max(ceil(REACH * max(1, a / b)) for a, b in zip(size, before, strict=True))):
        T = eroded(T)
    return T


def _check_labels(masks: Masks, content: LabelMap) -> None:
    """Refuse a label that the content image or all style images lack."""
    maps = masks.style_labels
    roles = roles_of("style_labels", len(maps))
    there = {colour for labels in maps for colour in labels.colours}
    own, first = masks.names["content_labels"], masks.names[roles[0]]
    others = first if len(maps) == 1 else "no label map of a style"
    for colour in content.colours:
        if colour not in there:
            lacks = f"{others} has not" if len(maps) == 1 else f"{others} has it"
            raise OptionError(
                f"{own} has the label {colour}, and {lacks}; paint the same colours in both"
            )
    for role, labels in zip(roles, maps, strict=True):
        for colour in labels.colours:
            if colour not in content.colours:
                raise OptionError(
                    f"{masks.names[role]} has the label {colour}, and {own} has not; paint the "
                    "same colours in both"
                )


def _by_layer(parts: Sequence[Mapping[str, Array] | None], layers: Sequence[str]) -> Guides:
    return {
        layer: tuple(None if part is None else part[layer] for part in parts) for layer in layers
    }


def _any(T: Array | None) -> bool:
    return T is not None and bool(np.any(T))


def _described(name: str, image: Mask | LabelMap) -> ImageSettings:
    values = image.values if isinstance(image, Mask) else image.indices
    colours = "" if isinstance(image, Mask) else ",".join(image.colours)
    digest = sha256(np.ascontiguousarray(values).tobytes() + colours.encode()).hexdigest()
    return ImageSettings(name, image.width, image.height, digest)
