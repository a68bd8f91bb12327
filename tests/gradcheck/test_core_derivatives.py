"""The checker confirms the derivatives of gramstyle.core."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradcheck.functions import both_modes, refused_gradient
from gramstyle.core.arrays import Array
from gramstyle.core.conventions import CONVENTIONS
from gramstyle.core.evaluation import Evaluation
from gramstyle.core.kernels import Pooling
from gramstyle.core.layers import Padding
from gramstyle.core.network import Network
from gramstyle.core.objective import Objective
from gramstyle.gradcheck import check_gradient, check_vjp
from gramstyle.model import Model
from objectives import ContentTarget, Weights, composed, style_targets


def small(model: Model, pooling: Pooling) -> Network:
    return model.network.until(["conv2_1"]).pooled_by(pooling).astype(np.float64)


@both_modes
@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_the_backward_pass_is_right_with_gradients_at_every_layer(
    mode: Any, pooling: Pooling, tiny_model: Model, rng: np.random.Generator
) -> None:
    network = small(tiny_model, pooling)

    def f(v: Array) -> tuple[Array, ...]:
        return tuple(network.forward(v).values())

    def vjp(seeds: tuple[Array, ...], v: Array) -> Array:
        by_name = dict(zip(network.names, seeds, strict=True))
        return network.backward(
            network.forward(v),
            lambda name, dF: by_name[name] if dF is None else by_name[name] + dF,
        )

    checked = check_vjp(
        f,
        vjp,
        [rng.normal(scale=3, size=(3, 2, 2))],
        mode=mode,
        kinks=lambda v: network.choices(network.forward(v)),
    )
    assert set(checked.flips) == {
        layer for layer in network.names if pooling == "max" or layer[0] == "c"
    }


def objective_of(
    network: Network, model: Model, convention: str | None, p: Array, a: Array
) -> Objective:
    preprocess = model.preprocessing.forward
    style = ("conv1_1", "conv2_1")
    return composed(
        network=network,
        preprocessing=model.preprocessing,
        content=ContentTarget("conv1_2", network.forward(preprocess(p))["conv1_2"]),
        style=style_targets(network.forward(preprocess(a)), style),
        weights=Weights(alpha=0.7, beta=300.0, w=dict(zip(style, (0.3, 0.7), strict=True))),
        convention=CONVENTIONS[convention],
    )


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize(
    ("mode", "convention"),
    [("directional", "paper"), ("directional", "author"), ("full", "author")],
)
def test_the_objective_s_gradient_is_right(
    mode: Any, pooling: Pooling, convention: str, tiny_model: Model, rng: np.random.Generator
) -> None:
    network = small(tiny_model, pooling)
    size = (3, 2, 2) if mode == "full" else (3, 33, 26)
    x, p, a = rng.uniform(0, 255, (3, *size))
    objective = objective_of(network, tiny_model, convention, p, a)

    def kinks(x: Array) -> Mapping[str, Array]:
        return network.choices(network.forward(tiny_model.preprocessing.forward(x)))

    checked = check_gradient(objective.loss_and_gradient, x, mode=mode, kinks=kinks)
    assert checked.compared == {"directional": 2, "full": x.size}[mode]
    if mode == "directional":
        # Some of the thousands of masks flipped at first, and smaller steps decided.
        assert checked.step < 1e-3
        assert any(flip.count for flip in checked.flips.values())


@pytest.mark.parametrize("padding", ["replicate", "reflect", "circular"])
def test_the_objective_s_gradient_is_right_with_each_padding(
    padding: Padding, tiny_model: Model, rng: np.random.Generator
) -> None:
    network = small(tiny_model, "avg").padded_by(padding)
    x, p, a = rng.uniform(0, 255, (3, 3, 4, 5))
    objective = objective_of(network, tiny_model, "author", p, a)
    checked = check_gradient(
        objective.loss_and_gradient,
        x,
        mode="full",
        kinks=lambda x: network.choices(network.forward(tiny_model.preprocessing.forward(x))),
    )
    assert checked.compared == x.size
    assert checked.relative_error < 1e-6  # extrapolated central differences in float64


@pytest.mark.parametrize("padding", ["replicate", "reflect", "circular"])
def test_a_gradient_without_that_of_the_padding_fails(
    padding: Padding, tiny_model: Model, rng: np.random.Generator
) -> None:
    network = small(tiny_model, "avg").padded_by(padding)
    x, p, a = rng.uniform(0, 255, (3, 3, 4, 5))
    right = objective_of(network, tiny_model, "author", p, a)
    wrong = replace(right, forward=network.forward, network=network.padded_by("zeros"))
    error = refused_gradient(
        wrong.loss_and_gradient,
        x,
        mode="full",
        kinks=lambda x: network.choices(network.forward(tiny_model.preprocessing.forward(x))),
    )
    assert error.verdict == "wrong gradient"


@both_modes
def test_an_objective_that_is_wrong_in_one_layer_fails(
    mode: Any, tiny_model: Model, rng: np.random.Generator
) -> None:
    # Equation 6 with the M of the next layer divides conv1_1's gradient by sixteen, as a wrong
    # loop over the layers would.
    network = small(tiny_model, "max")
    x, p, a = rng.uniform(0, 255, (3, 3, 2, 2))
    right = objective_of(network, tiny_model, None, p, a)
    alone = right.alone("style", "conv1_1")

    def wrong(x: Array) -> Evaluation:
        evaluation = right.loss_and_gradient(x)
        share = alone.loss_and_gradient(x).gradient
        evaluation.gradient[...] -= share * 15 / 16
        return evaluation

    error = refused_gradient(
        wrong,
        x,
        mode=mode,
        kinks=lambda x: network.choices(network.forward(tiny_model.preprocessing.forward(x))),
    )
    assert error.verdict == "wrong gradient"
