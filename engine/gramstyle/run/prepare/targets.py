"""The targets of a scale: computed from one image after the other, and blended."""

from collections.abc import Mapping
from functools import partial

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.blending import ReferenceSample, with_blended_targets
from gramstyle.core.guides import Guides, with_guides
from gramstyle.core.network import Network
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.core.protection import Protection
from gramstyle.core.term import Reference, Term
from gramstyle.core.terms import layers_of, with_targets
from gramstyle.engines.registry import ENGINES, Engine
from gramstyle.engines.spec import ObjectiveSpec
from gramstyle.images import Image
from gramstyle.run.inputs import ScaleImages
from gramstyle.tiling import SpillStore, Tiling
from gramstyle.tiling.areas import halo_of
from gramstyle.tiling.objective import add_tiled_targets


def samples_of(
    images: ScaleImages, network: Network, spec: ObjectiveSpec
) -> Mapping[Reference, list[ReferenceSample]]:
    """Return the samples of the reference images: views of their pixels, shares and guidance."""
    samples: dict[Reference, list[ReferenceSample]] = {}
    layers, masks = layers_of(spec.terms, "style"), images.masks
    if images.styles:
        samples["style"] = [
            ReferenceSample(
                _planes(each.image),
                each.share,
                None if masks is None else masks.style_guides(number, network, layers),
            )
            for number, each in enumerate(images.styles)
        ]
    if images.content is not None:
        samples["content"] = [ReferenceSample(_planes(images.content))]
    return samples


def guides_of(images: ScaleImages, network: Network, spec: ObjectiveSpec) -> Guides | None:
    """Return the guidance of the result; None without masks."""
    layers = layers_of(spec.terms, "style")
    return None if images.masks is None else images.masks.guides(network, layers)


def protection_of(images: ScaleImages) -> Protection | None:
    """Return the photograph and the mask of its protected part; None if nothing is protected."""
    if images.masks is None or images.masks.protect is None:
        return None
    assert images.content is not None  # noqa: S101 - checked when planning
    return Protection(p=_planes(images.content), S=images.masks.protect)


def terms_whole(
    engine: Engine,
    preprocessing: Preprocessing,
    spec: ObjectiveSpec,
    images: ScaleImages,
    dtype: type = np.float64,
) -> tuple[Term, ...]:
    """Return the terms with their targets, for an image that is computed whole.

    The pixels have x's float type, so that the content loss is exactly 0 at the content image.
    """
    terms = spec.terms
    for reference, samples in samples_of(images, engine.network, spec).items():
        add_targets = partial(_add_targets, engine, preprocessing, spec, dtype, reference)
        terms = with_blended_targets(terms, reference, samples, add_targets)
    return with_guides(terms, _placed(engine, guides_of(images, engine.network, spec)))


def _placed(engine: Engine, guides: Guides | None) -> Guides | None:
    """Return the guidance in the memory of the engine, so that no evaluation copies it there."""
    if guides is None or engine.device is None or engine.compiled is not None:
        return guides
    move = engine.device.to_device
    return {
        layer: tuple(None if T is None else move(T) for T in each) for layer, each in guides.items()
    }


def terms_in_tiles(
    engine: Engine,
    preprocessing: Preprocessing,
    spec: ObjectiveSpec,
    images: ScaleImages,
    spill: SpillStore,
) -> tuple[Term, ...]:
    """Return the terms with their summed targets; the spill store receives the others."""
    assert spec.edge is not None  # noqa: S101 - it has tiles
    terms = spec.terms
    for reference, samples in samples_of(images, engine.network, spec).items():
        add_targets = partial(
            _add_targets_in_tiles, engine, preprocessing, spec.edge, spill, reference
        )
        terms = with_blended_targets(terms, reference, samples, add_targets)
    return with_guides(terms, guides_of(images, engine.network, spec))


def _planes(image: Image) -> Array:
    """Return a view of an image's pixels (3, H, W)."""
    planes: Array = image.pixels.transpose(2, 0, 1)
    return planes


def _add_targets(
    engine: Engine,
    preprocessing: Preprocessing,
    spec: ObjectiveSpec,
    dtype: type,
    reference: Reference,
    terms: tuple[Term, ...],
    pixels: Array,
) -> tuple[Term, ...]:
    """Compute the targets from an image whole; in tiles if it is larger than the result.

    The layout of the run leaves room for the responses to an image of the result's size.
    """
    edge = max(spec.height, spec.width)
    summed = not any(term.per_position for term in terms if term.reference == reference)
    if max(pixels.shape) > edge and summed and ENGINES[spec.engine].tiles:
        halo = halo_of(engine.network)
        edge = max(edge - 2 * halo, edge // 2)  # a window is about as large as the result
        with SpillStore(memory=0) as spill:
            return _add_targets_in_tiles(
                engine, preprocessing, edge, spill, reference, terms, pixels
            )
    x: Array = np.ascontiguousarray(pixels, dtype)
    responses = engine.forward(preprocessing.forward(x))
    return with_targets(terms, reference, responses, engine.kernels)


def _add_targets_in_tiles(
    engine: Engine,
    preprocessing: Preprocessing,
    edge: int,
    spill: SpillStore,
    reference: Reference,
    terms: tuple[Term, ...],
    pixels: Array,
) -> tuple[Term, ...]:
    _, height, width = pixels.shape
    tiles = Tiling(engine.network, height, width, edge)
    return add_tiled_targets(engine, preprocessing, terms, reference, pixels, tiles, spill)
