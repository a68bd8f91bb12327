"""The evaluation of a case in small steps, any one of which a mistake replaces.

`Pieces` computes in float64 and plainly what `objective.Objective` computes. A mistake is a
subclass with one method written as people write it by mistake; everything else stays correct.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gramstyle.conformance.cases import Answer, Case
from gramstyle.conformance.mistakes.region_pieces import RegionPieces
from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.core.kernels import Pooling
from gramstyle.core.mean_std import EPSILON
from gramstyle.core.network import Convolution
from gramstyle.core.terms import StyleTerm
from gramstyle.core.total_variation import total_variation, total_variation_gradient


@dataclass(frozen=True)
class ForwardPass:
    """The forward pass of one image, by layer: Z before the ReLU, and F after it.

    A pooling has no ReLU: its Z and F are equal.
    """

    Z: Mapping[str, Array]
    F: Mapping[str, Array]


class Pieces(RegionPieces):
    """Loss, gradient and dF of one case, by methods that each do one step.

    This constructor alone reads the objective of the case.

    Parameters
    ----------
    case
        The case to evaluate.
    own_targets
        Whether to compute P and A from the content and style images with these pieces; otherwise
        they are those of the case.
    """

    def __init__(self, case: Case, *, own_targets: bool = False) -> None:
        content, statistics = case.content, case.statistics
        style = {n: term for n, term in case.style_terms.items() if isinstance(term, StyleTerm)}
        self.network, self.preprocessing = case.network, case.preprocessing
        self.padding = case.padding
        self.x, self.p, self.a = case.x, case.p, case.a
        self.own_targets = own_targets
        self.content_layer = None if content is None else content.layer
        self.case_P = None if content is None else content.P
        self.case_A = {name: np.asarray(term.A) for name, term in style.items()}
        # The number of positions of the style image at each style layer.
        self.M_a = {name: term.M for name, term in style.items()}
        self.alpha, self.beta, self.tv = case.alpha, case.beta, case.tv
        self.w = {name: term.weight for name, term in case.style_terms.items()}
        # The other style losses: the statistic of each layer, and its target.
        self.statistics = {name: each.statistic for name, each in statistics.items()}
        self.case_S = {name: each.A for name, each in statistics.items()}
        self.convention = case.convention
        # The style terms of regions, and the guidance (R, h, v) in the style image.
        self.guided, self.guidance = case.guided_terms, case.guidance
        self.w |= {name: term.weight for name, term in self.guided.items()}
        self.configure()

    def configure(self) -> None:
        """Change weights, images or preprocessing before the evaluation."""

    def possible(self) -> bool:
        """Return whether the mistake can be made on this case; shapes may forbid it."""
        return True

    def answer(self) -> Answer:
        """Return the loss and its gradients."""
        loss = self.loss()
        dv, dF = self.backward(self.seeds())
        gradient = self.preprocess_backward(dv)
        if self.tv:
            gradient = gradient + self.tv * total_variation_gradient(self.x)
        return Answer(loss, self.finish(gradient), dF)

    # The responses of the images

    @cached_property
    def image(self) -> ForwardPass:
        """The forward pass of x."""
        return self.forward(self.preprocess(self.x))

    @cached_property
    def content_image(self) -> ForwardPass:
        """The forward pass of the content image."""
        assert self.p is not None  # noqa: S101 - read only if there is a content loss
        return self.forward(self.preprocess(self.p))

    @cached_property
    def style_image(self) -> ForwardPass:
        """The forward pass of the style image."""
        assert self.a is not None  # noqa: S101 - read only if there is a style loss
        return self.forward(self.preprocess(self.a))

    def compared(self, forward_pass: ForwardPass) -> Mapping[str, Array]:
        """Return the responses that the losses compare."""
        return forward_pass.F

    @property
    def F(self) -> Mapping[str, Array]:
        """The responses of x that the losses compare, (N, H, V) by layer."""
        return self.compared(self.image)

    @property
    def style_responses(self) -> Mapping[str, Array]:
        """The responses of the style image that the losses compare, (N, H, V) by layer."""
        return self.compared(self.style_image)

    # Between the pixels and the network's input

    def preprocess(self, x: Array) -> Array:
        """Return the network's input v for pixels x."""
        return self.preprocessing.forward(x)

    def preprocess_backward(self, dv: Array) -> Array:
        """Return the gradient with respect to the pixels."""
        return self.preprocessing.backward(dv)

    def finish(self, gradient: Array) -> Array:
        """Return the gradient as the program returns it."""
        return gradient

    # The content loss, without α

    def content_factor(self) -> float:
        """Return the convention's factor of equations 1 and 2."""
        N, M = self.difference.shape[0], self.difference[0].size
        return self.convention.content_factor(N, M)

    @cached_property
    def difference(self) -> Array:
        """F − P at the content layer."""
        layer = self.content_layer
        assert layer is not None  # noqa: S101 - read only if there is a content loss
        P = self.compared(self.content_image)[layer] if self.own_targets else self.case_P
        return self.F[layer] - P

    def content_loss(self) -> float:
        """Return L_content (equation 1)."""
        return self.content_factor() * 0.5 * float(np.sum(self.difference**2))

    def content_gradient(self) -> Array:
        """Return ∂L_content/∂F (equation 2); the backward pass applies its mask."""
        return self.content_factor() * self.difference

    # The style loss of one layer, without w_l and β

    def M(self, layer: str) -> int:
        """Return the number of positions of x at a layer."""
        return int(self.F[layer][0].size)

    def gram(self, F: Array) -> Array:
        """Return the Gram matrix G = F Fᵀ (equation 3)."""
        flat = F.reshape(len(F), -1)
        return flat @ flat.T

    def A(self, layer: str) -> Array:
        """Return the Gram matrix of the style image."""
        return self.gram(self.style_responses[layer]) if self.own_targets else self.case_A[layer]

    def D(self, layer: str) -> Array:
        """Return G − A, with A rescaled to the number of positions of x."""
        rescale = self.M(layer) / self.M_a[layer]
        return self.gram(self.F[layer]) - self.A(layer) * rescale

    def style_factor(self, layer: str) -> float:
        """Return 1 / (4 N² M²), times the convention's factor of equations 4 and 6."""
        N, M = len(self.F[layer]), self.M(layer)
        return self.convention.style_factor / (4.0 * N**2 * M**2)

    def style_loss(self, layer: str) -> float:
        """Return E_l (equation 4)."""
        return self.style_factor(layer) * float(np.sum(self.D(layer) ** 2))

    def style_gradient(self, layer: str) -> Array:
        """Return ∂E_l/∂F (equation 6); the backward pass applies its mask."""
        return self.gram_gradient(layer, self.D(layer), self.F[layer])

    def gram_gradient(self, layer: str, D: Array, F: Array) -> Array:
        """Return 4 · style_factor · D F, where the 4 comes from the derivatives of two squares."""
        return 4.0 * self.style_factor(layer) * np.tensordot(D, F, axes=1)

    # The other style losses of one layer, without w_l and β

    def without_means(self, F: Array) -> Array:
        """Return F − μ as a matrix (N, M)."""
        flat = F.reshape(len(F), -1)
        mean: Array = flat.mean(axis=1, keepdims=True)
        return flat - mean

    def deviation(self, F: Array) -> Array:
        """Return σ of each filter, (N,)."""
        variance: Array = np.mean(self.without_means(F) ** 2, axis=1)
        deviation: Array = np.sqrt(variance + EPSILON)
        return deviation

    def covariance(self, F: Array) -> Array:
        """Return the covariance of the filters, (N, N)."""
        H = self.without_means(F)
        covariance: Array = H @ H.T / H.shape[1]
        return covariance

    def statistic(self, layer: str, F: Array) -> Array:
        """Return S: the rows μ and σ, or the covariance."""
        if self.statistics[layer] == "mean-std":
            return np.stack([F.mean(axis=(1, 2)), self.deviation(F)])
        return self.covariance(F)

    def statistic_difference(self, layer: str) -> Array:
        """Return S − A."""
        target = self.case_S[layer]
        if self.own_targets:
            target = self.statistic(layer, self.style_responses[layer])
        return self.statistic(layer, self.F[layer]) - target

    def statistic_factor(self, layer: str) -> float:
        """Return 1 / N for means and deviations, 1 / (4 N²) for covariances."""
        N = len(self.F[layer])
        return 1.0 / N if self.statistics[layer] == "mean-std" else 1.0 / (4 * N**2)

    def statistic_loss(self, layer: str) -> float:
        """Return factor · Σ (S − A)²."""
        D = self.statistic_difference(layer)
        return self.statistic_factor(layer) * float(np.sum(D**2))

    def statistic_gradient(self, layer: str) -> Array:
        """Return ∂E_l/∂F of a statistic; the backward pass applies its mask."""
        D, F = self.statistic_difference(layer), self.F[layer]
        if self.statistics[layer] == "mean-std":
            slope = D[0][:, None] + D[1][:, None] * self.deviation_slope(F)
        else:
            slope = 2 * D @ self.without_means(F)
        factor = 2 * self.statistic_factor(layer) / self.M(layer)
        gradient: Array = factor * slope.reshape(F.shape)
        return gradient

    def deviation_slope(self, F: Array) -> Array:
        """Return M · ∂σ_i/∂F_ik = (F_ik − μ_i) / σ_i, (N, M)."""
        slope: Array = self.without_means(F) / self.deviation(F)[:, None]
        return slope

    # Equations 5 and 7

    def loss(self) -> float:
        """Return α L_content + β Σ w_l E_l, plus the total variation where the case has it."""
        content = self.alpha * self.content_loss() if self.content_layer else 0.0
        style = sum(self.w[name] * self.style_loss(name) for name in self.case_A)
        style += sum(self.w[name] * self.statistic_loss(name) for name in self.statistics)
        style += sum(self.w[name] * self.regions_loss(name) for name in self.guided)
        tv = self.tv * total_variation(self.x) if self.tv else 0.0
        return content + self.beta * style + tv

    def terms(self) -> Iterator[tuple[str, float, Array]]:
        """Yield the layer, the weight and the gradient of each loss term."""
        if self.content_layer:
            yield self.content_layer, self.alpha, self.content_gradient()
        for name in self.case_A:
            yield name, self.beta * self.w[name], self.style_gradient(name)
        for name in self.statistics:
            yield name, self.beta * self.w[name], self.statistic_gradient(name)
        for name in self.guided:
            yield name, self.beta * self.w[name], self.regions_gradient(name)

    def seeds(self) -> dict[str, Array]:
        """Return ∂L/∂F by layer, of the layer's own loss terms."""
        result: dict[str, Array] = {}
        for layer, weight, gradient in self.terms():
            result[layer] = weight * gradient + result.get(layer, 0.0)
        return result

    # The network forward and backward

    def forward(self, v: Array) -> ForwardPass:
        """Return the responses of every layer to the input v."""
        before, after, F = {}, {}, v
        for layer in self.network.layers:
            if isinstance(layer, Convolution):
                before[layer.name] = self.convolution(F, layer.W, layer.b)
                F = self.relu(before[layer.name])
            else:
                F = before[layer.name] = self.pool(F, layer.kind)
            after[layer.name] = F
        return ForwardPass(before, after)

    def backward(self, seeds: Mapping[str, Array]) -> tuple[Array, dict[str, Array]]:
        """Return the gradient with respect to the network's input, and dF of every layer."""
        result: dict[str, Array] = {}
        dF: Array | None = None
        chain = self.network.until(seeds).layers
        for layer, below in reversed(list(zip(chain, (None, *chain[:-1]), strict=True))):
            deeper, seed = dF, seeds.get(layer.name)
            dF = result[layer.name] = self.accumulate(deeper, seed)
            if isinstance(layer, Convolution):
                dX = self.convolution_backward(self.dZ(layer.name, deeper, seed), layer.W)
            else:
                assert below is not None  # noqa: S101 - a network starts with a convolution
                dX = self.pool_backward(dF, self.image.F[below.name], layer.kind)
            dF = self.passed(dX, layer.name)
        assert dF is not None  # noqa: S101 - a network has at least one layer
        return dF, result

    def accumulate(self, deeper: Array | None, seed: Array | None) -> Array:
        """Return the sum of the gradients from deeper layers and from the layer's own loss."""
        if deeper is None or seed is None:
            only = seed if deeper is None else deeper
            assert only is not None  # noqa: S101 - the deepest layer has a loss term
            return only
        return deeper + seed

    def passed(self, dX: Array, layer: str) -> Array:  # noqa: ARG002
        """Return the gradient dX that a layer passes to the one below it."""
        return dX

    def convolution(self, X: Array, W: Array, b: Array) -> Array:
        """Return the forward pass of a convolution."""
        return layers.conv2d_forward(X, W, b, self.padding)

    def convolution_backward(self, dZ: Array, W: Array) -> Array:
        """Return the backward pass of a convolution."""
        return layers.conv2d_backward(dZ, W, self.padding)

    def dZ(self, layer: str, deeper: Array | None, seed: Array | None) -> Array:
        """Return the gradient before a layer's ReLU, of deeper layers and the layer's own loss."""
        return self.relu_backward(self.accumulate(deeper, seed), layer)

    def relu(self, Z: Array) -> Array:
        """Return the forward pass of a ReLU."""
        return layers.relu_forward(Z)

    def relu_backward(self, dF: Array, layer: str) -> Array:
        """Return the backward pass of a layer's ReLU."""
        return layers.relu_backward(dF, self.image.F[layer])

    def pool(self, X: Array, kind: Pooling) -> Array:
        """Return the forward pass of a pooling."""
        return layers.max_pool_forward(X) if kind == "max" else layers.avg_pool_forward(X)

    def pool_backward(self, dY: Array, X: Array, kind: Pooling) -> Array:
        """Return the backward pass of a pooling."""
        if kind == "max":
            return self.max_pool_backward(dY, X)
        return self.avg_pool_backward(dY, X)

    def max_pool_backward(self, dY: Array, X: Array) -> Array:
        """Return the backward pass of a max pooling."""
        return layers.max_pool_backward(dY, X)

    def avg_pool_backward(self, dY: Array, X: Array) -> Array:
        """Return the backward pass of an average pooling."""
        return layers.avg_pool_backward(dY, X)
