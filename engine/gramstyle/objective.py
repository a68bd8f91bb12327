"""Equation 7 as a function of the pixels: the loss and its gradient in one call."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from gramstyle import losses
from gramstyle.arrays import Array, namespace
from gramstyle.conventions import PAPER, Convention
from gramstyle.errors import NonFiniteError, OptionError
from gramstyle.kernels import Kernels, PlainKernels
from gramstyle.network import AddSeed, Network, Responses
from gramstyle.preprocessing import Preprocessing

# Runs a network on its input v (3, H, V) and returns the responses of all its layers.
Forward = Callable[[Array], Responses]

# Carries the derivatives by its responses down to its input, as `Network.backward` does.
Backward = Callable[[Responses, AddSeed], Array]


@dataclass(frozen=True)
class Evaluation:
    """The objective at one picture.

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
    gradient
        ∂L_total/∂x, shape (3, H, W): the derivative by each pixel value on the scale 0..255.
    """

    loss: float
    content: float
    style: Mapping[str, float]
    style_loss: float
    gradient: Array


@dataclass(frozen=True)
class ContentTarget:
    """The layer at which content is compared, and the photograph's responses P (N, H, V) there."""

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
        alpha, beta, w = self.weights.alpha, self.weights.beta, self.weights.w
        network = self.network.until(self.layers)
        forward = network.forward if self.forward is None else self.forward
        responses = forward(self.preprocessing.forward(x))

        content, content_factor = 0.0, 0.0
        if self.content is not None:
            F = responses[self.content.layer]
            content_factor = self.convention.content_factor(F.shape[0], _positions(F))
            content = content_factor * losses.content_loss(F, self.content.P)  # eq. 1
        style_factor = self.convention.style_factor
        G = {name: self.kernels.gram(responses[name]) for name in self.style}  # eq. 3
        A, M = self._gram_targets(responses)
        E = {
            name: style_factor * losses.style_loss(G[name], A[name], A[name].shape[0], M[name])
            for name in G
        }  # eq. 4
        style = losses.total_style_loss(E, {name: w[name] for name in E})  # eq. 5
        loss = losses.total_loss(content, style, alpha, beta)  # eq. 7
        if not math.isfinite(loss):
            raise NonFiniteError(self._where_not_finite(responses))

        def add_seed(name: str, dF: Array | None) -> Array:
            """Add what the loss terms that look at this layer want of its responses."""
            F = responses[name]
            if name in self.style:
                dF = self.kernels.add_style_gradient(
                    dF, F, G[name], A[name], M[name], beta * w[name] * style_factor
                )
            if self.content is not None and name == self.content.layer:
                dF = self.kernels.add_content_gradient(
                    dF, F, self.content.P, alpha * content_factor
                )
            assert dF is not None  # noqa: S101 - the network ends at a layer that is looked at
            return dF

        backward = self.backward or partial(network.backward, kernels=self.kernels)
        dv = backward(responses, add_seed)
        return Evaluation(loss, content, E, style, self.preprocessing.backward(dv))

    def _gram_targets(self, responses: Responses) -> tuple[dict[str, Array], dict[str, int]]:
        """Return A and M by layer, A rescaled to as many positions as the generated image has.

        Differs from Gatys et al. (2015) where the artwork and the photograph differ in size:
        equation 4 has one M. Here each Gram matrix is divided by its own.
        """
        M = {name: _positions(responses[name]) for name in self.style}
        A = {name: target.A * (M[name] / target.M) for name, target in self.style.items()}
        return A, M

    def _where_not_finite(self, responses: Responses) -> str:
        for name, F in responses.items():
            xp = namespace(F)
            if not bool(xp.all(xp.isfinite(F))):
                return f"the responses of layer {name} are not finite; is the model file sound?"
        return "the loss is not finite; choose smaller --alpha, --beta or --style-weights"


def _positions(F: Array) -> int:
    return int(F.shape[1] * F.shape[2])
