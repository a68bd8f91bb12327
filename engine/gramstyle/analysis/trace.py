"""One backward pass, looked at step by step: how long the derivative is, and where.

The engine's own pass is what runs. It asks its kernels for every step, so kernels that pass each
call on and measure what goes in and comes out see all of it, and change nothing.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from gramstyle.core import layers
from gramstyle.core.arrays import Array, namespace
from gramstyle.core.kernels import Area, Kernels, PlainKernels, Pooling
from gramstyle.core.network import Convolution, Layer, Network
from gramstyle.core.objective import Evaluation, Objective
from gramstyle.errors import NonFiniteError, OptionError

# What the row and the term that belong to no style layer are called.
PIXELS, CONTENT = "pixels", "content"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One layer as the pass crosses it; every length is ‖·‖₂ over all values.

    Attributes
    ----------
    layer
        Its name; "pixels" in the last row.
    shape
        Of its responses and of every derivative by them, (N, H, V).
    response
        ‖F‖; None for the pixels.
    seed
        The length of the derivative of the loss terms that look at this layer, weighted:
        α · equation 2, β w_l · equation 6, or their sum. None where none does.
    before
        ‖dF‖: what has arrived from the layers above, and the seed. ‖dx‖ for the pixels.
    after
        ‖dZ‖: what of dF the ReLU lets through; None for a pooling, which has no ReLU, and for
        the pixels.
    open
        The share of the layer's values that are above 0, where the ReLU lets dF through; None
        as before.
    seconds
        How long it took to add the seed and to cross the layer; None for the pixels.
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
        What the objective gave, as without a trace.
    seconds
        How long the steps of the pass took, without what it took to measure them.
    """

    rows: tuple[Row, ...]
    evaluation: Evaluation
    seconds: float


def trace(objective: Objective, x: Array) -> Trace:
    """Evaluate an objective at the pixels x (3, H, W) and measure every step of the pass.

    Raises
    ------
    OptionError
        If the objective has a pass of its own, which cannot be looked into.
    NonFiniteError
        If a loss or the gradient is NaN or infinite.

    Notes
    -----
    Seeds are measured as equations 2 and 6 write them, with the ReLU's mask. Where faster
    kernels leave that mask to the ReLU, `before` is measured as if they did not; only below a
    pooling that a loss term looks at it counts what the ReLU stops in the end.
    """
    if objective.backward is not None:
        raise OptionError("this engine's pass cannot be looked into; choose the engine numpy")
    recorder = _Recorder(objective.kernels, objective.network.until(objective.layers))
    evaluation = replace(objective, kernels=recorder).loss_and_gradient(x)
    gradient = evaluation.gradient
    length = _length(gradient)
    if not math.isfinite(length):
        raise NonFiniteError(
            "the gradient is not finite; choose smaller --alpha, --beta or --style-weights"
        )
    pixels = Row(
        layer=PIXELS,
        shape=_shape(gradient),
        response=None,
        seed=None,
        before=length,
        after=None,
        open=None,
        seconds=None,
    )
    rows = (*recorder.rows, pixels)
    return Trace(rows, evaluation, sum(row.seconds or 0.0 for row in rows))


def terms(objective: Objective, x: Array) -> dict[str, Evaluation]:
    """Evaluate each term of the loss alone, weighted as in the whole, at the pixels x (3, H, W).

    Returns
    -------
    dict
        The evaluation of "content", if there is one, and of each style layer by its name. Their
        gradients sum to the whole objective's.

    Raises
    ------
    NonFiniteError
        If a loss is NaN or infinite.
    """
    content = [] if objective.content is None else [None]
    return {
        CONTENT if layer is None else layer: objective.alone(layer).loss_and_gradient(x)
        for layer in (*content, *objective.style)
    }


class _Recorder:
    """Kernels that pass every call on to others and measure the pass on its way.

    An array of the kernels may be overwritten two calls later, so it is measured at once; and
    since `release` is the last that a pass tells of a layer, that is where its row ends.
    """

    def __init__(self, kernels: Kernels, network: Network) -> None:
        self._kernels = kernels
        self._above: list[Layer] = list(network.layers)  # those that the pass has not passed
        self.rows: list[Row] = []
        self._start_row()

    def _start_row(self) -> None:
        self._seconds = 0.0
        self._seed: Array | None = None
        self._sum: Array | None = None
        self._before = 0.0
        self._after: float | None = None

    def gram(self, F: Array, owned: Area | None = None) -> Array:
        return self._kernels.gram(F, owned)

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
        self._look_at_seed(dF, PlainKernels().add_style_gradient(None, F, G, A, M, weight, owned))
        return self._timed(lambda: self._kernels.add_style_gradient(dF, F, G, A, M, weight, owned))

    def add_content_gradient(
        self, dF: Array | None, F: Array, P: Array, weight: float, owned: Area | None = None
    ) -> Array:
        self._look_at_seed(dF, PlainKernels().add_content_gradient(None, F, P, weight, owned))
        return self._timed(lambda: self._kernels.add_content_gradient(dF, F, P, weight, owned))

    def convolution_backward(self, dF: Array, F: Array, W: Array) -> Array:
        self._look_at_arrived(dF)
        self._after = _length(layers.relu_backward(dF, F))
        return self._timed(lambda: self._kernels.convolution_backward(dF, F, W))

    def pool_backward(self, dY: Array, X: Array, kind: Pooling) -> Array:
        self._look_at_arrived(dY)
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

    def _look_at_seed(self, dF: Array | None, seed: Array) -> None:
        """Take note of a loss term's derivative; dF is what it will be added to."""
        if self._seed is None:
            self._seed, self._sum = seed, seed if dF is None else dF + seed
        else:
            self._seed, self._sum = self._seed + seed, self._sum + seed

    def _look_at_arrived(self, dF: Array) -> None:
        """Measure dF; where there is a seed, with the seed's mask, whatever the kernels do."""
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
