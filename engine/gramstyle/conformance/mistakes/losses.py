"""Mistakes in equations 1 to 7: constants, sums, sizes, weights.

Each changes the loss and its gradient alike, as happens where a gradient is derived by a program,
unless its name says which of the two. `explain` finds out by itself where only one is affected.
"""

import numpy as np

from gramstyle.conformance.mistakes.pieces import Pieces, mistake
from gramstyle.core.arrays import Array

# Equations 1 and 2


@mistake(
    "content loss without ½",
    "Σ (F − P)² is written for ½ Σ (F − P)².",
)
class _ContentWithoutHalf(Pieces):
    def content_factor(self) -> float:
        return 2 * super().content_factor()


@mistake(
    "half the mean for the sum in the content loss",
    "½ mean (F − P)² is written for ½ Σ (F − P)²: α then means something else at each size.",
)
class _HalfTheMean(Pieces):
    def content_factor(self) -> float:
        return super().content_factor() / self.difference.size


@mistake(
    "the other convention's content loss",
    "The mean of squares, of the authors' released code, is taken for the paper's ½ Σ (F − P)², "
    "or the other way round.",
)
class _OtherContent(Pieces):
    def content_factor(self) -> float:
        right = super().content_factor()
        return 1.0 if right != 1.0 else 2.0 / self.difference.size


@mistake(
    "square of the sum for the sum of squares in the content loss",
    "½ (Σ (F − P))² is written for ½ Σ (F − P)²: deviations of opposite signs cancel.",
)
class _ContentSquareOfSum(Pieces):
    def content_loss(self) -> float:
        return self.content_factor() * 0.5 * float(np.sum(self.difference)) ** 2

    def content_gradient(self) -> Array:
        return np.full_like(self.difference, self.content_factor() * np.sum(self.difference))


@mistake(
    "length for its square in the content loss",
    "½ ‖F − P‖ is written for ½ ‖F − P‖²: the square is forgotten behind a norm.",
)
class _ContentLength(Pieces):
    def content_loss(self) -> float:
        return self.content_factor() * 0.5 * float(np.linalg.norm(self.difference))

    def content_gradient(self) -> Array:
        return (
            self.content_factor() * 0.5 * self.difference / float(np.linalg.norm(self.difference))
        )


@mistake(
    "absolute values for squares in the content loss",
    "½ Σ abs(F − P) is written for ½ Σ (F − P)².",
)
class _ContentAbsolute(Pieces):
    def content_loss(self) -> float:
        return self.content_factor() * 0.5 * float(np.sum(np.abs(self.difference)))

    def content_gradient(self) -> Array:
        return self.content_factor() * 0.5 * np.sign(self.difference)


@mistake(
    "content gradient of the wrong sign",
    "P − F is written for F − P in equation 2: the image leaves the photograph.",
)
class _ContentSign(Pieces):
    def content_gradient(self) -> Array:
        return -super().content_gradient()


# Equations 3, 4 and 6


@mistake(
    "style loss without ¼",
    "1 / (N² M²) is written for 1 / (4 N² M²). It is the released code's loss.",
)
class _StyleWithoutQuarter(Pieces):
    def style_factor(self, layer: str) -> float:
        return 4 * super().style_factor(layer)


@mistake(
    "¼ twice in the style loss",
    "1 / (16 N² M²) is written for 1 / (4 N² M²), or the paper's loss is taken for the released "
    "code's.",
)
class _StyleQuarterTwice(Pieces):
    def style_factor(self, layer: str) -> float:
        return super().style_factor(layer) / 4


@mistake(
    "½ for ¼ in the style loss",
    "1 / (2 N² M²) is written for 1 / (4 N² M²): the ½ of equation 1 in the place of the ¼.",
)
class _StyleHalf(Pieces):
    def style_factor(self, layer: str) -> float:
        return 2 * super().style_factor(layer)


