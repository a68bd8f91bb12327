"""Losses other than squared error: functions ρ(d) of a difference instead of d²."""

from typing import Any

import numpy as np

from gramstyle.conformance.mistakes.families.family import FamilyPieces, Values, family
from gramstyle.core.arrays import Array


class _Function(FamilyPieces):
    """Pieces with another function ρ of F − P, of G/M − A/M, or of both."""

    content, style = True, True

    def rho(self, d: Array) -> Array:
        """Return ρ(d)."""
        raise NotImplementedError

    def slope(self, d: Array) -> Array:
        """Return ρ'(d)."""
        raise NotImplementedError

    def content_loss(self) -> float:
        if not self.content:
            return super().content_loss()
        return self.content_factor() * 0.5 * float(np.sum(self.rho(self.difference)))

    def content_gradient(self) -> Array:
        if not self.content:
            return super().content_gradient()
        return self.content_factor() * 0.5 * self.slope(self.difference)

    def style_loss(self, layer: str) -> float:
        if not self.style:
            return super().style_loss(layer)
        M = self.M(layer)
        return self.style_factor(layer) * M**2 * float(np.sum(self.rho(self.D(layer) / M)))

    def style_gradient(self, layer: str) -> Array:
        if not self.style:
            return super().style_gradient(layer)
        M = self.M(layer)
        return self.gram_gradient(layer, M * self.slope(self.D(layer) / M) / 2, self.F[layer])


class _Power(_Function):
    def rho(self, d: Array) -> Array:
        power: Array = np.abs(d) ** self.value
        return power

    def slope(self, d: Array) -> Array:
        slope: Array = self.value * np.sign(d) * np.abs(d) ** (self.value - 1)
        return slope


class _Huber(_Function):
    def rho(self, d: Array) -> Array:
        size, delta = np.abs(d), self.value
        return np.where(size <= delta, d**2, 2 * delta * size - delta**2)

    def slope(self, d: Array) -> Array:
        return 2 * np.clip(d, -self.value, self.value)


class _HalfHuber(_Huber):
    def rho(self, d: Array) -> Array:
        return super().rho(d) / 2

    def slope(self, d: Array) -> Array:
        return super().slope(d) / 2


class _SmoothL1(_HalfHuber):
    def rho(self, d: Array) -> Array:
        return super().rho(d) / self.value

    def slope(self, d: Array) -> Array:
        return super().slope(d) / self.value


class _Logarithm(_Function):
    def rho(self, d: Array) -> Array:
        return self.value**2 * np.log1p((d / self.value) ** 2)

    def slope(self, d: Array) -> Array:
        return 2 * d / (1 + (d / self.value) ** 2)


class _Charbonnier(_Function):
    def rho(self, d: Array) -> Array:
        return np.hypot(d, self.value)

    def slope(self, d: Array) -> Array:
        return d / np.hypot(d, self.value)


FUNCTIONS = (
    (_Power, "power {value}", "abs(d)ᵖ", Values(1.1, 4)),
    (_Huber, "Huber's function with δ = {value}", "d² up to δ and 2 δ abs(d) − δ² beyond",
     Values(0.05, 5)),
    (_HalfHuber, "half of Huber's function with δ = {value}",
     "½ d² up to δ and δ abs(d) − ½ δ² beyond", Values(0.05, 5)),
    (_SmoothL1, "smooth L1 with β = {value}", "½ d² / β up to β and abs(d) − ½ β beyond",
     Values(0.05, 5)),
    (_Logarithm, "the logarithm with c = {value}", "c² log(1 + d² / c²)", Values(0.05, 20)),
    (_Charbonnier, "Charbonnier's function with ε = {value}", "√(d² + ε²)", Values(0.05, 20)),
)  # fmt: skip
TERMS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("content", "F − P", {"style": False}),
    ("style", "G/M − A/M", {"content": False}),
    ("content and style", "F − P and of G/M − A/M", {}),
)


def _register() -> None:
    """Register a family for each function and each choice of terms."""
    for function, pattern, formula, values in FUNCTIONS:
        for term, differences, without in TERMS:
            pieces = type(f"{function.__name__}Of", (function,), without)
            family(
                f"{pattern} instead of squares in {term}",
                f"{formula} of the differences d = {differences} instead of d².",
                values,
            )(pieces)


_register()
