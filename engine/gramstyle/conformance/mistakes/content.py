"""Mistakes in equations 1 and 2, the content loss.

Each changes loss and gradient alike, as happens where automatic differentiation derives the
gradient, unless its name says which of the two. `explain` recognises by itself where only one is
affected.
"""

import numpy as np

from gramstyle.conformance.mistakes.pieces import Pieces
from gramstyle.conformance.mistakes.registry import mistake
from gramstyle.core.arrays import Array


@mistake("content loss without ½", "Σ (F − P)² instead of ½ Σ (F − P)².")
class _WithoutHalf(Pieces):
    def content_factor(self) -> float:
        return 2 * super().content_factor()


@mistake(
    "half the mean instead of half the sum in the content loss",
    "½ mean (F − P)² instead of ½ Σ (F − P)²: the effect of α then depends on the image's size.",
)
class _HalfTheMean(Pieces):
    def content_factor(self) -> float:
        return super().content_factor() / self.difference.size


@mistake(
    "the other convention's content loss",
    "The mean of squares of the authors' released code instead of the paper's ½ Σ (F − P)², or the "
    "other way round.",
)
class _OtherConvention(Pieces):
    def content_factor(self) -> float:
        right = super().content_factor()
        return 1.0 if right != 1.0 else 2.0 / self.difference.size


@mistake(
    "squared sum instead of sum of squares in the content loss",
    "½ (Σ (F − P))² instead of ½ Σ (F − P)²: differences of opposite signs cancel.",
)
class _SquaredSum(Pieces):
    def content_loss(self) -> float:
        return self.content_factor() * 0.5 * float(np.sum(self.difference)) ** 2

    def content_gradient(self) -> Array:
        return np.full_like(self.difference, self.content_factor() * np.sum(self.difference))


@mistake(
    "norm instead of squared norm in the content loss",
    "½ ‖F − P‖ instead of ½ ‖F − P‖²: the square of a norm is forgotten.",
)
class _Norm(Pieces):
    def content_loss(self) -> float:
        return self.content_factor() * 0.5 * float(np.linalg.norm(self.difference))

    def content_gradient(self) -> Array:
        return (
            self.content_factor() * 0.5 * self.difference / float(np.linalg.norm(self.difference))
        )


@mistake(
    "absolute values instead of squares in the content loss",
    "½ Σ abs(F − P) instead of ½ Σ (F − P)².",
)
class _AbsoluteValues(Pieces):
    def content_loss(self) -> float:
        return self.content_factor() * 0.5 * float(np.sum(np.abs(self.difference)))

    def content_gradient(self) -> Array:
        return self.content_factor() * 0.5 * np.sign(self.difference)


@mistake(
    "content gradient with the wrong sign",
    "P − F instead of F − P in equation 2: the image moves away from the content image.",
)
class _WrongSign(Pieces):
    def content_gradient(self) -> Array:
        return -super().content_gradient()
