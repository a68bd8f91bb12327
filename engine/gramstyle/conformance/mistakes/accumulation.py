"""Mistakes in the accumulation of gradients: the loss terms of a layer, and deeper layers."""

import numpy as np

from gramstyle.conformance.mistakes.pieces import Pieces
from gramstyle.conformance.mistakes.registry import mistake
from gramstyle.core.arrays import Array


@mistake(
    "a layer's own loss overwrites the gradient from deeper layers",
    "dF = seed instead of dF += seed: the gradient from deeper layers is lost.",
)
class _Overwritten(Pieces):
    def accumulate(self, deeper: Array | None, seed: Array | None) -> Array:
        return super().accumulate(deeper if seed is None else None, seed)


@mistake(
    "only the deepest layer's loss in the backward pass",
    "The backward pass starts at the deepest layer and does not add the losses of other layers.",
)
class _OnlyTheDeepest(Pieces):
    def accumulate(self, deeper: Array | None, seed: Array | None) -> Array:
        return super().accumulate(deeper, seed if deeper is None else None)


@mistake(
    "content overwrites style at one layer",
    "At a layer with content and style losses one gradient overwrites the other instead of being "
    "added to it.",
)
class _ContentOverStyle(Pieces):
    def seeds(self) -> dict[str, Array]:
        result = super().seeds()
        if self.content_layer:
            result[self.content_layer] = self.alpha * self.content_gradient()
        return result


@mistake(
    "each loss's gradient divided by the sum of its absolute values",
    "The gradient of each loss is normalised at its layer before its weight is applied.",
)
class _NormalisedSeeds(Pieces):
    def content_gradient(self) -> Array:
        return _normalised(super().content_gradient())

    def style_gradient(self, layer: str) -> Array:
        return _normalised(super().style_gradient(layer))


def _normalised(gradient: Array) -> Array:
    return gradient / float(np.sum(np.abs(gradient)))
