"""One pass measured step by step: against a pass by hand, differences, and the pass itself."""

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest

from gramstyle.analysis.trace import Row, terms, trace
from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.core.conventions import AUTHOR, PAPER, Convention
from gramstyle.core.kernels import PlainKernels, Pooling
from gramstyle.core.network import Convolution
from gramstyle.core.objective import Objective
from gramstyle.engines.onnx_session import Session
from gramstyle.engines.strips import StripKernels
from gramstyle.errors import NonFiniteError
from gramstyle.model import Model
from objectives import (
    ContentTarget,
    Weights,
    composed,
    content_of,
    recomposed,
    style_targets,
    styles_of,
)

CONTENT = "conv4_2"
STYLE = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
WEIGHTS = Weights(
    alpha=0.7, beta=300.0, w=dict(zip(STYLE, (0.1, 0.2, 0.3, 0.25, 0.15), strict=True))
)

# The bar for float64: the same sums in another order.
FLOAT64 = 1e-11
# The bar for float32: masks and pool choices flip where two values differ by a rounding.
FLOAT32 = 2e-3
# The bar for central differences with step 1e-4 away from kinks.
DIFFERENCE = 1e-6


def plain_objective(
    model: Model,
    rng: np.random.Generator,
    pooling: Pooling = "avg",
    convention: Convention = PAPER,
    content: str = CONTENT,
) -> Objective:
    network = model.network.until([content, *STYLE]).pooled_by(pooling).astype(np.float64)
    p, a = (network.forward(model.preprocessing.forward(image(rng))) for _ in range(2))
    return composed(
        network=network,
        preprocessing=model.preprocessing,
        content=ContentTarget(content, p[content]),
        style=style_targets(a, STYLE),
        weights=WEIGHTS,
        convention=convention,
    )


def fast(objective: Objective, model: Model, pooling: Pooling) -> Objective:
    """The same objective as `transfer` composes it: ONNX Runtime, strips, float32."""
    network = model.network.until(objective.layers).pooled_by(pooling)
    return replace(
        objective,
        network=network,
        forward=Session(model.runnable(network.names, pooling), network.shapes, threads=2),
        kernels=StripKernels(2),
    )


def image(rng: np.random.Generator) -> Array:
    return rng.uniform(0, 255, (3, 34, 26))


def length(a: Array) -> float:
    return float(np.sqrt(np.sum(np.square(a, dtype=np.float64))))


def seeds_by_hand(objective: Objective, F: dict[str, Array]) -> dict[str, Array]:
    """Equations 2 and 6 with their weights, Gram matrices by einsum."""
    assert content_of(objective) is not None
    seeds = {}
    for name, target in styles_of(objective).items():
        N, H, V = F[name].shape
        G = np.einsum("ixy,jxy->ij", F[name], F[name])
        D = (G - target.A * (H * V / target.M)) / (N * H * V) ** 2
        weight = WEIGHTS.beta * WEIGHTS.w[name] * target.convention.style_factor
        seeds[name] = weight * np.einsum("ij,jxy->ixy", D, F[name]) * (F[name] > 0)
    term = content_of(objective)
    name = term.layer
    weight = WEIGHTS.alpha * term.convention.content_factor(len(F[name]), F[name][0].size)
    seed = weight * (F[name] - term.P) * (F[name] > 0)
    seeds[name] = seed + seeds.get(name, 0)
    return seeds


def rows_by_hand(objective: Objective, x: Array) -> Iterator[dict[str, object]]:
    """Every column but the time, by a loop over the layers that knows nothing of kernels."""
    network = objective.network
    v = objective.preprocessing.forward(x)
    F = network.forward(v)
    seeds = seeds_by_hand(objective, F)
    below = {name: F[n] for name, n in zip(network.names[1:], network.names, strict=False)}
    dF: Array = np.zeros_like(F[network.names[-1]])
    for layer in reversed(network.layers):
        here = F[layer.name]
        dF = dF + seeds.get(layer.name, 0)
        row = {
            "layer": layer.name,
            "shape": here.shape,
            "response": length(here),
            "seed": length(seeds[layer.name]) if layer.name in seeds else None,
            "before": length(dF),
            "after": None,
            "open": None,
        }
        if isinstance(layer, Convolution):
            dZ = np.where(here > 0, dF, 0)
            row |= {"after": length(dZ), "open": float(np.mean(here > 0))}
            dF = layers.conv2d_backward(dZ, layer.W)
        elif layer.kind == "max":
            dF = layers.max_pool_backward(dF, below[layer.name])
        else:
            dF = layers.avg_pool_backward(dF, below[layer.name])
        yield row
    dx = objective.preprocessing.backward(dF)
    empty = dict.fromkeys(("response", "seed", "after", "open"))
    yield {"layer": "pixels", "shape": x.shape, "before": length(dx), **empty}


