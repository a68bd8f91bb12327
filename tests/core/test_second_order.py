"""Forward mode and Hessian-vector products of whole objectives, and of every kind of term."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import array_api_strict as strict
import numpy as np
import pytest

from gramstyle.core import layers
from gramstyle.core.arrays import Array, namespace, on_host
from gramstyle.core.content import ContentTerm
from gramstyle.core.layers import Padding
from gramstyle.core.objective import Objective
from gramstyle.core.protection import Protection
from gramstyle.core.term import TangentTerm
from gramstyle.engines.strips import StripKernels
from gramstyle.errors import OptionError
from gramstyle.gradcheck import check_hvp, check_jvp
from second_order import TERMS, in_type, kinks_of, network_of, objective_of

Rng = np.random.Generator

# Float64 sums of some thousand numbers in another order.
ROUNDING = 1e-12
# Differences of the gradient, extrapolated, where a small step avoids the kinks: the bar.
DIFFERENCE = 1e-6
# Float32: the rounding of seventeen sums and of the differences G − A.
FLOAT32 = 1e-4

every_term = pytest.mark.parametrize("kind", TERMS)


def image(rng: Rng) -> Array:
    return rng.uniform(0, 255, (3, 8, 6))


@every_term
@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_the_jvp_of_each_loss_is_its_derivative_and_the_adjoint_of_the_gradient(
    kind: str, pooling: Any, rng: Rng
) -> None:
    objective, x, tx = (
        objective_of(rng, kind, pooling=pooling),
        image(rng),
        rng.normal(size=(3, 8, 6)),
    )
    found = objective.jvp(x, tx)
    gradient = objective.loss_and_gradient(x).gradient
    scale = np.linalg.norm(gradient * tx)
    assert found.loss == pytest.approx(np.vdot(gradient, tx), abs=ROUNDING * scale)
    for name, by_layer in found.layers.items():
        for layer in by_layer:
            alone = objective.alone(name, layer)
            slope = np.vdot(alone.loss_and_gradient(x).gradient, tx)
            assert alone.jvp(x, tx).loss == pytest.approx(slope, abs=ROUNDING * scale)
    check_jvp(
        lambda x: objective.loss_and_gradient(x).loss,
        lambda t, x: np.float64(objective.jvp(x, t).loss),
        [x],
        kinks=kinks_of(objective),
    )


@every_term
@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_the_hvp_of_each_loss_is_the_derivative_of_its_gradient_and_symmetric(
    kind: str, pooling: Any, rng: Rng
) -> None:
    objective = objective_of(rng, kind, pooling=pooling)
    checked = check_hvp(
        objective.loss_and_gradient,
        objective.hvp,
        image(rng),
        kinks=kinks_of(objective),
        eps=1e-4,
        rtol=DIFFERENCE,
    )
    assert checked.compared == 2 * 3 * 8 * 6
    assert checked.relative_error < DIFFERENCE


@pytest.mark.parametrize("padding", layers.PADDINGS)
def test_every_entry_of_the_hessian_is_right_with_each_padding(padding: Padding, rng: Rng) -> None:
    objective = objective_of(rng, "all", pooling="max", padding=padding)
    checked = check_hvp(
        objective.loss_and_gradient,
        objective.hvp,
        rng.uniform(0, 255, (3, 8, 6)),
        mode="full",
        kinks=kinks_of(objective),
        eps=1e-4,
        rtol=DIFFERENCE,
    )
    assert checked.compared == (3 * 8 * 6) ** 2


@pytest.mark.parametrize("kind", ["gram", "mean-std", "covariance"])
def test_a_blended_target_has_the_weighted_mean_of_the_hessians(kind: str, rng: Rng) -> None:
    objective = objective_of(rng, kind, blended=True)
    checked = check_hvp(
        objective.loss_and_gradient,
        objective.hvp,
        image(rng),
        kinks=kinks_of(objective),
        eps=1e-4,
        rtol=DIFFERENCE,
    )
    assert checked.compared == 2 * 3 * 8 * 6


def test_the_hessian_of_a_protected_part_is_that_of_the_composite(rng: Rng) -> None:
    objective, z, p = objective_of(rng), image(rng), image(rng)
    S = np.clip(np.linspace(1.3, -0.3, 6), 0, 1)[np.newaxis].repeat(8, axis=0)
    protection, kinks = Protection(p, S), kinks_of(objective)
    hvp = protection.around_hvp(objective.hvp)
    check_hvp(
        protection.around(objective.loss_and_gradient),
        hvp,
        z,
        kinks=lambda z: kinks(protection.image(z)),
        eps=1e-4,
        rtol=DIFFERENCE,
    )
    assert not hvp(z, np.ones_like(z))[:, S == 1].any()


def test_the_hessian_of_the_content_alone_is_the_gauss_newton_matrix(rng: Rng) -> None:
    # Behind piecewise linear layers, ½ ‖F − P‖² has the Hessian Jᵀ J where the ReLUs are open.
    objective, x = objective_of(rng, "content of the author"), image(rng)
    (term,) = objective.terms
    assert isinstance(term, ContentTerm)
    network, see = objective.network, objective.preprocessing
    responses = network.forward(see.forward(x))
    J = np.zeros((responses["conv2_1"].size, x.size))
    for place in range(x.size):
        tx = np.zeros(x.size)
        tx[place] = 1
        J[:, place] = network.jvp(responses, see.jvp(tx.reshape(x.shape)))["conv2_1"].ravel()
    N, H, V = responses["conv2_1"].shape
    factor = 1.5 * 2.0 * 2 / (N * H * V)  # α, w, and the mean of squares in equation 1
    tx = rng.normal(size=x.shape)
    expected = factor * J.T @ (J @ tx.ravel())
    np.testing.assert_allclose(
        objective.hvp(x, tx).ravel(), expected, rtol=0, atol=ROUNDING * abs(expected).max()
    )


@every_term
def test_the_derivatives_of_a_sum_of_directions_add_up(kind: str, rng: Rng) -> None:
    objective, x, t, u = (objective_of(rng, kind), *(image(rng) for _ in range(3)))
    both = objective.hvp(x, 2 * t - u)
    apart = 2 * objective.hvp(x, t) - objective.hvp(x, u)
    np.testing.assert_allclose(both, apart, rtol=0, atol=ROUNDING * abs(both).max())


@every_term
def test_float32_gives_float32_and_the_same_derivatives(kind: str, rng: Rng) -> None:
    objective, x, tx = objective_of(rng, kind), image(rng), image(rng)
    single = in_type(objective, lambda array: array.astype(np.float32))
    x32, tx32 = x.astype(np.float32), tx.astype(np.float32)
    expected, found = objective.hvp(x, tx), single.hvp(x32, tx32)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=FLOAT32 * abs(expected).max())
    assert single.jvp(x32, tx32).loss == pytest.approx(objective.jvp(x, tx).loss, rel=FLOAT32)
    if single.layers:
        dW, dW32 = (each.weight_gradients(at).dW for each, at in ((objective, x), (single, x32)))
        for name, dW_l in dW.items():
            assert dW32[name].dtype == np.float32
            np.testing.assert_allclose(dW32[name], dW_l, atol=FLOAT32 * abs(dW_l).max())


@every_term
def test_strict_arrays_give_the_same_derivatives(kind: str, rng: Rng) -> None:
    objective, x, tx = objective_of(rng, kind), image(rng), image(rng)
    strictly = in_type(objective, strict.asarray)
    x_, tx_ = strict.asarray(x), strict.asarray(tx)
    expected, found = objective.hvp(x, tx), strictly.hvp(x_, tx_)
    assert namespace(found) is strict
    np.testing.assert_allclose(on_host(found), expected, atol=ROUNDING * abs(expected).max())
    assert strictly.jvp(x_, tx_).loss == pytest.approx(objective.jvp(x, tx).loss, rel=ROUNDING)
    if objective.layers:
        dW, dW_ = (each.weight_gradients(at).dW for each, at in ((objective, x), (strictly, x_)))
        for name, dW_l in dW.items():
            np.testing.assert_allclose(on_host(dW_[name]), dW_l, atol=ROUNDING * abs(dW_l).max())


def test_an_engine_does_not_change_these_derivatives(rng: Rng) -> None:
    objective, x, tx = objective_of(rng, "gram"), image(rng), image(rng)

    def refuse(*_: Any) -> Any:
        raise AssertionError

    engine = replace(objective, forward=refuse, backward=refuse, kernels=StripKernels(1))
    np.testing.assert_array_equal(engine.hvp(x, tx), objective.hvp(x, tx))
    assert engine.jvp(x, tx) == objective.jvp(x, tx)
    np.testing.assert_array_equal(
        engine.weight_gradients(x).dW["conv1_1"], objective.weight_gradients(x).dW["conv1_1"]
    )


def test_a_direction_that_does_not_fit_the_image_is_refused(rng: Rng) -> None:
    objective, x = objective_of(rng), image(rng)
    for tx in (x[:, 1:], x.astype(np.float32)):
        with pytest.raises(OptionError, match=r"the direction is float.*expected float64 of shape"):
            objective.jvp(x, tx)
        with pytest.raises(OptionError, match="as the image"):
            objective.hvp(x, tx)


@dataclass(frozen=True, kw_only=True)
class Untangled:
    """A term without tangents."""

    name: ClassVar[str] = "content"
    reference: ClassVar[None] = None
    per_position: ClassVar[bool] = False

    layer: str = "conv1_1"
    weight: float = 1.0


def test_a_term_without_tangents_is_named(rng: Rng) -> None:
    terms: Any = (Untangled(),)
    assert not isinstance(terms[0], TangentTerm)
    network = network_of(rng, "avg")
    objective = Objective(
        network=network,
        preprocessing=objective_of(rng).preprocessing,
        terms=terms,
        weights={"content": 1.0},
    )
    x = image(rng)
    with pytest.raises(OptionError, match="the loss content has no tangents; give its term"):
        objective.hvp(x, x)
