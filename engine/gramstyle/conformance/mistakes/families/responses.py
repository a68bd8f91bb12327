"""Loss terms of other quantities than the responses F: scaled, normalised, or before the ReLU."""

from collections.abc import Mapping, Sequence

import numpy as np

from gramstyle.conformance.cases import Case
from gramstyle.conformance.mistakes.families.family import FamilyPieces, Values, family
from gramstyle.conformance.mistakes.pieces import ForwardPass
from gramstyle.core.arrays import Array


class _Compared(FamilyPieces):
    """Pieces whose losses compare a function of the responses."""

    def changed(self, F: Array) -> Array:
        """Return what the losses compare."""
        raise NotImplementedError

    def changed_backward(self, dU: Array, F: Array) -> Array:
        """Return dF from the derivative by `changed`."""
        raise NotImplementedError

    def compared(self, forward_pass: ForwardPass) -> Mapping[str, Array]:
        layers = {*self.w, *([self.content_layer] if self.content_layer else [])}
        return {name: self.changed(forward_pass.F[name]) for name in layers}

    def seeds(self) -> dict[str, Array]:
        F = self.image.F
        return {name: self.changed_backward(dU, F[name]) for name, dU in super().seeds().items()}


@family(
    "responses multiplied by {value} in the losses",
    "The losses compare a multiple of F instead of F.",
    Values(0.05, 20),
    in_targets=True,
)
class _Scaled(_Compared):
    def changed(self, F: Array) -> Array:
        return self.value * F

    def changed_backward(self, dU: Array, F: Array) -> Array:  # noqa: ARG002
        return self.value * dU


@family(
    "responses divided by their norm over the filters, ε = {value}",
    "The losses compare F / √(Σ F² + ε) with the sum over the filters at each position.",
    Values(1e-3, 100),
    in_targets=True,
)
class _UnitNorm(_Compared):
    def changed(self, F: Array) -> Array:
        changed: Array = F / self.norm(F)
        return changed

    def norm(self, F: Array) -> Array:
        """Return √(Σ F² + ε) of each position."""
        norm: Array = np.sqrt(np.sum(F**2, axis=0) + self.value)
        return norm

    def changed_backward(self, dU: Array, F: Array) -> Array:
        U = self.changed(F)
        dF: Array = (dU - U * np.sum(U * dU, axis=0)) / self.norm(F)
        return dF


@family(
    "responses normalised by mean and deviation, ε = {value}",
    "The losses compare (F − μ) / √(σ² + ε) with μ and σ of each filter, as after instance "
    "normalisation.",
    Values(1e-3, 100),
    in_targets=True,
)
class _Normalised(_Compared):
    def changed(self, F: Array) -> Array:
        changed: Array = (F - F.mean(axis=(1, 2), keepdims=True)) / self.deviation_of(F)
        return changed

    def deviation_of(self, F: Array) -> Array:
        """Return √(σ² + ε) of each filter."""
        deviation: Array = np.sqrt(F.var(axis=(1, 2), keepdims=True) + self.value)
        return deviation

    def changed_backward(self, dU: Array, F: Array) -> Array:
        U = self.changed(F)
        mean = dU.mean(axis=(1, 2), keepdims=True)
        along = (U * dU).mean(axis=(1, 2), keepdims=True)
        dF: Array = (dU - mean - U * along) / self.deviation_of(F)
        return dF


@family(
    "loss at {place} computed before the ReLU",
    "The losses of one layer compare Z instead of F = max(0, Z).",
    in_targets=True,
)
class _BeforeTheReLU(FamilyPieces):
    @classmethod
    def places(cls, case: Case) -> Sequence[str]:
        return case.objective.layers

    def compared(self, forward_pass: ForwardPass) -> Mapping[str, Array]:
        return {**forward_pass.F, self.place: forward_pass.Z[self.place]}

    def dZ(self, layer: str, deeper: Array | None, seed: Array | None) -> Array:
        if layer != self.place or seed is None:
            return super().dZ(layer, deeper, seed)
        # The gradient of the layer's own loss does not cross the ReLU.
        passed: Array = np.where(self.image.F[layer] > 0, self.accumulate(deeper, seed), seed)
        return passed
