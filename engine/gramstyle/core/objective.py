"""Equation 7 as a function of the pixels: the loss and its gradient in one call."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from gramstyle.core import losses
from gramstyle.core.arrays import Array, namespace
from gramstyle.core.conventions import PAPER, Convention
from gramstyle.core.kernels import Area, Kernels, PlainKernels
from gramstyle.core.network import AddSeed, Network, Responses
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.errors import NonFiniteError, OptionError

# Runs a network on its input v (3, H, V) and returns the responses of all its layers.
Forward = Callable[[Array], Responses]

# Carries the derivatives by its responses down to its input, as `Network.backward` does.
Backward = Callable[[Responses, AddSeed], Array]


class Recall(Protocol):
    """How to come back to a forward pass when others have been run since."""

    def left(self, H: int, V: int) -> Sequence[Array]:
        """Return the flat arrays that the last forward pass over an input (3, H, V) has left.

        Filled again with what was in them, `again` needs nothing else; they are the engine's own.
        """

    def again(self, v: Array) -> Responses:
        """Return what forward(v) has returned; `left` may be filled meanwhile, or before."""


@dataclass(frozen=True)
class Sums:
    """What the loss terms add up over positions: of an image, or of a part of one.

    Equations 1 and 3 are sums over positions and everything after them is not: an image's sums
    are those of its parts, added.

    Attributes
    ----------
    content
        ½ Σ (F − P)² (equation 1); 0 without a photograph.
    gram
        G = F Fᵀ (equation 3) by style layer.
    """

    content: float
    gram: Mapping[str, Array]

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.content + other.content,
            {name: G + other.gram[name] for name, G in self.gram.items()},
        )


@dataclass(frozen=True)
class Terms:
    """The losses at one image.

    Attributes
    ----------
    loss
        L_total = α L_content + β L_style (equation 7).
    content
        L_content (equation 1, as the convention scales it), without α; 0 without a photograph.
    style
        E_l by layer (equation 4, likewise), without w_l and β.
    style_loss
        L_style = Σ w_l E_l (equation 5), without β.
    """

    loss: float
    content: float
    style: Mapping[str, float]
    style_loss: float


@dataclass(frozen=True)
class Evaluation(Terms):
    """The objective at one image: its losses and their derivative.

    Attributes
    ----------
    gradient
        ∂L_total/∂x, shape (3, H, W): the derivative by each pixel value on the scale 0..255.
    """

    gradient: Array

    @classmethod
    def of(cls, terms: Terms, gradient: Array) -> "Evaluation":
        """Return these losses with their gradient."""
        return cls(terms.loss, terms.content, terms.style, terms.style_loss, gradient)


@dataclass(frozen=True)
class ContentTarget:
    """The layer at which content is compared, and the photograph's responses P (N, H, V) there.

    Where tiles keep P for themselves, it has no positions here: (N, 0, 0).
    """

    layer: str
    P: Array


@dataclass(frozen=True)
class StyleTarget:
    """A layer's Gram matrix A (N, N) of the artwork, summed over M of the artwork's positions."""

    A: Array
    M: int


@dataclass(frozen=True)
class Weights:
    """What the terms of equations 5 and 7 are multiplied by.

    Attributes
    ----------
    alpha, beta
        The weights α and β of the content loss and of the style loss.
    w
        The weight w_l of each style layer.
    """

    alpha: float
    beta: float
    w: Mapping[str, float]


def style_targets(
    responses: Responses, names: tuple[str, ...], *, kernels: Kernels | None = None
) -> dict[str, StyleTarget]:
    """Return the Gram matrices of an artwork's responses at the named layers."""
    step = PlainKernels() if kernels is None else kernels
    return {
        name: StyleTarget(A=step.gram(responses[name]), M=_positions(responses[name]))
        for name in names
    }