@mistake(
    "one of the two terms of the style gradient",
    "½ (G − A) F / (N² M²) is written for (G − A) F / (N² M²): F stands twice in G = F Fᵀ, and "
    "both of its derivatives count.",
)
class _OneTerm(Pieces):
    def style_gradient(self, layer: str) -> Array:
        return super().style_gradient(layer) / 2


@mistake(
    "style gradient of the wrong sign",
    "A − G is written for G − A in equation 6: the image leaves the artwork.",
)
class _StyleSign(Pieces):
    def style_gradient(self, layer: str) -> Array:
        return -super().style_gradient(layer)


@mistake(
    "artwork's features in the style gradient",
    "(G − A) times the artwork's F is written for (G − A) times the image's.",
)
class _ArtworkFeatures(Pieces):
    def possible(self) -> bool:
        style = self.case.objective.style
        return all(self.M(name) == self.artwork_positions(name) for name in style)

    def style_gradient(self, layer: str) -> Array:
        product = np.tensordot(self.D(layer), self.artwork_responses[layer], axes=1)
        return 4 * self.style_factor(layer) * product


@mistake(
    "square of the sum for the sum of squares in the style loss",
    "(Σ (G − A))² is written for Σ (G − A)².",
)
class _StyleSquareOfSum(Pieces):
    def style_loss(self, layer: str) -> float:
        return self.style_factor(layer) * float(np.sum(self.D(layer))) ** 2

    def style_gradient(self, layer: str) -> Array:
        D, F = self.D(layer), self.F[layer]
        product = np.tensordot(np.full_like(D, np.sum(D)), F, axes=1)
        return 4 * self.style_factor(layer) * product


@mistake(
    "length for its square in the style loss",
    "‖G − A‖ is written for ‖G − A‖²: the square is forgotten behind a norm.",
)
class _StyleLength(Pieces):
    def style_loss(self, layer: str) -> float:
        return self.style_factor(layer) * float(np.linalg.norm(self.D(layer)))

    def style_gradient(self, layer: str) -> Array:
        return super().style_gradient(layer) / (2 * float(np.linalg.norm(self.D(layer))))


@mistake(
    "upper triangle of the Gram matrix",
    "Σ over i ≤ j is written for Σ over all i, j: off the diagonal a pair counts once, not twice.",
)
class _UpperTriangle(Pieces):
    def style_loss(self, layer: str) -> float:
        return self.style_factor(layer) * float(np.sum(np.triu(self.D(layer)) ** 2))

    def style_gradient(self, layer: str) -> Array:
        upper = np.triu(self.D(layer))
        product = np.tensordot((upper + upper.T) / 2, self.F[layer], axes=1)
        return 4 * self.style_factor(layer) * product


@mistake(
    "G divided by N",
    "G / (N M) is written for G / M (and A likewise): E_l lacks another N².",
)
class _DividedByN(Pieces):
    def style_factor(self, layer: str) -> float:
        return super().style_factor(layer) / len(self.F[layer]) ** 2


@mistake(
    "sum for the mean over the Gram matrix",
    "Σ (G − A)² / (4 M²) is written: 1 / N² is missing.",
)
class _WithoutN(Pieces):
    def style_factor(self, layer: str) -> float:
        return super().style_factor(layer) * len(self.F[layer]) ** 2


@mistake(
    "G not divided by M",
    "Σ (G − A)² / (4 N²) is written: 1 / M² is missing, and E_l grows with the image.",
)
class _WithoutM(Pieces):
    def style_factor(self, layer: str) -> float:
        return super().style_factor(layer) * self.M(layer) ** 2


@mistake(
    "N M for its square in the style loss",
    "1 / (4 N M) is written for 1 / (4 N² M²).",
)
class _NotSquared(Pieces):
    def style_factor(self, layer: str) -> float:
        return super().style_factor(layer) * len(self.F[layer]) * self.M(layer)


