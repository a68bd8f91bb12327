"""A case: an objective, an image, and the float64 truth of the loss and its gradients."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from gramstyle.conformance.derivatives import Derivatives, derivatives, direction_of
from gramstyle.core.arrays import Array
from gramstyle.core.conventions import PAPER, Convention
from gramstyle.core.kernels import Area, Pooling
from gramstyle.core.layers import Padding
from gramstyle.core.moments import Moments
from gramstyle.core.network import Convolution, Layer, Network
from gramstyle.core.objective import Objective
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.core.terms import (
    ContentTerm,
    CovarianceTerm,
    GuidedStyleTerm,
    MeanStdTerm,
    StyleTerm,
)


@dataclass(frozen=True)
class Answer:
    """The loss, its gradient with respect to the pixels, and dF with respect to the responses.

    Attributes
    ----------
    loss
        L_total.
    gradient
        ∂L/∂x, (3, H, V).
    dF
        ∂L/∂F by layer, each (N, H, V): the sum of what comes from deeper layers and from the
        layer's own loss terms. It is compared only where F > 0. Elsewhere the ReLU stops it, and
        implementations differ in whether they record it before or after the ReLU.
    derivatives
        What the answer has beside these; only that is compared.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.conformance import Answer
    >>> answer = Answer(loss=2.0, gradient=np.zeros((3, 4, 6)), dF={"conv1_1": np.zeros((8, 4, 6))})
    >>> answer.dF["conv1_1"].shape
    (8, 4, 6)
    """

    loss: float
    gradient: Array
    dF: Mapping[str, Array]
    derivatives: Derivatives = field(default_factory=Derivatives)


@dataclass(frozen=True)
class CaseContent:
    """The content term of a case: `factor` · Σ (F − P)².

    Attributes
    ----------
    layer
        The layer whose responses are compared.
    P
        The responses of the content image at that layer, (N, H, V).
    factor
        α, the convention's factor and the ½ of equation 1, multiplied.
    """

    layer: str
    P: Array
    factor: float


@dataclass(frozen=True)
class CaseStyle:
    """The style term of one layer of a case: `factor` · Σ (G / M − A)².

    Attributes
    ----------
    A
        The Gram matrix of the style image divided by the style image's M, (N, N).
    factor
        β, w_l, the convention's factor and the 1 / (4 N²) of equation 4, multiplied.
    """

    A: Array
    factor: float


@dataclass(frozen=True)
class CaseRegion:
    """The style term of one region at one layer: `factor` · Σ (G / m − A)².

    G = (T F) (T F)ᵀ multiplies the responses at each position by T; m = Σ T².

    Attributes
    ----------
    T
        The guidance of the region, from 0 to 1, (H, V).
    A
        The guided Gram matrix of the style image divided by its own Σ T², (N, N).
    factor
        β, w_l, the share of the region, m / M, the convention's factor and the 1 / (4 N²) of
        equation 4, multiplied.
    """

    T: Array
    A: Array
    factor: float


@dataclass(frozen=True)
class CaseStatistic:
    """Another style term of one layer of a case: `factor` · Σ (S − A)².

    Attributes
    ----------
    statistic
        "mean-std": S has the rows μ and σ = √(variance + ε), with ε = 1e-5; "covariance": S is the
        covariance. The variances and covariances divide by M.
    A
        S of the style image, (2, N) or (N, N).
    factor
        β, w_l and the term's own factor, multiplied, and 1 / N of means and deviations or
        1 / (4 N²) of covariances.
    """

    statistic: str
    A: Array
    factor: float


@dataclass(frozen=True, kw_only=True)
class Case:
    """An image x, and the objective that is evaluated there.

    Attributes
    ----------
    name
        Lower-case words with hyphens.
    pins
        The convention that the case tests, in one sentence.
    objective
        The network with its weights, the preprocessing, P, A with its M, α, β, w and the
        convention, in float64 and with the readable kernels.
    x, p, a
        The generated image, the content image and the style image, each (3, H, V), RGB, 0..255.
        p or a is None where the objective lacks that term.
    guidance
        By style layer, the guidance (R, h, v) of each region in the style image; empty if the
        style has no regions.

    Examples
    --------
    >>> from gramstyle.conformance import cases
    >>> case = next(case for case in cases() if case.name == "convolution")
    >>> case.x.shape, [layer.name for layer in case.layers]
    ((3, 6, 7), ['conv1_1'])
    >>> case.truth.gradient.shape
    (3, 6, 7)
    """

    name: str
    pins: str
    objective: Objective
    x: Array = field(repr=False)
    p: Array | None = field(repr=False)
    a: Array | None = field(repr=False)
    guidance: Mapping[str, Array] = field(default_factory=dict, repr=False)

    @property
    def network(self) -> Network:
        """The network, cut off above the deepest layer with a loss term."""
        return self.objective.network.until(self.objective.layers)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of the network, from the image upwards."""
        return self.network.layers

    @property
    def padding(self) -> Padding:
        """How the inputs of all convolutions are padded."""
        return next(layer.padding for layer in self.layers if isinstance(layer, Convolution))

    @property
    def preprocessing(self) -> Preprocessing:
        """The step from pixels to the network's input: channel order, mean and scale."""
        return self.objective.preprocessing

    @property
    def content(self) -> CaseContent | None:
        """The content term with all its factors multiplied; None if the case has none."""
        term = self.content_term
        if term is None:
            return None
        assert term.P is not None  # noqa: S101 - the terms of a case have their targets
        N, M = len(term.P), term.P[0].size
        factor = self.alpha * term.convention.content_factor(N, M) / 2
        return CaseContent(term.layer, term.P, factor)

    @property
    def style(self) -> Mapping[str, CaseStyle]:
        """The Gram matrix term of each style layer with all its factors multiplied."""
        terms = {}
        for layer, term in self.style_terms.items():
            if not isinstance(term, StyleTerm):
                continue
            assert term.A is not None  # noqa: S101 - as above
            N = len(term.A)
            factor = self.beta * term.weight * term.convention.style_factor / (4 * N**2)
            terms[layer] = CaseStyle(term.A / term.M, factor)
        return terms

    @property
    def regions(self) -> Mapping[str, tuple[CaseRegion, ...]]:
        """The style terms of the regions at each style layer; empty without regions."""
        terms = {}
        for layer, term in self.guided_terms.items():
            assert term.A is not None  # noqa: S101 - as above
            N, regions = term.A.shape[1], []
            for r, (T, share, m) in enumerate(zip(term.T, term.shares, term.m, strict=True)):
                assert T is not None  # noqa: S101 - no region of a case is empty
                factor = self.beta * term.weight * term.convention.style_factor / (4 * N**2)
                strength = share * m / T.size
                regions.append(CaseRegion(T, term.A[r] / term.M[r], factor * strength))
            terms[layer] = tuple(regions)
        return terms

    @property
    def statistics(self) -> Mapping[str, CaseStatistic]:
        """The style term of each layer that compares another statistic than Gram matrices."""
        terms = {}
        for layer, term in self.style_terms.items():
            if isinstance(term, StyleTerm):
                continue
            assert term.A is not None  # noqa: S101 - as above
            N, factor = term.A.shape[1], self.beta * term.weight * term.factor
            mean_std = isinstance(term, MeanStdTerm)
            name, per = ("mean-std", N) if mean_std else ("covariance", 4 * N**2)
            terms[layer] = CaseStatistic(name, term.A, factor / per)
        return terms

    @property
    def tv(self) -> float:
        """The number that multiplies Σ (x[c,i,j+1] − x[c,i,j])² + (x[c,i+1,j] − x[c,i,j])²."""
        return self.gamma / float(self.x[0].size)

    @property
    def content_term(self) -> ContentTerm | None:
        """The content term of the objective, if there is one."""
        return next(iter(self.objective.terms_of("content").values()), None)

    @property
    def style_terms(self) -> Mapping[str, StyleTerm | MeanStdTerm | CovarianceTerm]:
        """The style terms of the objective by layer, except those of regions."""
        terms = self.objective.terms_of("style")
        return {n: term for n, term in terms.items() if not isinstance(term, GuidedStyleTerm)}

    @property
    def guided_terms(self) -> Mapping[str, GuidedStyleTerm]:
        """The style terms of regions of the objective by layer."""
        terms = self.objective.terms_of("style")
        return {name: term for name, term in terms.items() if isinstance(term, GuidedStyleTerm)}

    @property
    def convention(self) -> Convention:
        """The convention of all terms."""
        for term in (self.content_term, *self.style_terms.values(), *self.guided_terms.values()):
            if isinstance(term, ContentTerm | StyleTerm | GuidedStyleTerm):
                return term.convention
        return PAPER

    @property
    def alpha(self) -> float:
        """The weight of the content loss, also in a case that has no content."""
        return self.objective.weights.get("content", 0.0)

    @property
    def beta(self) -> float:
        """The weight of the style loss, also in a case that has no style."""
        return self.objective.weights.get("style", 0.0)

    @property
    def gamma(self) -> float:
        """The weight of the total variation; 0 if the case has none."""
        return self.objective.weights.get("tv", 0.0)

    @cached_property
    def responses(self) -> dict[str, Array]:
        """The responses F of every layer to x, in float64."""
        forward = self.objective.forward or self.network.forward
        return dict(forward(self.objective.preprocessing.forward(self.x)))

    @cached_property
    def truth(self) -> Answer:
        """The correct answer in float64, from the hand-derived backward pass."""
        return answer(self.objective, self.x)

    @cached_property
    def direction(self) -> Array:
        """The direction tx of jvp and hvp, (3, H, V), from the name of the case."""
        return direction_of(self.name, self.x.shape)

    @cached_property
    def derivatives(self) -> Derivatives:
        """The correct derivatives by weights and biases and along the direction, in float64."""
        return derivatives(self.objective, self.x, self.direction)


