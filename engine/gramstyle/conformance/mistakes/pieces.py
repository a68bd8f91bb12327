"""Equation 7 at a case's image, taken apart so that one piece can be replaced by a wrong one.

`Pieces` says again, plainly and in float64, what `objective.Objective` says. A mistake is a
subclass with one method written as people write it by mistake; everything else stays right.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from gramstyle.conformance.cases import Answer, Case
from gramstyle.conformance.comparing import measure
from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.core.kernels import Pooling
from gramstyle.core.network import Convolution

# What a mistake must change of some quantity, relatively, or it is not there: float64 leaves 1e-15.
VISIBLE = 1e-11


@dataclass(frozen=True)
class Mistake:
    """One known mistake.

    Attributes
    ----------
    name
        In a few words, as a report names it.
    sentence
        What is written, and what it should be.
    plant
        The answer to a case with exactly this mistake, in float64; None where it changes nothing,
        or cannot be made.
    """

    name: str
    sentence: str
    plant: Callable[[Case], Answer | None]


@dataclass(frozen=True)
class Pass:
    """What an image gives in one forward pass, by layer: Z before the ReLU, and F behind it.

    A pooling has no ReLU: there the two are one.
    """

    Z: Mapping[str, Array]
    F: Mapping[str, Array]


class Pieces:
    """Loss, gradient and dF of one case, by methods that each do one step.

    Parameters
    ----------
    case
        What to evaluate.
    own_targets
        Compute P and A anew from the photograph and the artwork, with these pieces; otherwise they
        are the case's.
    """

    def __init__(self, case: Case, *, own_targets: bool = False) -> None:
        self.case = case
        self.own_targets = own_targets
        self.network = case.network
        self.preprocessing = case.objective.preprocessing
        self.convention = case.objective.convention
        self.p, self.a = case.p, case.a
        weights = case.objective.weights
        self.alpha, self.beta, self.w = weights.alpha, weights.beta, dict(weights.w)
        self.choose()

    def choose(self) -> None:
        """Choose other weights or other images."""

    def possible(self) -> bool:
        """Whether the mistake can be made on this case at all; shapes may forbid it."""
        return True

    def answer(self) -> Answer:
        """Evaluate loss and gradients."""
        loss, seeds = self.loss(), self.seeds()
        dv, dF = self.backward(seeds)
        return Answer(loss, self.finish(self.preprocess_backward(dv)), dF)

    # The images' responses

    @cached_property
    def image(self) -> Pass:
        """The forward pass of x."""
        return self.forward(self.preprocess(self.case.x))

    @cached_property
    def photograph(self) -> Pass:
        """The forward pass of the photograph."""
        assert self.p is not None  # noqa: S101 - asked for where there is a content loss only
        return self.forward(self.preprocess(self.p))

    @cached_property
    def artwork(self) -> Pass:
        """The forward pass of the artwork."""
        assert self.a is not None  # noqa: S101 - asked for where there is a style loss only
        return self.forward(self.preprocess(self.a))

    def seen(self, backward_pass: Pass) -> Mapping[str, Array]:
        """Return what the losses look at."""
        return backward_pass.F

    @property
    def F(self) -> Mapping[str, Array]:
        """The image's responses by layer, (N, H, V), as the losses see them."""
        return self.seen(self.image)

    @property
    def artwork_responses(self) -> Mapping[str, Array]:
        """The artwork's."""
        return self.seen(self.artwork)

    # Between the pixels and the network's input

    def preprocess(self, x: Array) -> Array:
        """Take pixels to the network's input."""
        return self.preprocessing.forward(x)

    def preprocess_backward(self, dv: Array) -> Array:
        """Take the gradient by the input to the gradient by the pixels."""
        return self.preprocessing.backward(dv)

    def finish(self, gradient: Array) -> Array:
        """Do to the gradient what is done before it is handed back: nothing."""
        return gradient

    # The content loss, without α

    @property
    def content_layer(self) -> str | None:
        """Where content is compared."""
        content = self.case.objective.content
        return None if content is None else content.layer

    def content_factor(self) -> float:
        """Return what the convention multiplies equations 1 and 2 by."""
        N, M = self.difference.shape[0], self.difference[0].size
        return self.convention.content_factor(N, M)

    @cached_property
    def difference(self) -> Array:
        """F − P at the content layer."""
        content = self.case.objective.content
        assert content is not None  # noqa: S101 - asked for where there is a content loss only
        P = self.seen(self.photograph)[content.layer] if self.own_targets else content.P
        return self.F[content.layer] - P

    def content_loss(self) -> float:
        """Equation 1."""
        return self.content_factor() * 0.5 * float(np.sum(self.difference**2))

    def content_gradient(self) -> Array:
        """Equation 2, its mask left to the pass."""
        return self.content_factor() * self.difference

    # The style loss of one layer, without w_l and β

    def M(self, layer: str) -> int:
        """Return the image's positions at a layer."""
        return int(self.F[layer][0].size)

    def artwork_positions(self, layer: str) -> int:
        """Return the artwork's positions at a layer."""
        return self.case.objective.style[layer].M

    def gram(self, F: Array) -> Array:
        """Equation 3."""
        flat = F.reshape(len(F), -1)
        return flat @ flat.T

    def A(self, layer: str) -> Array:
        """Return the artwork's Gram matrix."""
        target = self.case.objective.style[layer]
        return self.gram(self.artwork_responses[layer]) if self.own_targets else target.A

    def D(self, layer: str) -> Array:
        """G − A, with A rescaled to as many positions as G has."""
        rescale = self.M(layer) / self.artwork_positions(layer)
        return self.gram(self.F[layer]) - self.A(layer) * rescale

    def style_factor(self, layer: str) -> float:
        """1 / (4 N² M²), times what the convention multiplies equations 4 and 6 by."""
        N, M = len(self.F[layer]), self.M(layer)
        return self.convention.style_factor / (4.0 * N**2 * M**2)

    def style_loss(self, layer: str) -> float:
        """Equation 4."""
        return self.style_factor(layer) * float(np.sum(self.D(layer) ** 2))

    def style_gradient(self, layer: str) -> Array:
        """Equation 6, its mask left to the pass: the 4 is that of the two squares' derivative."""
        product = np.tensordot(self.D(layer), self.F[layer], axes=1)
        return 4.0 * self.style_factor(layer) * product

    # Equations 5 and 7

    def loss(self) -> float:
        """α L_content + β Σ w_l E_l."""
        content = self.alpha * self.content_loss() if self.content_layer else 0.0
        style = sum(self.w[name] * self.style_loss(name) for name in self.case.objective.style)
        return content + self.beta * style

    def seeds(self) -> dict[str, Array]:
        """Return the derivative of the loss terms by the responses they look at, by layer."""
        result = {
            name: self.beta * self.w[name] * self.style_gradient(name)
            for name in self.case.objective.style
        }
        if self.content_layer:
            seed = self.alpha * self.content_gradient()
            result[self.content_layer] = seed + result.get(self.content_layer, 0.0)
        return result

    # The network forward and backward

    def forward(self, v: Array) -> Pass:
        """Return the responses of every layer."""
        before, behind, F = {}, {}, v
        for layer in self.network.layers:
            if isinstance(layer, Convolution):
                before[layer.name] = self.convolution(F, layer.W, layer.b)
                F = layers.relu_forward(before[layer.name])
            else:
                F = before[layer.name] = self.pool(F, layer.kind)
            behind[layer.name] = F
        return Pass(before, behind)

    def backward(self, seeds: Mapping[str, Array]) -> tuple[Array, dict[str, Array]]:
        """Return the derivative by the network's input, and dF of every layer."""
        result: dict[str, Array] = {}
        dF: Array | None = None
        chain = self.network.layers
        for layer, below in reversed(list(zip(chain, (None, *chain[:-1]), strict=True))):
            above, seed = dF, seeds.get(layer.name)
            dF = result[layer.name] = self.gather(above, seed)
            if isinstance(layer, Convolution):
                dF = self.convolution_backward(self.dZ(layer.name, above, seed), layer.W)
            else:
                assert below is not None  # noqa: S101 - a network starts with a convolution
                dF = self.pool_backward(dF, self.image.F[below.name], layer.kind)
        assert dF is not None  # noqa: S101 - a network has at least one layer
        return dF, result

    def gather(self, above: Array | None, seed: Array | None) -> Array:
        """Add up what comes from above and what the layer's own loss terms want."""
        if above is None or seed is None:
            there = seed if above is None else above
            assert there is not None  # noqa: S101 - the deepest layer has a loss term
            return there
        return above + seed

    def convolution(self, X: Array, W: Array, b: Array) -> Array:
        """Forward through a convolution."""
        return layers.conv2d_forward(X, W, b)

    def convolution_backward(self, dZ: Array, W: Array) -> Array:
        """Backward through a convolution."""
        return layers.conv2d_backward(dZ, W)

    def dZ(self, layer: str, above: Array | None, seed: Array | None) -> Array:
        """Backward through a layer's ReLU, for what comes from above and the layer's own loss."""
        return self.relu_backward(self.gather(above, seed), layer)

    def relu_backward(self, dF: Array, layer: str) -> Array:
        """Backward through a layer's ReLU."""
        return layers.relu_backward(dF, self.image.F[layer])

    def pool(self, X: Array, kind: Pooling) -> Array:
        """Forward through a pooling."""
        return layers.max_pool_forward(X) if kind == "max" else layers.avg_pool_forward(X)

    def pool_backward(self, dY: Array, X: Array, kind: Pooling) -> Array:
        """Backward through a pooling."""
        if kind == "max":
            return self.max_pool_backward(dY, X)
        return self.avg_pool_backward(dY, X)

    def max_pool_backward(self, dY: Array, X: Array) -> Array:
        """Backward through a max pooling."""
        return layers.max_pool_backward(dY, X)

    def avg_pool_backward(self, dY: Array, X: Array) -> Array:
        """Backward through an average pooling."""
        return layers.avg_pool_backward(dY, X)


