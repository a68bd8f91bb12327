"""Mistakes at the pixels: preprocessing and the finished gradient."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from gramstyle.conformance.cases import Answer
from gramstyle.conformance.mistakes.pieces import Pieces
from gramstyle.conformance.mistakes.registry import mistake
from gramstyle.core.arrays import Array

# The backward pass of the preprocessing


@mistake(
    "gradient left in the order blue, green, red",
    "The gradient is returned in the network's order of channels instead of the image's.",
)
class _StillBgr(Pieces):
    def preprocess_backward(self, dv: Array) -> Array:
        right = super().preprocess_backward(dv)
        return right[::-1] if self.preprocessing.channels == "BGR" else right


@mistake(
    "preprocessing's scale left out of the gradient",
    "∂L/∂v instead of scale · ∂L/∂v, where v = scale · (x − mean).",
)
class _ScaleLeftOut(Pieces):
    def preprocess_backward(self, dv: Array) -> Array:
        return replace(self.preprocessing, scale=(1.0, 1.0, 1.0)).backward(dv)


@mistake(
    "gradient divided by the preprocessing's scale",
    "∂L/∂v / scale instead of scale · ∂L/∂v: the step is inverted, as for an image.",
)
class _DividedByScale(Pieces):
    def preprocess_backward(self, dv: Array) -> Array:
        return replace(self.preprocessing, mean=(0.0, 0.0, 0.0)).inverse(dv)


@mistake(
    "mean colour added to the gradient",
    "The gradient is converted like an image, by ∂L/∂v / scale + mean instead of scale · ∂L/∂v.",
)
class _ConvertedLikeAnImage(Pieces):
    def preprocess_backward(self, dv: Array) -> Array:
        return self.preprocessing.inverse(dv)


@mistake(
    "gradient with respect to pixels on the scale 0..1",
    "The gradient is 255 times as large as with respect to pixels on the scale 0..255.",
)
class _UnitPixels(Pieces):
    def finish(self, gradient: Array) -> Array:
        return 255 * gradient


# The preprocessing itself, forward and backward


@mistake(
    "red and blue exchanged",
    "The network gets its channels in the reverse order, each with its own mean.",
    in_targets=True,
)
class _ChannelsReversed(Pieces):
    def preprocess(self, x: Array) -> Array:
        return super().preprocess(x)[::-1]

    def preprocess_backward(self, dv: Array) -> Array:
        return super().preprocess_backward(dv[::-1])


@mistake(
    "means in the reverse order",
    "The mean of blue is subtracted from red, and the mean of red from blue.",
    in_targets=True,
)
class _MeansReversed(Pieces):
    def preprocess(self, x: Array) -> Array:
        blue, green, red = self.preprocessing.mean
        return replace(self.preprocessing, mean=(red, green, blue)).forward(x)


@mistake("mean not subtracted", "v = scale · x instead of v = scale · (x − mean).", in_targets=True)
class _WithoutMean(Pieces):
    def preprocess(self, x: Array) -> Array:
        return replace(self.preprocessing, mean=(0.0, 0.0, 0.0)).forward(x)


@mistake(
    "mean subtracted after the scale",
    "v = scale · x − mean instead of v = scale · (x − mean): the mean is on the other scale.",
    in_targets=True,
)
class _MeanAfterScale(Pieces):
    def configure(self) -> None:
        (m0, m1, m2), (s0, s1, s2) = self.preprocessing.mean, self.preprocessing.scale
        self.preprocessing = replace(self.preprocessing, mean=(m0 / s0, m1 / s1, m2 / s2))


@mistake(
    "preprocessing's scale left out",
    "v = x − mean instead of v = scale · (x − mean), forward and backward.",
    in_targets=True,
)
class _WithoutScale(Pieces):
    def configure(self) -> None:
        self.preprocessing = replace(self.preprocessing, scale=(1.0, 1.0, 1.0))


@mistake(
    "pixels on the scale 0..1",
    "The network gets x / 255 instead of pixels on the scale 0..255.",
    in_targets=True,
)
class _DividedPixels(Pieces):
    def preprocess(self, x: Array) -> Array:
        return super().preprocess(x / 255)

    def preprocess_backward(self, dv: Array) -> Array:
        return super().preprocess_backward(dv) / 255


@mistake(
    "image clipped to 0..255",
    "The loss clips the image, and the gradient is 0 outside; the loss should accept every number.",
    in_targets=True,
)
class _Clipped(Pieces):
    def preprocess(self, x: Array) -> Array:
        return super().preprocess(np.clip(x, 0, 255))

    def finish(self, gradient: Array) -> Array:
        return np.where((self.x >= 0) & (self.x <= 255), gradient, 0)


@mistake(
    "image rounded to whole grey levels",
    "The loss rounds the image, as saving it in 8 bits does; it should accept every number.",
    in_targets=True,
)
class _Rounded(Pieces):
    def preprocess(self, x: Array) -> Array:
        return super().preprocess(np.round(x))


# The finished gradient


@mistake(
    "gradient with the wrong sign",
    "−∂L/∂x instead of ∂L/∂x: the direction of descent instead of the gradient.",
)
class _WrongSign(Pieces):
    def finish(self, gradient: Array) -> Array:
        return -gradient


# What programs divide by, in words and as a formula.
DIVISORS: Mapping[str, tuple[str, Callable[[Array], Any]]] = MappingProxyType(
    {
        "its norm": ("‖∇‖", np.linalg.norm),
        "its mean absolute value": ("mean abs(∇)", lambda gradient: np.mean(np.abs(gradient))),
        "its largest value": ("max abs(∇)", lambda gradient: np.max(np.abs(gradient))),
        "its standard deviation": ("std ∇", np.std),
        "the number of pixel values": ("(3 H V)", np.size),
    }
)


def _register_divisors() -> None:
    for words, (formula, divisor) in DIVISORS.items():

        class Divided(Pieces):
            divide_by = staticmethod(divisor)

            def finish(self, gradient: Array) -> Array:
                return gradient / float(self.divide_by(gradient))

        mistake(
            f"gradient divided by {words}",
            f"∇ / {formula} instead of ∇, although the loss is not divided: a line search gets a "
            "loss and a gradient that do not belong together.",
        )(Divided)


_register_divisors()


@mistake(
    "each term's gradient divided by its norm",
    "α ∇L_content / ‖∇L_content‖ + β Σ w_l ∇E_l / ‖∇E_l‖ instead of ∇.",
)
class _TermsByNorm(Pieces):
    def answer(self) -> Answer:
        gradient = np.zeros_like(self.x)
        for layer, weight, seed in self.terms():
            dv, _ = self.backward({layer: weight * seed})
            term = self.preprocess_backward(dv)
            gradient += weight * term / np.linalg.norm(term)
        return replace(super().answer(), gradient=gradient)


@mistake("gradient clipped to −1..1", "Derivatives beyond −1 and 1 are cut off.")
class _ClippedGradient(Pieces):
    def finish(self, gradient: Array) -> Array:
        return np.clip(gradient, -1, 1)


@mistake(
    "gradient rounded to float32",
    "The gradient is stored in float32 on its way to an optimiser that computes in float64.",
)
class _Float32Gradient(Pieces):
    def finish(self, gradient: Array) -> Array:
        return gradient.astype(np.float32).astype(np.float64)


@mistake(
    "gradient reshaped instead of transposed",
    "A gradient in the layout (H, V, 3) is reshaped to (3, H, V) without a transposition.",
)
class _ReshapedGradient(Pieces):
    def finish(self, gradient: Array) -> Array:
        return gradient.transpose(1, 2, 0).reshape(gradient.shape)


@mistake(
    "rows and columns of the gradient exchanged",
    "The gradient of a square image is returned transposed.",
)
class _TransposedGradient(Pieces):
    def possible(self) -> bool:
        _, H, V = self.x.shape
        return bool(H == V)

    def finish(self, gradient: Array) -> Array:
        return gradient.transpose(0, 2, 1)


@mistake(
    "gradient in column-major order",
    "The gradient is stored with its first index changing fastest, as in Fortran and Julia.",
)
class _ColumnMajorGradient(Pieces):
    def finish(self, gradient: Array) -> Array:
        return gradient.ravel(order="F").reshape(gradient.shape)


@mistake(
    "gradient upside down",
    "The rows of the gradient are in the reverse order, as where an image begins at the bottom.",
)
class _UpsideDownGradient(Pieces):
    def finish(self, gradient: Array) -> Array:
        return gradient[:, ::-1]