def assert_rows(found: tuple[Row, ...], expected: list[dict[str, object]], bar: float) -> None:
    assert len(found) == len(expected)
    for row, by_hand in zip(found, expected, strict=True):
        numbers = {name: value for name, value in by_hand.items() if isinstance(value, float)}
        others = {name: value for name, value in by_hand.items() if name not in numbers}
        assert {name: getattr(row, name) for name in numbers} == pytest.approx(numbers, rel=bar)
        assert {name: getattr(row, name) for name in others} == others


@pytest.mark.parametrize("convention", [PAPER, AUTHOR], ids=["paper", "author"])
@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_every_column_is_what_a_pass_by_hand_gives(
    tiny_model: Model, rng: np.random.Generator, pooling: Pooling, convention: Convention
) -> None:
    objective = plain_objective(tiny_model, rng, pooling, convention)
    x = image(rng)
    assert_rows(trace(objective, x).rows, list(rows_by_hand(objective, x)), FLOAT64)


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_the_float32_engine_s_rows_are_those_of_the_float64_reference(
    tiny_model: Model, rng: np.random.Generator, pooling: Pooling
) -> None:
    objective = plain_objective(tiny_model, rng, pooling)
    x = image(rng)
    found = trace(fast(objective, tiny_model, pooling), x).rows
    assert_rows(found, list(rows_by_hand(objective, x)), FLOAT32)


