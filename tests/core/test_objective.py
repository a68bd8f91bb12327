"""Equation 7 and its gradient at the pixels: against differences, sums by hand, and float64."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from gramstyle.core.arrays import Array
from gramstyle.core.evaluation import Evaluation
from gramstyle.core.kernels import Pooling
from gramstyle.core.network import Network
from gramstyle.core.objective import Objective
from gramstyle.engines.onnx_session import Session
from gramstyle.engines.strips import StripKernels
from gramstyle.errors import NonFiniteError
from gramstyle.model import Model
from objectives import ContentTarget, StyleTarget, Weights, composed, style_targets

CONTENT = "conv4_2"
STYLE = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
WEIGHTS = Weights(
    alpha=0.7, beta=300.0, w=dict(zip(STYLE, (0.1, 0.2, 0.3, 0.25, 0.15), strict=True))
)

# The bar for float64: away from kinks a central difference with step 1e-4 grey levels leaves
# about 1e-8 of the derivative.
DIFFERENCE = 1e-6
STEP = 1e-4

# The bar for float32: masks and pool choices flip where two values differ by a rounding.
FLOAT32 = 2e-3


def plain_objective(
    model: Model, p: Array, a: Array, pooling: Pooling = "max", weights: Weights = WEIGHTS
) -> Objective:
    """The objective in float64, every step as the paper writes it."""
    network = model.network.until([CONTENT, *STYLE]).pooled_by(pooling).astype(np.float64)
    preprocess = model.preprocessing.forward
    return composed(
        network=network,
        preprocessing=model.preprocessing,
        content=ContentTarget(CONTENT, network.forward(preprocess(p))[CONTENT]),
        style=style_targets(network.forward(preprocess(a)), STYLE),
        weights=weights,
    )


def fast_objective(model: Model, p: Array, a: Array, pooling: Pooling = "max") -> Objective:
    """The objective as `transfer` composes it: ONNX Runtime, strips, float32."""
    needed = [CONTENT, *STYLE]
    network = model.network.until(needed).pooled_by(pooling)
    forward = Session(model.runnable(needed, pooling), network.shapes, threads=2)
    kernels = StripKernels(2)
    preprocess = model.preprocessing.forward
    return composed(
        network=network,
        preprocessing=model.preprocessing,
        content=ContentTarget(CONTENT, forward(preprocess(p))[CONTENT].copy()),
        style=style_targets(forward(preprocess(a)), STYLE, kernels=kernels),
        weights=WEIGHTS,
        forward=forward,
        kernels=kernels,
    )


def images(rng: np.random.Generator, *sizes: tuple[int, int]) -> list[Array]:
    return [rng.uniform(0, 255, (3, *size)) for size in sizes]


def slope(loss: Callable[[Array], float], x: Array, u: Array) -> float:
    return (loss(x + STEP * u) - loss(x - STEP * u)) / (2 * STEP)


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("seed", range(4))
def test_the_gradient_is_the_derivative_of_the_loss_along_random_directions(
    tiny_model: Model, pooling: Pooling, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x, p, a = images(rng, (33, 26), (33, 26), (33, 26))
    objective = plain_objective(tiny_model, p, a, pooling)
    u = rng.normal(size=x.shape)
    expected = slope(lambda at: objective.loss_and_gradient(at).loss, x, u)
    gradient = objective.loss_and_gradient(x).gradient
    assert gradient.shape == x.shape
    assert np.vdot(gradient, u) == pytest.approx(expected, rel=DIFFERENCE)


def test_each_term_of_the_loss_has_its_own_gradient(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    x, p, a = images(rng, *[(24, 24)] * 3)
    u = rng.normal(size=x.shape)
    only = [Weights(1.0, 0.0, WEIGHTS.w)]
    only += [Weights(0.0, 1.0, {name: float(name == one) for name in STYLE}) for one in STYLE]
    for weights in only:
        objective = plain_objective(tiny_model, p, a, weights=weights)
        expected = slope(lambda at, o=objective: o.loss_and_gradient(at).loss, x, u)  # type: ignore[misc]
        found = np.vdot(objective.loss_and_gradient(x).gradient, u)
        assert found == pytest.approx(expected, rel=DIFFERENCE)


def loss_by_hand(
    responses: Mapping[str, Array], P: Array, style: Mapping[str, Array], network: Network
) -> float:
    """Equations 1 to 7 in one piece, Gram matrices by einsum, each divided by its own M."""
    total = WEIGHTS.alpha * 0.5 * np.sum((responses[CONTENT] - P) ** 2)
    for name in STYLE:
        F, S = responses[name], style[name]
        G = np.einsum("ixy,jxy->ij", F, F) / (F.shape[1] * F.shape[2])
        A = np.einsum("ixy,jxy->ij", S, S) / (S.shape[1] * S.shape[2])
        total += WEIGHTS.beta * WEIGHTS.w[name] * np.sum((G - A) ** 2) / (4 * len(F) ** 2)
    return float(total)


@pytest.mark.parametrize("artwork_size", [(33, 26), (40, 19)], ids=["same size", "other size"])
def test_the_loss_is_equations_1_to_7_written_out(
    tiny_model: Model, rng: np.random.Generator, artwork_size: tuple[int, int]
) -> None:
    x, p, a = images(rng, (33, 26), (33, 26), artwork_size)
    network = tiny_model.network.astype(np.float64)
    preprocess = tiny_model.preprocessing.forward
    responses, P, style = (network.forward(preprocess(image)) for image in (x, p, a))
    expected = loss_by_hand(responses, P[CONTENT], style, network)
    evaluation = plain_objective(tiny_model, p, a).loss_and_gradient(x)
    # Two float64 sums in different orders.
    assert evaluation.loss == pytest.approx(expected, rel=1e-12)


def test_a_style_image_of_another_size_still_gives_the_loss_s_own_gradient(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    x, p, a = images(rng, (24, 31), (24, 31), (47, 18))
    objective = plain_objective(tiny_model, p, a)
    u = rng.normal(size=x.shape)
    expected = slope(lambda at: objective.loss_and_gradient(at).loss, x, u)
    found = np.vdot(objective.loss_and_gradient(x).gradient, u)
    assert found == pytest.approx(expected, rel=DIFFERENCE)


def test_content_is_at_rest_on_the_photograph_and_style_on_the_artwork(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    p, a = images(rng, (32, 32), (32, 32))
    objective = plain_objective(tiny_model, p, a)
    assert objective.loss_and_gradient(p).terms["content"] == 0
    at_artwork = objective.loss_and_gradient(a)
    # Zero but for the rounding of two equal sums.
    assert max(at_artwork.layers["style"].values()) < 1e-18 * max(
        objective.loss_and_gradient(p).layers["style"].values()
    )


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_the_float32_engine_agrees_with_the_float64_reference(
    tiny_model: Model, rng: np.random.Generator, pooling: Pooling
) -> None:
    x, p, a = images(rng, (45, 38), (45, 38), (31, 52))
    assert_agreement(
        fast_objective(tiny_model, p, a, pooling).loss_and_gradient(x),
        plain_objective(tiny_model, p, a, pooling).loss_and_gradient(x),
    )


def assert_agreement(found: Evaluation, expected: Evaluation) -> None:
    assert found.gradient.shape == expected.gradient.shape
    error = np.linalg.norm(found.gradient - expected.gradient)
    assert error < FLOAT32 * np.linalg.norm(expected.gradient)
    assert found.loss == pytest.approx(expected.loss, rel=FLOAT32)
    assert found.layers["style"] == pytest.approx(dict(expected.layers["style"]), rel=FLOAT32)


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_on_the_real_network_too(
    real_model: Model, rng: np.random.Generator, pooling: Pooling
) -> None:
    x, p, a = images(rng, (72, 64), (72, 64), (64, 80))
    assert_agreement(
        fast_objective(real_model, p, a, pooling).loss_and_gradient(x),
        plain_objective(real_model, p, a, pooling).loss_and_gradient(x),
    )


def test_an_evaluation_does_not_change_with_the_ones_before_it(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    x, other, p, a = images(rng, *[(32, 40)] * 4)
    objective = fast_objective(tiny_model, p, a)
    first = objective.loss_and_gradient(x)
    kept = first.gradient.copy()
    objective.loss_and_gradient(other)
    again = objective.loss_and_gradient(x)
    assert again.loss == first.loss
    np.testing.assert_array_equal(again.gradient, kept)


def test_a_loss_that_is_not_finite_names_the_first_layer_to_blame(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    x, p = images(rng, (32, 32), (32, 32))
    network = tiny_model.network.until([CONTENT, *STYLE]).astype(np.float64)

    def forward(v: Array) -> dict[str, Array]:
        responses = network.forward(v)
        for name in ("conv3_1", "conv4_2"):
            responses[name][0, 0, 0] = np.nan
        return responses

    objective = composed(
        network=network,
        preprocessing=tiny_model.preprocessing,
        content=ContentTarget(CONTENT, network.forward(p)[CONTENT]),
        style={
            name: StyleTarget(np.zeros((n, n)), 1)
            for name, n in zip(STYLE, (4, 5, 6, 7, 8), strict=True)
        },
        weights=WEIGHTS,
        forward=forward,
    )
    with pytest.raises(NonFiniteError, match="responses of layer conv3_1"):
        objective.loss_and_gradient(x)
