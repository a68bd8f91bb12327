"""One backward pass, measured layer by layer: the norm of the derivative at each layer.

The engine's own backward pass runs with kernels that forward every call to the engine's kernels and
measure its arguments and its result. The results do not change.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gramstyle.core import layers
from gramstyle.core.arrays import Array, namespace
from gramstyle.core.evaluation import Evaluation, sizes_in
from gramstyle.core.kernels import Kernels, PlainKernels, Pooling
from gramstyle.core.layers import Padding
from gramstyle.core.moments import Moments
from gramstyle.core.network import AddSeed, Convolution, Layer, Network
from gramstyle.core.objective import Objective, where_not_finite
from gramstyle.core.term import PIXELS
from gramstyle.errors import NonFiniteError, OptionError


@dataclass(frozen=True, kw_only=True)
class Row:
    """One layer of the backward pass; every length is the norm ‖·‖₂ over all values.

    Attributes
    ----------
    layer
        Its name; "pixels" in the last row.
    shape
        The shape of its responses and of every derivative by them, (N, H, V).
    response
        ‖F‖; None for the pixels.
    seed
        The length of the derivative of the loss terms at this layer, weighted: α · equation 2,
        β w_l · equation 6, or their sum. None if the layer has no term.
    before
        ‖dF‖: the derivative from the layers above, plus the seed. ‖dx‖ for the pixels.
    after
        ‖dZ‖: the part of dF that passes the ReLU; None for a pooling, which has no ReLU, and for
        the pixels.
    open
        The fraction of the layer's values that are above 0, where the ReLU passes dF; None for a
        pooling and for the pixels.
    seconds
        The time to add the seed and to compute the layer's backward pass; None for the pixels.
    """

    layer: str
    shape: tuple[int, int, int]
    response: float | None
    seed: float | None
    before: float
    after: float | None
    open: float | None
    seconds: float | None


@dataclass(frozen=True)
class Trace:
    """One backward pass.

    Attributes
    ----------
    rows
        In the order of the pass: the deepest layer first, the pixels last.
    evaluation
        The result of the objective, the same as without a trace.
    seconds
        How long the steps of the pass took, without the measurements.
    """

    rows: tuple[Row, ...]
    evaluation: Evaluation
    seconds: float


def trace(objective: Objective, x: Array) -> Trace:
    """Evaluate an objective at the pixels x (3, H, W) and measure every step of the pass.

    Raises
    ------
    OptionError
        If the objective has its own backward pass, which cannot be traced step by step.
    NonFiniteError
        If a loss or the gradient is NaN or infinite.

    Notes
    -----
    Seeds are measured with the ReLU's mask, as in equations 2 and 6. Faster kernels may leave this
    mask to the step of the ReLU; `before` is then measured with the mask. The only exception is a
    layer below a pooling that has a loss term: there `before` includes values that the ReLU stops.
    """
    if objective.backward is not None:
        raise OptionError("this engine's pass cannot be traced; choose the engine numpy")
    responses = objective.responses(x)
    sums, sizes = objective.sums(x, responses), sizes_in(x, responses)
    values = objective.values(sums, sizes)
    if not math.isfinite(values.loss):
        raise NonFiniteError(where_not_finite(responses))
    recorder = _Recorder(objective.kernels, objective.network.until(objective.layers))
    add_seed = recorder.timed(
        objective.seeds(responses, sums, sizes),
        replace(objective, kernels=PlainKernels()).seeds(responses, sums, sizes),
        objective.layers,
    )
    dv = recorder.network.backward(responses, add_seed, kernels=recorder)
    carried = objective.preprocessing.backward(dv)
    gradient = objective.add_pixel_terms(carried, x, sums, sizes)
    length = _length(gradient)
    if not math.isfinite(length):
        raise NonFiniteError(
            "the gradient is not finite; choose smaller --alpha, --beta or --style-weights"
        )
    of_pixels = any(term.layer == PIXELS for term in objective.terms)
    pixels = Row(
        layer=PIXELS,
        shape=_shape(gradient),
        response=None,
        seed=_length(gradient - carried) if of_pixels else None,
        before=length,
        after=None,
        open=None,
        seconds=None,
    )
    rows = (*recorder.rows, pixels)
    evaluation = Evaluation.of(values, gradient)
    return Trace(rows, evaluation, sum(row.seconds or 0.0 for row in rows))


def terms(objective: Objective, x: Array) -> dict[tuple[str, str], Evaluation]:
    """Evaluate each term of the loss alone, weighted as in the whole, at the pixels x (3, H, W).

    Returns
    -------
    dict
        The evaluation of each term by its name and its layer. Their gradients sum to the whole
        objective's.

    Raises
    ------
    NonFiniteError
        If a loss is NaN or infinite.
    """
    return {
        (term.name, term.layer): objective.alone(term.name, term.layer).loss_and_gradient(x)
        for term in objective.terms
    }


class _Recorder:
    """Kernels that call other kernels and measure each layer of the backward pass.

    The kernels may overwrite an array two calls later, so the recorder measures it at once. The
    backward pass calls `release` last for each layer, so a layer's row ends there.
    """

    def __init__(self, kernels: Kernels, network: Network) -> None:
        self._kernels = kernels
        self.network = network
        self._above: list[Layer] = list(network.layers)  # the pass has not reached these layers
        self.rows: list[Row] = []
        self._start_row()

    def _start_row(self) -> None:
        self._seconds = 0.0
        self._seed: Array | None = None
        self._sum: Array | None = None
        self._before = 0.0
        self._after: float | None = None

    def gram(self, *arguments: Any) -> Array:
        return self._kernels.gram(*arguments)

    def add_style_gradient(self, *arguments: Any) -> Array:
        return self._kernels.add_style_gradient(*arguments)

    def add_content_gradient(self, *arguments: Any) -> Array:
        return self._kernels.add_content_gradient(*arguments)

    def moments(self, *arguments: Any, **choices: Any) -> Moments:
        return self._kernels.moments(*arguments, **choices)

    def add_affine_gradient(self, *arguments: Any) -> Array:
        return self._kernels.add_affine_gradient(*arguments)

    def add_gradient(self, *arguments: Any) -> Array:
        return self._kernels.add_gradient(*arguments)

    def timed(self, add_seed: AddSeed, plain: AddSeed, layers_in_use: Sequence[str]) -> AddSeed:
        """Return `add_seed`, timed; `plain` computes the seed that is measured."""

        def add(name: str, dF: Array | None) -> Array:
            if name not in layers_in_use:
                return add_seed(name, dF)
            self._seed = plain(name, None)
            self._sum = self._seed if dF is None else dF + self._seed
            return self._timed(lambda: add_seed(name, dF))

        return add

    def convolution_backward(
        self, dF: Array, F: Array, W: Array, padding: Padding = "zeros"
    ) -> Array:
        self._measure(dF)
        self._after = _length(layers.relu_backward(dF, F))
        return self._timed(lambda: self._kernels.convolution_backward(dF, F, W, padding))

    def pool_backward(self, dY: Array, X: Array, kind: Pooling) -> Array:
        self._measure(dY)
        return self._timed(lambda: self._kernels.pool_backward(dY, X, kind))

    def release(self, F: Array) -> None:
        """End the layer's row."""
        layer = self._above.pop()
        has_relu = isinstance(layer, Convolution)
        self.rows.append(
            Row(
                layer=layer.name,
                shape=_shape(F),
                response=_length(F),
                seed=None if self._seed is None else _length(self._seed),
                before=self._before,
                after=self._after,
                open=int(namespace(F).count_nonzero(F > 0)) / F.size if has_relu else None,
                seconds=self._seconds,
            )
        )
        self._start_row()
        self._kernels.release(F)

    def backward_ends(self) -> None:
        self._kernels.backward_ends()

    def _measure(self, dF: Array) -> None:
        """Measure dF; with the seed's mask if there is a seed, even if kernels do not apply it."""
        self._before = _length(dF if self._sum is None else self._sum)

    def _timed(self, step: Callable[[], Array]) -> Array:
        began = time.perf_counter()
        result = step()
        self._seconds += time.perf_counter() - began
        return result


def _length(a: Array) -> float:
    """‖a‖₂, summed in float64; a channel at a time, which copies little."""
    xp = namespace(a)
    return math.sqrt(sum(float(xp.sum(xp.square(part, dtype=xp.float64))) for part in a))


def _shape(F: Array) -> tuple[int, int, int]:
    N, H, V = F.shape
    return int(N), int(H), int(V)
