"""Mistakes in equations 3, 4 and 6, the Gram matrices and the style loss.

Each changes loss and gradient alike, unless its name says which of the two.
"""

import numpy as np

from gramstyle.conformance.mistakes.pieces import Pieces
from gramstyle.conformance.mistakes.registry import mistake
from gramstyle.core.arrays import Array


@mistake(
    "style loss without ¼",
    "1 / (N² M²) instead of 1 / (4 N² M²). This is the loss of the released code.",
)
class _WithoutQuarter(Pieces):
    def style_factor(self, layer: str) -> float:
        return 4 * super().style_factor(layer)


@mistake(
    "¼ twice in the style loss",
    "1 / (16 N² M²) instead of 1 / (4 N² M²), or the paper's loss instead of the released code's.",
)
class _QuarterTwice(Pieces):
    def style_factor(self, layer: str) -> float:
        return super().style_factor(layer) / 4


@mistake(
    "½ instead of ¼ in the style loss",
    "1 / (2 N² M²) instead of 1 / (4 N² M²): the ½ of equation 1 in place of the ¼.",
)
class _Half(Pieces):
    def style_factor(self, layer: str) -> float:
        return 2 * super().style_factor(layer)


@mistake(
    "one of the two terms of the style gradient",
    "½ (G − A) F / (N² M²) instead of (G − A) F / (N² M²): F occurs twice in G = F Fᵀ, and both "
    "derivatives count.",
)
class _OneTerm(Pieces):
    def style_gradient(self, layer: str) -> Array:
        return super().style_gradient(layer) / 2


@mistake(
    "style gradient with the wrong sign",
    "A − G instead of G − A in equation 6: the image moves away from the style image.",
)
class _WrongSign(Pieces):
    def style_gradient(self, layer: str) -> Array:
        return -super().style_gradient(layer)


class _EqualPositions(Pieces):
    """A mistake that fails where image and style image differ in size."""

    def possible(self) -> bool:
        return all(self.M(name) == M for name, M in self.M_a.items())


@mistake(
    "style image's responses in the style gradient",
    "(G − A) times the responses of the style image instead of those of the generated image.",
)
class _StyleResponses(_EqualPositions):
    def style_gradient(self, layer: str) -> Array:
        return self.gram_gradient(layer, self.D(layer), self.style_responses[layer])


@mistake(
    "squared sum instead of sum of squares in the style loss", "(Σ (G − A))² instead of Σ (G − A)²."
)
class _SquaredSum(Pieces):
    def style_loss(self, layer: str) -> float:
        return self.style_factor(layer) * float(np.sum(self.D(layer))) ** 2

    def style_gradient(self, layer: str) -> Array:
        D = self.D(layer)
        return self.gram_gradient(layer, np.full_like(D, np.sum(D)), self.F[layer])


@mistake(
    "norm instead of squared norm in the style loss",
    "‖G − A‖ instead of ‖G − A‖²: the square of a norm is forgotten.",
)
class _Norm(Pieces):
    def style_loss(self, layer: str) -> float:
        return self.style_factor(layer) * float(np.linalg.norm(self.D(layer)))

    def style_gradient(self, layer: str) -> Array:
        return super().style_gradient(layer) / (2 * float(np.linalg.norm(self.D(layer))))


@mistake(
    "upper triangle of the Gram matrix",
    "Σ over i ≤ j instead of Σ over all i, j: each pair off the diagonal counts once instead of "
    "twice.",
)
class _UpperTriangle(Pieces):
    def style_loss(self, layer: str) -> float:
        return self.style_factor(layer) * float(np.sum(np.triu(self.D(layer)) ** 2))

    def style_gradient(self, layer: str) -> Array:
        upper = np.triu(self.D(layer))
        return self.gram_gradient(layer, (upper + upper.T) / 2, self.F[layer])


@mistake(
    "G divided by N", "G / (N M) instead of G / M, and A likewise: E_l is divided by another N²."
)
class _DividedByN(Pieces):
    def style_factor(self, layer: str) -> float:
        return super().style_factor(layer) / len(self.F[layer]) ** 2


@mistake(
    "sum instead of mean over the Gram matrix", "Σ (G − A)² / (4 M²): the factor 1 / N² is missing."
)
class _WithoutN(Pieces):
    def style_factor(self, layer: str) -> float:
        return super().style_factor(layer) * len(self.F[layer]) ** 2


