"""Equation 7 as a function of the pixels: the loss and its gradient in one call."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gramstyle import losses
from gramstyle.arrays import Array, namespace
from gramstyle.errors import NonFiniteError
from gramstyle.kernels import Kernels, PlainKernels
from gramstyle.network import Network, Responses
from gramstyle.preprocessing import Preprocessing

# Runs a network on its input v (3, H, V) and returns the responses of all its layers.
Forward = Callable[[Array], Responses]


@dataclass(frozen=True)
class Evaluation:
    """The objective at one picture.

    Attributes
    ----------
    loss
        L_total = α L_content + β L_style (equation 7).
    content
        L_content (equation 1), without α.
    style
        E_l by layer (equation 4), without w_l and β.
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


class Objective:
    """L_total and its gradient for one photograph, one artwork and one choice of weights.

    Parameters
    ----------
    network
        The network down which the gradient is carried, cut off at the deepest layer in use.
    preprocessing
        The step from pixels to the network's input.
    content_layer, P
        The layer at which content is compared, and the photograph's responses there (N, H, V).
    style
        The artwork's Gram matrices by layer.
    weights
        α, β and w_l.
    forward
        What computes the responses, `network.forward` by default. It must run this network.
    kernels
        How to compute the heavy steps; plainly by default.
    """

    def __init__(
        self,
        network: Network,
        preprocessing: Preprocessing,
        *,
        content_layer: str,
        P: Array,
        style: Mapping[str, StyleTarget],
        weights: Weights,
        forward: Forward | None = None,
        kernels: Kernels | None = None,
    ) -> None:
        self._network = network
        self._preprocessing = preprocessing
        self._content_layer = content_layer
        self._P = P
        self._style = style
        self._weights = weights
        self._forward = network.forward if forward is None else forward
        self._kernels = PlainKernels() if kernels is None else kernels

    def loss_and_gradient(self, x: Array) -> Evaluation:
        """Evaluate equation 7 and its derivative at the pixels x (3, H, W), RGB, 0..255.

        Raises
        ------
        NonFiniteError
            If a loss is NaN or infinite, naming the first layer whose responses are.
        """
        alpha, beta, w = self._weights.alpha, self._weights.beta, self._weights.w
        responses = self._forward(self._preprocessing.forward(x))

        content = losses.content_loss(responses[self._content_layer], self._P)  # eq. 1
        G = {name: self._kernels.gram(responses[name]) for name in self._style}  # eq. 3
        A, M = self._gram_targets(responses)
        E = {
            name: losses.style_loss(G[name], A[name], len(A[name]), M[name]) for name in G
        }  # eq. 4
        style = losses.total_style_loss(E, w)  # eq. 5
        loss = losses.total_loss(content, style, alpha, beta)  # eq. 7
        if not math.isfinite(loss):
            raise NonFiniteError(self._where_not_finite(responses))

        def add_seed(name: str, dF: Array | None) -> Array:
            """Add what the loss terms that look at this layer want of its responses."""
            F = responses[name]
            if name in w:
                dF = self._kernels.add_style_gradient(
                    dF, F, G[name], A[name], M[name], beta * w[name]
                )
            if name == self._content_layer:
                dF = self._kernels.add_content_gradient(dF, F, self._P, alpha)
            assert dF is not None  # noqa: S101 - the network ends at a layer that is looked at
            return dF

        dv = self._network.backward(responses, add_seed, kernels=self._kernels)
        return Evaluation(loss, content, E, style, self._preprocessing.backward(dv))

    def _gram_targets(self, responses: Responses) -> tuple[dict[str, Array], dict[str, int]]:
        """Return A and M by layer, A rescaled to as many positions as the generated image has.

        Differs from Gatys et al. (2015) where the artwork and the photograph differ in size:
        equation 4 has one M. Here each Gram matrix is divided by its own.
        """
        M = {name: _positions(responses[name]) for name in self._style}
        A = {name: target.A * (M[name] / target.M) for name, target in self._style.items()}
        return A, M

    def _where_not_finite(self, responses: Responses) -> str:
        for name in self._network.names:
            F = responses[name]
            if not namespace(F).isfinite(F).all():
                return f"the responses of layer {name} are not finite; is the model file sound?"
        return "the loss is not finite; choose smaller --alpha, --beta or --style-weights"


def _positions(F: Array) -> int:
    return int(F.shape[1] * F.shape[2])