def planted(pieces: type[Pieces], case: Case, *, own_targets: bool = False) -> Answer | None:
    """Answer a case with wrong pieces; None where that is impossible, or changes nothing."""
    wrong = pieces(case, own_targets=own_targets)
    if not wrong.possible():
        return None
    found = wrong.answer()
    return found if deviation(case, found) > VISIBLE else None


def deviation(case: Case, found: Answer) -> float:
    """Return the largest relative deviation from the truth, dF taken where F > 0."""
    truth = case.truth
    pairs = [(np.asarray(found.loss), np.asarray(truth.loss)), (found.gradient, truth.gradient)]
    for layer, dF in truth.dF.items():
        open_ = case.responses[layer] > 0
        pairs.append((found.dF[layer][open_], dF[open_]))
    return max(measure("", "", *pair, "float64").relative for pair in pairs)


REGISTERED: dict[str, Mistake] = {}


def mistake(
    name: str, sentence: str, *, in_targets: bool = False
) -> Callable[[type[Pieces]], type[Pieces]]:
    """Register wrong pieces as a mistake.

    Parameters
    ----------
    name, sentence
        As `Mistake` has them.
    in_targets
        The mistake changes responses, so that it is another one if P and A are made with it too:
        register that under a second name.
    """

    def register(pieces: type[Pieces]) -> type[Pieces]:
        REGISTERED[name] = Mistake(name, sentence, partial(planted, pieces))
        if in_targets:
            also = f"{name}, P and A too"
            plant = partial(planted, pieces, own_targets=True)
            REGISTERED[also] = Mistake(also, f"{sentence} P and A are made so too.", plant)
        return pieces

    return register