@mistake(
    "G not divided by M",
    "Σ (G − A)² / (4 N²): the factor 1 / M² is missing, and E_l grows with the image.",
)
class _WithoutM(Pieces):
    def style_factor(self, layer: str) -> float:
        return super().style_factor(layer) * self.M(layer) ** 2


@mistake("N M instead of N² M² in the style loss", "1 / (4 N M) instead of 1 / (4 N² M²).")
class _NotSquared(Pieces):
    def style_factor(self, layer: str) -> float:
        return super().style_factor(layer) * len(self.F[layer]) * self.M(layer)


@mistake(
    "number of pixels as M",
    "M is the number of pixels at every layer instead of the layer's own number of positions.",
)
class _PixelsForPositions(Pieces):
    def style_factor(self, layer: str) -> float:
        pixels = int(self.x[0].size)
        return super().style_factor(layer) * (self.M(layer) / pixels) ** 2


@mistake(
    "A not rescaled to the image's M",
    "G − A instead of G / M − A / M_a: both are divided by the image's M, so the size of the style "
    "image changes the style.",
)
class _NotRescaled(Pieces):
    def D(self, layer: str) -> Array:
        return self.gram(self.F[layer]) - self.A(layer)


@mistake("the style image's M for both Gram matrices", "(G − A) / M_a instead of G / M − A / M_a.")
class _StyleM(Pieces):
    def D(self, layer: str) -> Array:
        return self.gram(self.F[layer]) - self.A(layer)

    def style_factor(self, layer: str) -> float:
        return super().style_factor(layer) * (self.M(layer) / self.M_a[layer]) ** 2


@mistake("M of image and style image exchanged", "G / M_a − A / M instead of G / M − A / M_a.")
class _ExchangedM(Pieces):
    def D(self, layer: str) -> Array:
        rescale = self.M(layer) / self.M_a[layer]
        return self.gram(self.F[layer]) * rescale - self.A(layer)

    def style_gradient(self, layer: str) -> Array:
        # The derivative of G has the same wrong factor.
        rescale = self.M(layer) / self.M_a[layer]
        return super().style_gradient(layer) * rescale


@mistake(
    "responses reshaped instead of transposed",
    "Responses in the layout (H, V, N) are reshaped to (N, M) without a transposition: each row "
    "mixes all filters.",
)
class _Reshaped(Pieces):
    def scrambled(self, F: Array) -> Array:
        return F.transpose(1, 2, 0).reshape(len(F), -1)

    def D(self, layer: str) -> Array:
        F, A = self.scrambled(self.F[layer]), self.scrambled(self.style_responses[layer])
        return F @ F.T - A @ A.T * (self.M(layer) / self.M_a[layer])

    def style_gradient(self, layer: str) -> Array:
        N, H, V = self.F[layer].shape
        product = self.D(layer) @ self.scrambled(self.F[layer])
        return 4 * self.style_factor(layer) * product.reshape(H, V, N).transpose(2, 0, 1)


@mistake(
    "Fᵀ F instead of F Fᵀ",
    "The Gram matrix sums over filters (M × M) instead of over positions (N × N).",
)
class _OverFilters(_EqualPositions):
    def D(self, layer: str) -> Array:
        return self.over_filters(self.F[layer]) - self.over_filters(self.style_responses[layer])

    def over_filters(self, F: Array) -> Array:
        flat = F.reshape(len(F), -1)
        return flat.T @ flat

    def style_gradient(self, layer: str) -> Array:
        F = self.F[layer]
        product = F.reshape(len(F), -1) @ self.D(layer)
        return 4 * self.style_factor(layer) * product.reshape(F.shape)


@mistake(
    "Gram matrix of centred responses",
    "The mean of each filter is subtracted first, in A as in G: a covariance instead of a Gram "
    "matrix.",
)
class _Centred(Pieces):
    def centred(self, F: Array) -> Array:
        mean: Array = F.mean(axis=(1, 2), keepdims=True)
        return F - mean

    def D(self, layer: str) -> Array:
        A = self.gram(self.centred(self.style_responses[layer]))
        return self.gram(self.centred(self.F[layer])) - A * (self.M(layer) / self.M_a[layer])

    def style_gradient(self, layer: str) -> Array:
        return self.gram_gradient(layer, self.D(layer), self.centred(self.F[layer]))