def test_two_terms_that_look_at_one_layer_make_one_seed(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    objective = plain_objective(tiny_model, rng, content="conv3_1")
    x = image(rng)
    assert_rows(trace(objective, x).rows, list(rows_by_hand(objective, x)), FLOAT64)
    found = trace(fast(objective, tiny_model, "avg"), x).rows
    assert_rows(found, list(rows_by_hand(objective, x)), FLOAT32)


def test_before_is_the_derivative_of_what_lies_above_by_differences(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    objective = plain_objective(tiny_model, rng)
    x = image(rng)
    F = objective.network.forward(objective.preprocessing.forward(x))["pool3"]
    above = replace(objective.network, layers=objective.network.layers[-6:])
    assert above.names[0] == "conv4_1"

    def loss(at: Array) -> float:
        responses = above.forward(at)
        assert content_of(objective) is not None
        total = WEIGHTS.alpha * 0.5 * np.sum((responses[CONTENT] - content_of(objective).P) ** 2)
        for name in ("conv4_1", "conv5_1"):
            f, target = responses[name], styles_of(objective)[name]
            N, M = len(f), f[0].size
            D = np.einsum("ixy,jxy->ij", f, f) - target.A * (M / target.M)
            total += WEIGHTS.beta * WEIGHTS.w[name] * np.sum(D**2) / (4 * N**2 * M**2)
        return float(total)

    slopes = []
    for index in np.ndindex(F.shape):
        step = np.zeros_like(F)
        step[index] = 1e-4
        slopes.append((loss(F + step) - loss(F - step)) / 2e-4)
    (row,) = (row for row in trace(objective, x).rows if row.layer == "pool3")
    assert row.before == pytest.approx(float(np.linalg.norm(slopes)), rel=DIFFERENCE)


@pytest.mark.parametrize("engine", ["plain", "fast"])
@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_a_trace_evaluates_to_the_last_bit_what_the_objective_does(
    tiny_model: Model, rng: np.random.Generator, pooling: Pooling, engine: str
) -> None:
    objective = plain_objective(tiny_model, rng, pooling)
    if engine == "fast":
        objective = fast(objective, tiny_model, pooling)
    x = image(rng)
    expected = objective.loss_and_gradient(x)
    gradient = expected.gradient.copy()
    traced = trace(objective, x)
    found = traced.evaluation
    assert (found.loss, found.terms["content"], found.terms["style"]) == (
        expected.loss,
        expected.terms["content"],
        expected.terms["style"],
    )
    assert found.layers["style"] == expected.layers["style"]
    np.testing.assert_array_equal(found.gradient, gradient)
    assert traced.rows[-1].before == pytest.approx(length(gradient), rel=FLOAT64)
    again = objective.loss_and_gradient(x)  # nothing of the trace is left in the objective
    np.testing.assert_array_equal(again.gradient, gradient)


def test_a_term_alone_is_swept_from_its_own_layer(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    objective = plain_objective(tiny_model, rng)
    x = image(rng)
    whole = {row.layer: row for row in trace(objective, x).rows}
    for name, layer in (("content", CONTENT), *(("style", layer) for layer in STYLE)):
        alone = objective.alone(name, layer)
        traced = trace(alone, x)
        assert traced.rows[0].layer == layer
        assert [row.layer for row in traced.rows if row.seed is not None] == [layer]
        assert traced.rows[0].seed == traced.rows[0].before == whole[layer].seed
        expected = length(alone.loss_and_gradient(x).gradient)
        assert traced.rows[-1].before == pytest.approx(expected, rel=FLOAT64)


def test_the_terms_sum_to_the_whole_gradient_and_keep_their_own_losses(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    objective = plain_objective(tiny_model, rng)
    x = image(rng)
    whole = objective.loss_and_gradient(x)
    found = terms(objective, x)
    assert list(found) == [("content", CONTENT), *(("style", name) for name in STYLE)]
    # The backward pass is linear in its seeds: only the order of the sums differs.
    total = sum(evaluation.gradient for evaluation in found.values())
    np.testing.assert_allclose(total, whole.gradient, atol=FLOAT64 * abs(whole.gradient).max())
    assert found["content", CONTENT].terms["content"] == whole.terms["content"]
    E = {name: found["style", name].layers["style"][name] for name in STYLE}
    assert whole.layers["style"] == E
    assert sum(e.loss for e in found.values()) == pytest.approx(whole.loss, rel=FLOAT64)


def test_without_a_photograph_there_is_no_content_among_the_terms(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    objective = recomposed(plain_objective(tiny_model, rng), content=None)
    assert list(terms(objective, image(rng))) == [("style", name) for name in STYLE]


def test_only_the_engine_s_own_steps_are_timed(
    tiny_model: Model, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = plain_objective(tiny_model, rng, content="conv3_1")
    x = image(rng)
    ticks = count()
    # Whatever lies between two looks at this clock takes a second.
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    traced = trace(objective, x)
    steps = dict.fromkeys(STYLE, 2.0)  # the seeds of a layer are one step
    for row in traced.rows[:-1]:
        assert row.seconds == steps.get(row.layer, 1.0)
    assert traced.rows[-1].seconds is None
    assert traced.seconds == sum(row.seconds or 0 for row in traced.rows) == next(ticks) / 2


def test_the_kernels_are_asked_for_the_same_steps_as_without_a_trace(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    calls: list[str] = []

    class Told(PlainKernels):
        def __getattribute__(self, name: str) -> Any:
            calls.append(name)
            return super().__getattribute__(name)

    objective = replace(plain_objective(tiny_model, rng), kernels=Told())
    x = image(rng)
    objective.loss_and_gradient(x)
    expected = calls.copy()
    calls.clear()
    trace(objective, x)
    assert calls == expected
    assert {"gram", "release", "backward_ends"} < set(calls)


def test_a_gradient_beyond_the_float_type_is_refused(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    objective = plain_objective(tiny_model, rng)
    weights = WEIGHTS._replace(alpha=1e304)
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(NonFiniteError, match="alpha"):
        trace(recomposed(objective, weights=weights), 255 * (image(rng) > 128))


def test_a_length_of_float32_values_neither_overflows_nor_vanishes(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    objective = plain_objective(tiny_model, rng)
    quiet = fast(recomposed(objective, weights=WEIGHTS._replace(beta=0.0)), tiny_model, "avg")
    x = image(rng)
    loud = trace(quiet, x).rows[-1].before
    for factor in (1e-28, 1e26):
        scaled = replace(quiet, weights={**quiet.weights, "content": WEIGHTS.alpha * factor})
        assert trace(scaled, x).rows[-1].before == pytest.approx(loud * factor, rel=FLOAT32)