@mistake(
    "M of the image's pixels",
    "M is the number of pixels, at every layer, and should be the layer's own number of positions.",
)
class _PixelsForPositions(Pieces):
    def style_factor(self, layer: str) -> float:
        pixels = int(self.case.x[0].size)
        return super().style_factor(layer) * (self.M(layer) / pixels) ** 2


@mistake(
    "A not rescaled to the image's M",
    "G − A is written for G / M − A / M_a: both are divided by the image's M, and an artwork of "
    "another size gives another style.",
)
class _NotRescaled(Pieces):
    def D(self, layer: str) -> Array:
        return self.gram(self.F[layer]) - self.A(layer)


@mistake(
    "the artwork's M for both Gram matrices",
    "(G − A) / M_a is written for G / M − A / M_a.",
)
class _ArtworksM(Pieces):
    def D(self, layer: str) -> Array:
        return self.gram(self.F[layer]) - self.A(layer)

    def style_factor(self, layer: str) -> float:
        return super().style_factor(layer) * (self.M(layer) / self.artwork_positions(layer)) ** 2


@mistake(
    "M of the image and of the artwork exchanged",
    "G / M_a − A / M is written for G / M − A / M_a.",
)
class _ExchangedM(Pieces):
    def D(self, layer: str) -> Array:
        rescale = self.M(layer) / self.artwork_positions(layer)
        return self.gram(self.F[layer]) * rescale - self.A(layer)

    def style_gradient(self, layer: str) -> Array:
        # G's derivative has the same wrong factor.
        rescale = self.M(layer) / self.artwork_positions(layer)
        return super().style_gradient(layer) * rescale


@mistake(
    "responses reshaped where they should be transposed",
    "Responses that lie as (H, V, N) are reshaped to (N, M) without a transposition: each row "
    "mixes all filters.",
)
class _Reshaped(Pieces):
    def scrambled(self, F: Array) -> Array:
        return F.transpose(1, 2, 0).reshape(len(F), -1)

    def D(self, layer: str) -> Array:
        F, A = self.scrambled(self.F[layer]), self.scrambled(self.artwork_responses[layer])
        return F @ F.T - A @ A.T * (self.M(layer) / self.artwork_positions(layer))

    def style_gradient(self, layer: str) -> Array:
        N, H, V = self.F[layer].shape
        product = self.D(layer) @ self.scrambled(self.F[layer])
        return 4 * self.style_factor(layer) * product.reshape(H, V, N).transpose(2, 0, 1)


@mistake(
    "Fᵀ F for F Fᵀ",
    "The Gram matrix sums over filters, M × M, and should sum over positions, N × N.",
)
class _OverFilters(Pieces):
    def possible(self) -> bool:
        style = self.case.objective.style
        return all(self.M(name) == self.artwork_positions(name) for name in style)

    def D(self, layer: str) -> Array:
        return self.over_filters(self.F[layer]) - self.over_filters(self.artwork_responses[layer])

    def over_filters(self, F: Array) -> Array:
        flat = F.reshape(len(F), -1)
        return flat.T @ flat

    def style_gradient(self, layer: str) -> Array:
        F = self.F[layer]
        product = F.reshape(len(F), -1) @ self.D(layer)
        return 4 * self.style_factor(layer) * product.reshape(F.shape)


@mistake(
    "Gram matrix of centred responses",
    "Each filter's mean is subtracted first, for A as for G: a covariance, and no Gram matrix.",
)
class _Centred(Pieces):
    def centred(self, F: Array) -> Array:
        mean: Array = F.mean(axis=(1, 2), keepdims=True)
        return F - mean

    def D(self, layer: str) -> Array:
        rescale = self.M(layer) / self.artwork_positions(layer)
        A = self.gram(self.centred(self.artwork_responses[layer]))
        return self.gram(self.centred(self.F[layer])) - A * rescale

    def style_gradient(self, layer: str) -> Array:
        product = np.tensordot(self.D(layer), self.centred(self.F[layer]), axes=1)
        return 4 * self.style_factor(layer) * product


