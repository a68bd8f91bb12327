"""Mistakes at the pixels: preprocessing, the finished gradient, a term that is not asked for."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from gramstyle.conformance.cases import Answer
from gramstyle.conformance.mistakes.pieces import Pieces, mistake
from gramstyle.core.arrays import Array

# The gradient's way across the preprocessing


@mistake(
    "gradient left in the order blue, green, red",
    "∂L/∂v is handed back in the network's order of channels, and should be in the image's.",
)
class _StillBgr(Pieces):
    def preprocess_backward(self, dv: Array) -> Array:
        right = super().preprocess_backward(dv)
        return right[::-1] if self.preprocessing.channels == "BGR" else right


@mistake(
    "preprocessing's scale left out of the gradient",
    "v = scale · (x − mean), and ∂L/∂v is handed back for scale · ∂L/∂v.",
)
class _ScaleLeftOut(Pieces):
    def preprocess_backward(self, dv: Array) -> Array:
        return replace(self.preprocessing, scale=(1.0, 1.0, 1.0)).backward(dv)


@mistake(
    "gradient divided by the preprocessing's scale",
    "∂L/∂v is taken back as an image is, by ∂L/∂v / scale; it should be multiplied.",
)
class _DividedByScale(Pieces):
    def preprocess_backward(self, dv: Array) -> Array:
        return replace(self.preprocessing, mean=(0.0, 0.0, 0.0)).inverse(dv)


@mistake(
    "gradient taken back as an image",
    "The mean colour is added to the gradient, which is no image.",
)
class _TakenBackAsImage(Pieces):
    def preprocess_backward(self, dv: Array) -> Array:
        return self.preprocessing.inverse(dv)


@mistake(
    "gradient by pixels on the scale 0..1",
    "The gradient is 255 times as large as the one by pixels on the scale 0..255.",
)
class _UnitPixels(Pieces):
    def finish(self, gradient: Array) -> Array:
        return 255 * gradient


# The preprocessing itself, forward and backward


@mistake(
    "red and blue exchanged",
    "The network is shown its channels in the reverse order, each with its own mean.",
    in_targets=True,
)
class _ChannelsReversed(Pieces):
    def preprocess(self, x: Array) -> Array:
        return super().preprocess(x)[::-1]

    def preprocess_backward(self, dv: Array) -> Array:
        return super().preprocess_backward(dv[::-1])


@mistake(
    "means in the reverse order",
    "Blue's mean is subtracted from red and red's from blue.",
    in_targets=True,
)
class _MeansReversed(Pieces):
    def preprocess(self, x: Array) -> Array:
        blue, green, red = self.preprocessing.mean
        return replace(self.preprocessing, mean=(red, green, blue)).forward(x)


@mistake(
    "mean not subtracted",
    "v = scale · x is written for v = scale · (x − mean).",
    in_targets=True,
)
class _WithoutMean(Pieces):
    def preprocess(self, x: Array) -> Array:
        return replace(self.preprocessing, mean=(0.0, 0.0, 0.0)).forward(x)


@mistake(
    "preprocessing's scale left out",
    "v = x − mean is written for v = scale · (x − mean), forward and backward.",
    in_targets=True,
)
class _WithoutScale(Pieces):
    def choose(self) -> None:
        self.preprocessing = replace(self.preprocessing, scale=(1.0, 1.0, 1.0))


@mistake(
    "pixels on the scale 0..1",
    "The network is shown x / 255, and should be shown pixels on the scale 0..255.",
    in_targets=True,
)
class _DividedPixels(Pieces):
    def preprocess(self, x: Array) -> Array:
        return super().preprocess(x / 255)

    def preprocess_backward(self, dv: Array) -> Array:
        return super().preprocess_backward(dv) / 255


@mistake(
    "image clipped to 0..255",
    "The loss clips the image and stops the gradient there; it should take every number.",
    in_targets=True,
)
class _Clipped(Pieces):
    def preprocess(self, x: Array) -> Array:
        return super().preprocess(np.clip(x, 0, 255))

    def finish(self, gradient: Array) -> Array:
        x = self.case.x
        return np.where((x >= 0) & (x <= 255), gradient, 0)


@mistake(
    "image rounded to whole grey levels",
    "The loss is that of the image as it would be saved, in bytes; it should take every number.",
    in_targets=True,
)
class _Rounded(Pieces):
    def preprocess(self, x: Array) -> Array:
        return super().preprocess(np.round(x))


# The finished gradient


@mistake(
    "gradient of the wrong sign",
    "−∂L/∂x is handed back: the direction to go, and no gradient.",
)
class _WrongSign(Pieces):
    def finish(self, gradient: Array) -> Array:
        return -gradient


@mistake(
    "gradient divided by its length",
    "∇ / ‖∇‖ is handed back beside a loss that is not divided: a line search sees a function that "
    "does not exist.",
)
class _ByLength(Pieces):
    def finish(self, gradient: Array) -> Array:
        return gradient / float(np.linalg.norm(gradient))


@mistake(
    "gradient divided by its mean absolute value",
    "∇ / mean abs(∇) is handed back beside a loss that is not divided.",
)
class _ByMean(Pieces):
    def finish(self, gradient: Array) -> Array:
        return gradient / float(np.mean(np.abs(gradient)))


@mistake(
    "gradient divided by its largest value",
    "∇ / max abs(∇) is handed back beside a loss that is not divided.",
)
class _ByLargest(Pieces):
    def finish(self, gradient: Array) -> Array:
        return gradient / float(np.max(np.abs(gradient)))


@mistake(
    "gradient divided by its standard deviation",
    "∇ / std ∇ is handed back beside a loss that is not divided.",
)
class _ByDeviation(Pieces):
    def finish(self, gradient: Array) -> Array:
        return gradient / float(np.std(gradient))


@mistake(
    "gradient divided by the number of pixel values",
    "∇ / (3 H V) is handed back beside a loss that is not divided.",
)
class _BySize(Pieces):
    def finish(self, gradient: Array) -> Array:
        return gradient / gradient.size


@mistake(
    "each term's gradient divided by its length",
    "α ∇L_content / ‖∇L_content‖ + β Σ w_l ∇E_l / ‖∇E_l‖ is handed back.",
)
class _TermsByLength(Pieces):
    def answer(self) -> Answer:
        objective = self.case.objective
        terms = {name: self.beta * w for name, w in self.w.items()}
        weights = {None: self.alpha} if self.content_layer else {}
        gradient = np.zeros_like(self.case.x)
        for name, weight in (weights | terms).items():
            term = Pieces(replace(self.case, objective=objective.alone(name))).answer().gradient
            gradient += weight * term / np.linalg.norm(term)
        return replace(super().answer(), gradient=gradient)


@mistake(
    "gradient clipped to −1..1",
    "Large derivatives are cut off.",
)
class _ClippedGradient(Pieces):
    def finish(self, gradient: Array) -> Array:
        return np.clip(gradient, -1, 1)


@mistake(
    "gradient rounded to float32",
    "The gradient is kept in float32 on its way to an optimiser that computes in float64.",
)
class _Float32Gradient(Pieces):
    def finish(self, gradient: Array) -> Array:
        return gradient.astype(np.float32).astype(np.float64)


@mistake(
    "gradient reshaped where it should be transposed",
    "A gradient that lies as (H, V, 3) is reshaped to (3, H, V).",
)
class _ReshapedGradient(Pieces):
    def finish(self, gradient: Array) -> Array:
        return gradient.transpose(1, 2, 0).reshape(gradient.shape)


@mistake(
    "rows and columns of the gradient exchanged",
    "The gradient of a square image is handed back transposed.",
)
class _TransposedGradient(Pieces):
    def possible(self) -> bool:
        _, H, V = self.case.x.shape
        return bool(H == V)

    def finish(self, gradient: Array) -> Array:
        return gradient.transpose(0, 2, 1)


# Total variation, which the objective does not have


def squared_differences(x: Array) -> tuple[float, Array]:
    """Σ (differences of neighbours)², and its gradient."""
    value, gradient = 0.0, np.zeros_like(x)
    for axis in (1, 2):
        d = np.diff(x, axis=axis)
        value += float(np.sum(d**2))
        gradient += _gather_differences(2 * d, axis)
    return value, gradient


def absolute_differences(x: Array) -> tuple[float, Array]:
    """Σ |differences of neighbours|, and its gradient."""
    value, gradient = 0.0, np.zeros_like(x)
    for axis in (1, 2):
        d = np.diff(x, axis=axis)
        value += float(np.sum(np.abs(d)))
        gradient += _gather_differences(np.sign(d), axis)
    return value, gradient


def powers_of_differences(x: Array) -> tuple[float, Array]:
    """Σ (squared difference down + squared difference right)^1.25, and its gradient."""
    down, right = np.diff(x, axis=1)[:, :, :-1], np.diff(x, axis=2)[:, :-1]
    squares = down**2 + right**2
    slope = 2.5 * squares**0.25
    gradient = np.zeros_like(x)
    gradient[:, :, :-1] += _gather_differences(slope * down, 1)
    gradient[:, :-1] += _gather_differences(slope * right, 2)
    return float(np.sum(squares**1.25)), gradient


def _gather_differences(slope: Array, axis: int) -> Array:
    """Return the adjoint of np.diff."""
    around = [(1, 1) if each == axis else (0, 0) for each in range(3)]
    return -np.diff(np.pad(slope, around), axis=axis)


# By what is summed, in words.
TOTAL_VARIATIONS: Mapping[str, Callable[[Array], tuple[float, Array]]] = MappingProxyType(
    {
        "squares": squared_differences,
        "absolute values": absolute_differences,
        "1.25th powers": powers_of_differences,
    }
)

# An example of a weight; `explain` recognises total variation at any.
TOTAL_VARIATION_WEIGHT = 0.01


def _register_total_variations() -> None:
    """Two mistakes for each of the sums."""
    for what, total_variation in TOTAL_VARIATIONS.items():

        class OnlyInGradient(Pieces):
            variation = staticmethod(total_variation)

            def finish(self, gradient: Array) -> Array:
                return gradient + TOTAL_VARIATION_WEIGHT * self.variation(self.case.x)[1]

        class InBoth(OnlyInGradient):
            def loss(self) -> float:
                return super().loss() + TOTAL_VARIATION_WEIGHT * self.variation(self.case.x)[0]

        mistake(
            f"total variation ({what}) in the gradient but not in the loss",
            f"A multiple of the gradient of the {what} of neighbours' differences is added to the "
            "gradient alone.",
        )(OnlyInGradient)
        mistake(
            f"total variation ({what}) added",
            f"A multiple of the {what} of neighbours' differences is added, with its gradient; the "
            "objective has no such term.",
        )(InBoth)


_register_total_variations()
