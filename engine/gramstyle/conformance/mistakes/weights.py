"""Mistakes in equations 5 and 7: weights, images and sums of the total loss.

Each changes loss and gradient alike, unless its name says which of the two.
"""

from typing import Any

import numpy as np

from gramstyle.conformance.mistakes.pieces import Pieces
from gramstyle.conformance.mistakes.registry import mistake


@mistake("w_l left out", "Σ E_l instead of Σ w_l E_l.")
class _WithoutW(Pieces):
    def configure(self) -> None:
        self.w = dict.fromkeys(self.w, 1.0)


@mistake("equal w_l", "Every style layer gets the weight 1 / (number of layers), whatever w_l is.")
class _EqualW(Pieces):
    def configure(self) -> None:
        self.w = dict.fromkeys(self.w, 1 / max(len(self.w), 1))


@mistake(
    "w_l in the wrong order",
    "The weights are applied from the deepest style layer to the first instead of from the first "
    "to the deepest.",
)
class _ReversedW(Pieces):
    def configure(self) -> None:
        self.w = dict(zip(self.w, reversed(self.w.values()), strict=True))


@mistake("w_l squared", "Σ w_l² E_l instead of Σ w_l E_l: each weight is applied twice.")
class _SquaredW(Pieces):
    def configure(self) -> None:
        self.w = {name: weight**2 for name, weight in self.w.items()}


@mistake(
    "style averaged over its layers again",
    "L_style is divided by the number of layers, although w_l already does that.",
)
class _AveragedAgain(Pieces):
    def configure(self) -> None:
        self.beta /= max(len(self.w), 1)


@mistake("α and β exchanged", "β L_content + α L_style instead of α L_content + β L_style.")
class _Exchanged(Pieces):
    def configure(self) -> None:
        self.alpha, self.beta = self.beta, self.alpha


@mistake("α left out", "L_content instead of α L_content.")
class _WithoutAlpha(Pieces):
    def configure(self) -> None:
        self.alpha = 1.0


@mistake("β left out", "L_style instead of β L_style.")
class _WithoutBeta(Pieces):
    def configure(self) -> None:
        self.beta = 1.0


@mistake(
    "content loss left out", "L_content is missing, for example because its responses are detached."
)
class _WithoutContent(Pieces):
    def configure(self) -> None:
        self.alpha = 0.0


@mistake(
    "style loss left out", "L_style is missing, for example because its Gram matrices are detached."
)
class _WithoutStyle(Pieces):
    def configure(self) -> None:
        self.beta = 0.0


@mistake(
    "only the deepest style layer",
    "Each E_l overwrites the one before instead of being added to it.",
)
class _OnlyTheDeepest(Pieces):
    def configure(self) -> None:
        names = [name for name in self.network.names if name in self.w]
        self.w |= dict.fromkeys(names[:-1], 0.0)


@mistake(
    "content image and style image exchanged",
    "P is computed from the style image and A from the content image.",
)
class _ImagesExchanged(Pieces):
    def possible(self) -> bool:
        return self.p is not None and self.a is not None and self.p.shape == self.a.shape

    def configure(self) -> None:
        self.p, self.a = self.a, self.p
        self.own_targets = True


class _SummedIn(Pieces):
    dtype: Any

    def content_loss(self) -> float:
        squares = np.square(self.difference.astype(self.dtype))
        return self.content_factor() * 0.5 * float(np.sum(squares, dtype=self.dtype))

    def style_loss(self, layer: str) -> float:
        squares = np.square(self.D(layer).astype(self.dtype))
        return self.style_factor(layer) * float(np.sum(squares, dtype=self.dtype))


@mistake("loss summed in float32", "The squares are summed in float32 instead of float64.")
class _SummedInFloat32(_SummedIn):
    dtype = np.float32


@mistake(
    "loss summed in float16",
    "The squares are summed in float16, as happens with automatic mixed precision; above 65504 "
    "they are infinite.",
)
class _SummedInFloat16(_SummedIn):
    dtype = np.float16

    def possible(self) -> bool:
        with np.errstate(over="ignore", invalid="ignore"):
            return bool(np.isfinite(self.loss()))
