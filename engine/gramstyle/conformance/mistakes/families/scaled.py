"""Gradients stopped or scaled on their way, and weights that are not those of the case."""

from collections.abc import Iterator, Sequence

import numpy as np

from gramstyle.conformance.cases import Answer, Case
from gramstyle.conformance.mistakes.families.family import FamilyPieces, Values, family
from gramstyle.core.arrays import Array
from gramstyle.core.kernels import Pooling

CONTENT, STYLE = "the content loss", "the style loss of "
FACTORS = Values(0.05, 10, signed=True)


@family(
    "gradient multiplied by {value} below {place}",
    "The gradient that a layer passes to the one below it has a factor; 0 stops it (detach).",
    FACTORS,
    gradient_only=True,
    affine=True,
)
class _Below(FamilyPieces):
    @classmethod
    def places(cls, case: Case) -> Sequence[str]:
        # Below the first layer are the pixels: the whole gradient has the factor.
        return case.network.names[1:]

    def passed(self, dX: Array, layer: str) -> Array:
        return self.value * dX if layer == self.place else dX


@family(
    "gradient multiplied by {value} at each convolution",
    "Each convolution multiplies the gradient in the backward pass.",
    Values(0.1, 5, signed=True),
    gradient_only=True,
)
class _EachConvolution(FamilyPieces):
    def convolution_backward(self, dZ: Array, W: Array) -> Array:
        return self.value * super().convolution_backward(dZ, W)


@family(
    "gradient multiplied by {value} at each pooling",
    "Each pooling multiplies the gradient in the backward pass.",
    Values(0.1, 5, signed=True),
    gradient_only=True,
)
class _EachPooling(FamilyPieces):
    def pool_backward(self, dY: Array, X: Array, kind: Pooling) -> Array:
        return self.value * super().pool_backward(dY, X, kind)


@family(
    "gradient clipped to ±{value}",
    "Derivatives beyond a bound are cut off.",
    Values(1e-3, 10),
    gradient_only=True,
)
class _Clipped(FamilyPieces):
    @classmethod
    def guesses(cls, found: Answer) -> Sequence[float]:
        return (float(np.max(np.abs(found.gradient))),)

    def finish(self, gradient: Array) -> Array:
        return np.clip(gradient, -self.value, self.value)


class _Term(FamilyPieces):
    """A mistake about one loss term."""

    @classmethod
    def places(cls, case: Case) -> Sequence[str]:
        style = [STYLE + name for name in (*case.style_terms, *case.guided_terms)]
        # A factor of the total variation is recognised as total variation that is added.
        return [*([CONTENT] if case.content else []), *style]


@family(
    "gradient of {place} multiplied by {value}",
    "The gradient of one loss term has a factor, its loss has not; 0 detaches the term.",
    FACTORS,
    gradient_only=True,
    affine=True,
)
class _Gradient(_Term):
    def terms(self) -> Iterator[tuple[str, float, Array]]:
        names = [CONTENT] if self.content_layer else []
        names += [STYLE + name for name in (*self.case_A, *self.statistics, *self.guided)]
        for name, (layer, weight, gradient) in zip(names, super().terms(), strict=True):
            yield layer, weight * (self.value if name == self.place else 1.0), gradient


@family(
    "{place} multiplied by {value}",
    "The weight of one loss term has a factor, in the loss and in the gradient; 0 leaves the "
    "term out.",
    FACTORS,
    affine=True,
)
class _Weight(_Term):
    def configure(self) -> None:
        if self.place == CONTENT:
            self.alpha *= self.value
        elif self.place:
            self.w[self.place.removeprefix(STYLE)] *= self.value
