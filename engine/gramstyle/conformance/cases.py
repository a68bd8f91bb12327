"""One case: an objective, an image, and the float64 truth of loss and gradients there."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from gramstyle.core.arrays import Array
from gramstyle.core.kernels import Area, Pooling
from gramstyle.core.network import Network
from gramstyle.core.objective import Objective


@dataclass(frozen=True)
class Answer:
    """What is compared: the loss, its gradient at the pixels, and by the layers' responses.

    Attributes
    ----------
    loss
        L_total.
    gradient
        ∂L/∂x, (3, H, V).
    dF
        ∂L/∂F by layer, each (N, H, V), everything that reaches the layer added up. Compared only
        where F > 0: elsewhere the ReLU stops it, and some count it before and some behind.
    """

    loss: float
    gradient: Array
    dF: Mapping[str, Array]


@dataclass(frozen=True, kw_only=True)
class Case:
    """An image x, and an objective that says everything else.

    Attributes
    ----------
    name
        Lower-case words with hyphens.
    pins
        Which convention the case pins, in a sentence.
    objective
        In float64, computed plainly: the network with its weights, the preprocessing, P, A with
        its M, α, β, w and the convention.
    x, p, a
        The image, and the photograph and the artwork that P and A are of, (3, H, V), RGB,
        0..255; p or a is None where the objective lacks that term.
    """

    name: str
    pins: str
    objective: Objective
    x: Array = field(repr=False)
    p: Array | None = field(repr=False)
    a: Array | None = field(repr=False)

    @property
    def network(self) -> Network:
        """The network, cut off above the deepest layer that the loss looks at."""
        return self.objective.network.until(self.objective.layers)

    @cached_property
    def responses(self) -> dict[str, Array]:
        """F of every layer at x, in float64."""
        forward = self.objective.forward or self.network.forward
        return dict(forward(self.objective.preprocessing.forward(self.x)))

    @cached_property
    def truth(self) -> Answer:
        """The answer in float64, by the hand-derived backward pass."""
        return answer(self.objective, self.x)


def answer(objective: Objective, x: Array) -> Answer:
    """Evaluate an objective at x and keep every dF of the pass."""
    recorder = Recorder(objective)
    evaluation = replace(objective, kernels=recorder).loss_and_gradient(x)
    return Answer(evaluation.loss, evaluation.gradient, recorder.dF)


class Recorder:
    """Kernels that do each step as the objective's own do, and keep a copy of every dF."""

    def __init__(self, objective: Objective) -> None:
        self._step = objective.kernels
        self._above = list(objective.network.until(objective.layers).names)
        self.dF: dict[str, Array] = {}

    def gram(self, F: Array, owned: Area | None = None) -> Array:
        """Equation 3."""
        return self._step.gram(F, owned)

    def add_style_gradient(
        self,
        dF: Array | None,
        F: Array,
        G: Array,
        A: Array,
        M: int,
        weight: float,
        owned: Area | None = None,
    ) -> Array:
        """dF + weight · equation 6."""
        return self._step.add_style_gradient(dF, F, G, A, M, weight, owned)

    def add_content_gradient(
        self, dF: Array | None, F: Array, P: Array, weight: float, owned: Area | None = None
    ) -> Array:
        """dF + weight · equation 2."""
        return self._step.add_content_gradient(dF, F, P, weight, owned)

    def convolution_backward(self, dF: Array, F: Array, W: Array) -> Array:
        """Keep dF, then cross the layer."""
        self._keep(dF)
        return self._step.convolution_backward(dF, F, W)

    def pool_backward(self, dY: Array, X: Array, kind: Pooling) -> Array:
        """Keep dY, then cross the pooling."""
        self._keep(dY)
        return self._step.pool_backward(dY, X, kind)

    def release(self, F: Array) -> None:
        """Pass it on."""
        self._step.release(F)

    def backward_ends(self) -> None:
        """Pass it on."""
        self._step.backward_ends()

    def _keep(self, dF: Array) -> None:
        self.dF[self._above.pop()] = dF.copy()