@dataclass(frozen=True, kw_only=True)
class Objective:
    """L_total and its gradient for one photograph, one artwork and one choice of weights.

    Attributes
    ----------
    network
        The network down which the gradient is carried; at least up to the deepest layer in use.
    preprocessing
        The step from pixels to the network's input.
    content
        What the content is compared with; None leaves L_content out.
    style
        The artwork's Gram matrices by layer; with none L_style is left out.
    weights
        α, β and w_l.
    convention
        What equations 1 and 4 are multiplied by; the paper's have 1.
    forward
        What computes the responses, `network.forward` by default. It must run this network, and
        need give those layers only that a loss term or `backward` looks at.
    kernels
        How to compute the heavy steps; plainly by default.
    backward
        What carries the derivatives down, `network.backward` with these kernels by default.

    Raises
    ------
    OptionError
        If there is neither content nor style.
    """

    network: Network
    preprocessing: Preprocessing
    content: ContentTarget | None
    style: Mapping[str, StyleTarget]
    weights: Weights
    convention: Convention = PAPER
    forward: Forward | None = None
    kernels: Kernels = field(default_factory=PlainKernels)
    backward: Backward | None = None

    def __post_init__(self) -> None:
        """Check that there is something to compare."""
        if not self.layers:
            raise OptionError("there is nothing to compare with; give a photograph or an artwork")

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that a loss term looks at."""
        content = () if self.content is None else (self.content.layer,)
        return (*content, *self.style)

    def alone(self, layer: str | None) -> "Objective":
        """Return the objective with one term left, weighted as before: E_l, or None for content.

        Raises
        ------
        OptionError
            If it has a `backward` of its own, which begins at the deepest of all its layers.
        """
        if self.backward is not None:
            raise OptionError("this engine's terms cannot be taken apart; choose the engine numpy")
        if layer is None:
            return replace(self, style={})
        return replace(self, content=None, style={layer: self.style[layer]})

    def loss_and_gradient(self, x: Array) -> Evaluation:
        """Evaluate equation 7 and its derivative at the pixels x (3, H, W), RGB, 0..255.

        Raises
        ------
        NonFiniteError
            If a loss is NaN or infinite, naming the first layer whose responses are.
        """
        network = self.network.until(self.layers)
        forward = network.forward if self.forward is None else self.forward
        responses = forward(self.preprocessing.forward(x))
        M = {name: _positions(responses[name]) for name in self.layers}
        P = None if self.content is None else self.content.P

        sums = self.sums(responses, P)
        terms = self.terms(sums, M)
        if not math.isfinite(terms.loss):
            raise NonFiniteError(where_not_finite(responses))
        dv = self.carry_down(responses, self.seeds(responses, P, sums, M))
        return Evaluation.of(terms, self.preprocessing.backward(dv))

    def sums(
        self, responses: Responses, P: Array | None, owned: Mapping[str, Area] | None = None
    ) -> Sums:
        """Add up equations 1 and 3 over positions.

        Parameters
        ----------
        responses
            Of an image, or of a part of it.
        P
            What they are compared with at the content layer, in the shape of its owned positions.
        owned
            Which rows and columns count, by layer; all of them by default.
        """
        content = 0.0
        if self.content is not None and P is not None:
            F = part_of(responses[self.content.layer], owned, self.content.layer)
            content = losses.content_loss(F, P)  # eq. 1
        gram = {
            name: self.kernels.gram(responses[name], None if owned is None else owned[name])
            for name in self.style
        }  # eq. 3
        return Sums(content, gram)

    def terms(self, sums: Sums, M: Mapping[str, int]) -> Terms:
        """Evaluate equations 4, 5 and 7 for the sums of a whole image with M_l positions."""
        content = 0.0
        if self.content is not None:
            content = self._content_factor(M) * sums.content
        A = self._gram_targets(M)
        E = {
            name: self.convention.style_factor
            * losses.style_loss(G, A[name], A[name].shape[0], M[name])
            for name, G in sums.gram.items()
        }  # eq. 4
        style = losses.total_style_loss(E, {name: self.weights.w[name] for name in E})  # eq. 5
        loss = losses.total_loss(content, style, self.weights.alpha, self.weights.beta)  # eq. 7
        return Terms(loss, content, E, style)

    def seeds(
        self,
        responses: Responses,
        P: Array | None,
        sums: Sums,
        M: Mapping[str, int],
        owned: Mapping[str, Area] | None = None,
    ) -> AddSeed:
        """Return what adds the derivative of the loss by a layer's responses: equations 2 and 6.

        Parameters
        ----------
        responses, P, owned
            As for `sums`; elsewhere than at owned positions nothing is added.
        sums, M
            As for `terms`: of the whole image, whatever the responses are of.
        """
        alpha, beta, w = self.weights.alpha, self.weights.beta, self.weights.w
        A = self._gram_targets(M)

        def add_seed(name: str, dF: Array | None) -> Array:
            """Add what the loss terms that look at this layer want of its responses."""
            F, area = responses[name], None if owned is None else owned[name]
            if name in self.style:
                weight = beta * w[name] * self.convention.style_factor
                dF = self.kernels.add_style_gradient(
                    dF, F, sums.gram[name], A[name], M[name], weight, area
                )
            if self.content is not None and name == self.content.layer:
                assert P is not None  # noqa: S101 - as in `sums`
                weight = alpha * self._content_factor(M)
                dF = self.kernels.add_content_gradient(dF, F, P, weight, area)
            assert dF is not None  # noqa: S101 - the network ends at a layer that is looked at
            return dF

        return add_seed

    def carry_down(self, responses: Responses, add_seed: AddSeed) -> Array:
        """Return dv: the backward pass of `backward`."""
        if self.backward is not None:
            return self.backward(responses, add_seed)
        return self.network.until(self.layers).backward(responses, add_seed, kernels=self.kernels)

    def _content_factor(self, M: Mapping[str, int]) -> float:
        assert self.content is not None  # noqa: S101 - asked for by a content term
        name = self.content.layer
        return self.convention.content_factor(self.content.P.shape[0], M[name])

    def _gram_targets(self, M: Mapping[str, int]) -> dict[str, Array]:
        """Return A by layer, rescaled to as many positions as the generated image has.

        Differs from Gatys et al. (2015) where the artwork and the photograph differ in size:
        equation 4 has one M. Here each Gram matrix is divided by its own.
        """
        return {name: target.A * (M[name] / target.M) for name, target in self.style.items()}


def where_not_finite(responses: Responses) -> str:
    """Say which layer's responses are not finite, or that it is the loss alone."""
    for name, F in responses.items():
        xp = namespace(F)
        if not bool(xp.all(xp.isfinite(F))):
            return f"the responses of layer {name} are not finite; is the model file sound?"
    return "the loss is not finite; choose smaller --alpha, --beta or --style-weights"


def part_of(F: Array, owned: Mapping[str, Area] | None, name: str) -> Array:
    """Return the owned positions of a layer's responses."""
    if owned is None:
        return F
    rows, columns = owned[name]
    return F[:, rows, columns]


def _positions(F: Array) -> int:
    return int(F.shape[1] * F.shape[2])