# Equations 5 and 7


@mistake(
    "w_l left out",
    "Σ E_l is written for Σ w_l E_l.",
)
class _WithoutW(Pieces):
    def choose(self) -> None:
        self.w = dict.fromkeys(self.w, 1.0)


@mistake(
    "equal w_l",
    "Every style layer gets 1 / (number of layers), whatever w_l was asked for.",
)
class _EqualW(Pieces):
    def choose(self) -> None:
        self.w = dict.fromkeys(self.w, 1 / max(len(self.w), 1))


@mistake(
    "w_l in the wrong order",
    "The weights go to the style layers from the deepest up, and should go from the first down.",
)
class _ReversedW(Pieces):
    def choose(self) -> None:
        self.w = dict(zip(self.w, reversed(self.w.values()), strict=True))


@mistake(
    "style averaged over its layers again",
    "L_style is divided by the number of layers, which w_l has done already.",
)
class _AveragedAgain(Pieces):
    def choose(self) -> None:
        self.beta /= max(len(self.w), 1)


@mistake(
    "α and β exchanged",
    "β L_content + α L_style is written for α L_content + β L_style.",
)
class _Exchanged(Pieces):
    def choose(self) -> None:
        self.alpha, self.beta = self.beta, self.alpha


@mistake(
    "α left out",
    "L_content is added as it is.",
)
class _WithoutAlpha(Pieces):
    def choose(self) -> None:
        self.alpha = 1.0


@mistake(
    "β left out",
    "L_style is added as it is.",
)
class _WithoutBeta(Pieces):
    def choose(self) -> None:
        self.beta = 1.0


@mistake(
    "content loss left out",
    "L_content is not added; its responses may be detached.",
)
class _WithoutContent(Pieces):
    def choose(self) -> None:
        self.alpha = 0.0


@mistake(
    "style loss left out",
    "L_style is not added; its Gram matrices may be detached.",
)
class _WithoutStyle(Pieces):
    def choose(self) -> None:
        self.beta = 0.0


@mistake(
    "only the deepest style layer",
    "Each E_l is written over the one before, and should be added to it.",
)
class _OnlyTheDeepest(Pieces):
    def choose(self) -> None:
        names = [name for name in self.network.names if name in self.w]
        self.w |= dict.fromkeys(names[:-1], 0.0)


@mistake(
    "photograph and artwork exchanged",
    "P is made from the artwork and A from the photograph.",
)
class _ImagesExchanged(Pieces):
    def possible(self) -> bool:
        p, a = self.case.p, self.case.a
        return p is not None and a is not None and p.shape == a.shape

    def choose(self) -> None:
        self.p, self.a = self.a, self.p
        self.own_targets = True


@mistake(
    "loss added up in float32",
    "The squares are added in float32, and should be in float64 whatever the responses' type.",
)
class _Float32Sums(Pieces):
    def content_loss(self) -> float:
        squares = np.square(self.difference.astype(np.float32))
        return self.content_factor() * 0.5 * float(np.sum(squares, dtype=np.float32))

    def style_loss(self, layer: str) -> float:
        squares = np.square(self.D(layer).astype(np.float32))
        return self.style_factor(layer) * float(np.sum(squares, dtype=np.float32))


@mistake(
    "loss added up in float16",
    "The squares are added in float16, as happens under automatic mixed precision; above 65504 "
    "they are infinite.",
)
class _Float16Sums(Pieces):
    def possible(self) -> bool:
        with np.errstate(over="ignore", invalid="ignore"):
            return bool(np.isfinite(self.loss()))

    def content_loss(self) -> float:
        squares = np.square(self.difference.astype(np.float16))
        return self.content_factor() * 0.5 * float(np.sum(squares, dtype=np.float16))

    def style_loss(self, layer: str) -> float:
        squares = np.square(self.D(layer).astype(np.float16))
        return self.style_factor(layer) * float(np.sum(squares, dtype=np.float16))