def answer(objective: Objective, x: Array) -> Answer:
    """Return the loss, the gradient and the dF of every layer of an objective at x."""
    recorder = Recorder(objective)
    evaluation = replace(objective, kernels=recorder).loss_and_gradient(x)
    return Answer(evaluation.loss, evaluation.gradient, recorder.dF)


class Recorder:
    """Kernels that call an objective's own kernels and store a copy of every dF."""

    def __init__(self, objective: Objective) -> None:
        self._step = objective.kernels
        self._above = list(objective.network.until(objective.layers).names)
        self.dF: dict[str, Array] = {}

    def gram(self, F: Array, owned: Area | None = None, T: Array | None = None) -> Array:
        """Equation 3."""
        return self._step.gram(F, owned, T)

    def add_style_gradient(
        self,
        dF: Array | None,
        F: Array,
        G: Array,
        A: Array,
        M: float,
        weight: float,
        owned: Area | None = None,
        T: Array | None = None,
    ) -> Array:
        """Return dF + weight · equation 6."""
        return self._step.add_style_gradient(dF, F, G, A, M, weight, owned, T)

    def add_content_gradient(
        self, dF: Array | None, F: Array, P: Array, weight: float, owned: Area | None = None
    ) -> Array:
        """Return dF + weight · equation 2."""
        return self._step.add_content_gradient(dF, F, P, weight, owned)

    def moments(self, F: Array, owned: Area | None = None, *, pairs: bool = False) -> Moments:
        """Return the moments of F."""
        return self._step.moments(F, owned, pairs=pairs)

    def add_affine_gradient(
        self, dF: Array | None, F: Array, D: Array, d: Array, owned: Area | None = None
    ) -> Array:
        """Return dF + (D F + d, where F > 0, else 0)."""
        return self._step.add_affine_gradient(dF, F, D, d, owned)

    def add_gradient(
        self, dF: Array | None, F: Array, gradient: Array, owned: Area | None = None
    ) -> Array:
        """Return dF + gradient at the owned positions."""
        return self._step.add_gradient(dF, F, gradient, owned)

    def convolution_backward(
        self, dF: Array, F: Array, W: Array, padding: Padding = "zeros"
    ) -> Array:
        """Store dF, then call the objective's kernel."""
        self._keep(dF)
        return self._step.convolution_backward(dF, F, W, padding)

    def pool_backward(self, dY: Array, X: Array, kind: Pooling) -> Array:
        """Store dY, then call the objective's kernel."""
        self._keep(dY)
        return self._step.pool_backward(dY, X, kind)

    def release(self, F: Array) -> None:
        """Call the objective's kernel."""
        self._step.release(F)

    def backward_ends(self) -> None:
        """Call the objective's kernel."""
        self._step.backward_ends()

    def _keep(self, dF: Array) -> None:
        self.dF[self._above.pop()] = dF.copy()
