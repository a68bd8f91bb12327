"""Equation 7 as a function of the pixels: the loss, its gradient, and further derivatives."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from gramstyle.core import losses
from gramstyle.core.arrays import Array, namespace, numbers
from gramstyle.core.evaluation import Evaluation, LossValues, Sizes, Sums, sizes_in
from gramstyle.core.kernels import Area, Kernels, PlainKernels
from gramstyle.core.network import AddSeed, Network, Responses, WeightGradients
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.core.tangents import Tangents, tangents_of
from gramstyle.core.term import PIXELS, Sum
from gramstyle.core.terms import Term, layers_of
from gramstyle.errors import NonFiniteError, OptionError

# Runs a network on its input v (3, H, V) and returns the responses of all its layers.
Forward = Callable[[Array], Responses]

# Runs the backward pass and returns dv, the derivative by the input, as `Network.backward` does.
Backward = Callable[[Responses, AddSeed], Array]


class Recall(Protocol):
    """Restores an earlier forward pass of an engine."""

    def left(self, H: int, V: int) -> Sequence[Array]:
        """Return the flat arrays with the results of the last forward pass, over (3, H, V).

        They belong to the engine. A caller may store their contents, and write them back later.
        """

    def again(self, v: Array) -> Responses:
        """Return the responses of forward(v) from `left`, which is filled before or meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """L_total and its gradient for one content image, one style image and one choice of weights.

    Attributes
    ----------
    network
        The network, at least up to the deepest layer in use.
    preprocessing
        The step from pixels to the network's input.
    terms
        The terms of the loss, with their targets.
    weights
        The weights of equation 7, by the losses' names: α for "content", β for "style".
    forward
        Computes the responses; `network.forward` by default. It must run this network. It may
        leave out layers that neither a term nor `backward` uses.
    kernels
        The kernels that compute the heavy steps; `PlainKernels` by default.
    backward
        Runs the backward pass; `network.backward` with these kernels by default.

    Raises
    ------
    OptionError
        If there is no term.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.network import Convolution, Network
    >>> from gramstyle.core.objective import Objective
    >>> from gramstyle.core.preprocessing import Preprocessing
    >>> from gramstyle.core.terms import loss_terms, with_targets
    >>> rng = np.random.default_rng(0)
    >>> network = Network((Convolution("conv1_1", rng.normal(size=(4, 3, 3, 3)), np.zeros(4)),))
    >>> pixels = Preprocessing("RGB", mean=(128.0,) * 3, scale=(0.01,) * 3)
    >>> x, p, a = rng.uniform(0, 255, (3, 3, 8, 8))
    >>> terms = loss_terms(content={"conv1_1": 1.0}, style={"conv1_1": 1.0})
    >>> for reference, image in (("content", p), ("style", a)):
    ...     responses = network.forward(pixels.forward(image))
    ...     terms = with_targets(terms, reference, responses)
    ...
    >>> weights = {"content": 0.01, "style": 1.0}
    >>> objective = Objective(
    ...     network=network, preprocessing=pixels, terms=terms, weights=weights
    ... )
    >>> evaluation = objective.loss_and_gradient(x)
    >>> evaluation.gradient.shape
    (3, 8, 8)
    >>> evaluation.loss == sum(weights[name] * value for name, value in evaluation.terms.items())
    True
    """

    network: Network
    preprocessing: Preprocessing
    terms: tuple[Term, ...]
    weights: Mapping[str, float]
    forward: Forward | None = None
    kernels: Kernels = field(default_factory=PlainKernels)
    backward: Backward | None = None

    def __post_init__(self) -> None:
        """Check that there is at least one term."""
        if not self.terms:
            raise OptionError(
                "there is nothing to compare with; name a content image or a style image"
            )

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that the terms use."""
        return layers_of(self.terms)

    def alone(self, name: str, layer: str) -> "Objective":
        """Return the objective with only the terms of this name and layer, weighted as before.

        Raises
        ------
        OptionError
            If it has its own `backward`, which always starts at the deepest layer of all terms.
        """
        if self.backward is not None:
            raise OptionError("this engine cannot separate the terms; choose the engine numpy")
        chosen = tuple(term for term in self.terms if (term.name, term.layer) == (name, layer))
        return replace(self, terms=chosen)

    def loss_and_gradient(self, x: Array) -> Evaluation:
        """Evaluate equation 7 and its derivative at the pixels x (3, H, W), RGB, 0..255.

        Raises
        ------
        NonFiniteError
            If the loss is NaN or infinite; names the first layer whose responses are.
        """
        responses = self.responses(x)
        sums, sizes = self.sums(x, responses), sizes_in(x, responses)
        values = self.values(sums, sizes)
        if not math.isfinite(values.loss):
            raise NonFiniteError(where_not_finite(responses))
        return Evaluation.of(values, self.gradient(x, responses, sums, sizes))

    def jvp(self, x: Array, tx: Array) -> LossValues:
        """Return the derivative of each loss along a direction tx in the pixels: forward mode.

        One forward pass computes it, beside the responses, without a backward pass. `jvp`, `hvp`
        and `weight_gradients` use the readable layers, whatever the engine.

        Parameters
        ----------
        x, tx
            The pixels and the direction, (3, H, W), of one float type.

        Returns
        -------
        LossValues
            The derivatives of the losses; `loss` is ⟨∂L_total/∂x, tx⟩.

        Raises
        ------
        OptionError
            If tx does not fit x, or a term is no `TangentTerm`.
        """
        return self._weighted(self._tangents(x, tx).values())

    def hvp(self, x: Array, tx: Array) -> Array:
        """Return the Hessian of L_total at x times tx, of x's shape.

        One forward pass with tangents, then one backward pass (docs/derivations.md). ReLUs and max
        poolings are piecewise linear: they have no second derivative away from their kinks, and at
        a kink the choice of the backward pass counts. Parameters and errors as for `jvp`.
        """
        tangents = self._tangents(x, tx)
        add_seed = tangents.seeds(self.weights)
        tdx: Array | None = None
        if self.layers:
            tdv = self.network.until(self.layers).backward(tangents.F, add_seed)
            tdx = self.preprocessing.backward(tdv)
        return add_seed(PIXELS, tdx)

    def weight_gradients(self, x: Array) -> WeightGradients:
        """Return the derivatives of L_total by the weights and biases of the network.

        They are those of the layers up to the deepest one that a term uses. The targets do not
        change with the weights.

        Raises
        ------
        OptionError
            If no term uses a layer.
        """
        if not self.layers:
            raise OptionError("no loss uses a layer of the network; add a content or style loss")
        plain = replace(self, forward=None, backward=None, kernels=PlainKernels())
        responses = plain.responses(x)
        add_seed = plain.seeds(responses, plain.sums(x, responses), sizes_in(x, responses))
        weights = WeightGradients(self.preprocessing.forward(x))
        self.network.until(self.layers).backward(responses, add_seed, weights=weights)
        return weights

    def terms_of(self, name: str) -> dict[str, Any]:
        """Return the terms of one loss, such as "style", by layer."""
        return {term.layer: term for term in self.terms if term.name == name}

    def responses(self, x: Array) -> Responses:
        """Return the responses (N, H, V), by layer, to the pixels x (3, H, W)."""
        if not self.layers:
            return {}
        forward = self.network.until(self.layers).forward if self.forward is None else self.forward
        return forward(self.preprocessing.forward(x))

    def sums(self, x: Array, responses: Responses, owned: Mapping[str, Area] | None = None) -> Sums:
        """Return the terms' sums over positions (equations 1 and 3).

        Parameters
        ----------
        x, responses
            The pixels and the responses, of an image or of a window of it. Targets with one entry
            per position must be those of the owned positions.
        owned
            The rows and columns to sum over, by layer and for `PIXELS`; all by default.
        """
        return Sums(
            tuple(
                term.sums(_looked_at(term, x, responses), self.kernels, _area(term, owned))
                for term in self.terms
            )
        )

    def values(self, sums: Sums, sizes: Sizes) -> LossValues:
        """Return the losses (equations 4, 5 and 7) from the sums of a whole image."""
        pairs = zip(self.terms, sums.parts, strict=True)
        return self._weighted(term.value(part, *sizes[term.layer]) for term, part in pairs)

    def _tangents(self, x: Array, tx: Array) -> Tangents:
        network = self.network.until(self.layers)
        return tangents_of(network, self.preprocessing, self.terms, x, tx)

    def _weighted(self, values: Iterable[float]) -> LossValues:
        """Return the losses from the value of each term (equations 1 and 4)."""
        layers: dict[str, dict[str, float]] = {}
        weights: dict[str, dict[str, float]] = {}
        for term, value in zip(self.terms, numbers(values), strict=True):
            layers.setdefault(term.name, {})[term.layer] = value
            weights.setdefault(term.name, {})[term.layer] = term.weight
        terms = {
            name: losses.weighted_sum(values, weights[name]) for name, values in layers.items()
        }  # eq. 5
        return LossValues(losses.weighted_sum(terms, self.weights), terms, layers)  # eq. 7

    def gradient(
        self,
        x: Array,
        responses: Responses,
        sums: Sums,
        sizes: Sizes,
        owned: Mapping[str, Area] | None = None,
    ) -> Array:
        """Return ∂L_total/∂x, of x's shape: equations 2 and 6, then the backward pass.

        Parameters
        ----------
        x, responses, owned
            As for `sums`. Only the owned positions contribute.
        sums, sizes
            The sums and the sizes of the whole image, even if x is a window of it.
        """
        dx: Array | None = None
        if self.layers:
            add_seed = self.seeds(responses, sums, sizes, owned)
            dx = self.preprocessing.backward(self.carry_down(responses, add_seed))
        return self.add_pixel_terms(dx, x, sums, sizes, owned)

    def add_pixel_terms(
        self,
        dx: Array | None,
        x: Array,
        sums: Sums,
        sizes: Sizes,
        owned: Mapping[str, Area] | None = None,
    ) -> Array:
        """Return dx plus the derivative of the terms that use the pixels themselves."""
        for term, part in self._terms_at(PIXELS, sums):
            dx = self._add_gradient(term, part, dx, x, sizes, owned)
        assert dx is not None  # noqa: S101 - there is a term
        return dx

    def seeds(
        self,
        responses: Responses,
        sums: Sums,
        sizes: Sizes,
        owned: Mapping[str, Area] | None = None,
    ) -> AddSeed:
        """Return a function that adds to dF the terms' derivative by a layer's responses."""

        def add_seed(name: str, dF: Array | None) -> Array:
            for term, part in self._terms_at(name, sums):
                dF = self._add_gradient(term, part, dF, responses[name], sizes, owned)
            assert dF is not None  # noqa: S101 - the network ends at a layer that a term uses
            return dF

        return add_seed

    def carry_down(self, responses: Responses, add_seed: AddSeed) -> Array:
        """Run the backward pass; return dv (3, H, V), the derivative by the network's input."""
        if self.backward is not None:
            return self.backward(responses, add_seed)
        return self.network.until(self.layers).backward(responses, add_seed, kernels=self.kernels)

    def _terms_at(self, layer: str, sums: Sums) -> list[tuple[Term, Sum]]:
        """Return a layer's terms with their sums, the last one first."""
        pairs = zip(reversed(self.terms), reversed(sums.parts), strict=True)
        return [(term, part) for term, part in pairs if term.layer == layer]

    def _add_gradient(
        self,
        term: Term,
        part: Sum,
        dF: Array | None,
        F: Array,
        sizes: Sizes,
        owned: Mapping[str, Area] | None,
    ) -> Array:
        weight = self.weights[term.name] * term.weight
        N, M = sizes[term.layer]
        return term.add_gradient(dF, F, part, N, M, weight, self.kernels, _area(term, owned))


def where_not_finite(responses: Responses) -> str:
    """Return a message that names the first layer whose responses are not finite, if any.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.objective import where_not_finite
    >>> print(where_not_finite({"conv1_1": np.array([1.0, np.nan])}))
    the responses of layer conv1_1 are not finite; is the model file sound?
    """
    for name, F in responses.items():
        xp = namespace(F)
        if not bool(xp.all(xp.isfinite(F))):
            return f"the responses of layer {name} are not finite; is the model file sound?"
    return "the loss is not finite; choose smaller --alpha, --beta or --style-weights"


def _looked_at(term: Term, x: Array, responses: Responses) -> Array:
    return x if term.layer == PIXELS else responses[term.layer]


def _area(term: Term, owned: Mapping[str, Area] | None) -> Area | None:
    return None if owned is None else owned[term.layer]
