"""Blended targets: several style images, each with its share."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from gramstyle.core.arrays import Array
from gramstyle.core.blending import ReferenceSample, with_blended_targets
from gramstyle.core.conventions import AUTHOR, PAPER, Convention
from gramstyle.core.objective import Objective
from gramstyle.core.terms import ContentTerm, Term, loss_terms, with_targets
from gramstyle.errors import OptionError
from gramstyle.gradcheck import check_gradient
from gramstyle.model import Model

SHARES = (0.5, 0.3, 0.2)
LAYERS = {"conv1_1": 0.2, "conv2_1": 0.3, "conv3_1": 0.5}


def images(rng: np.random.Generator) -> list[Array]:
    """Style images of different sizes and contrasts."""
    return [
        contrast * rng.uniform(0, 255, (3, height, width))
        for contrast, height, width in ((1.0, 24, 20), (0.5, 16, 30), (0.2, 20, 20))
    ]


def objective(
    model: Model, styles: Sequence[Array], shares: Sequence[float], convention: Convention = PAPER
) -> Objective:
    network = model.network.until(tuple(LAYERS)).pooled_by("avg")

    def add_targets(terms: tuple[Term, ...], pixels: Array) -> tuple[Term, ...]:
        responses = network.forward(model.preprocessing.forward(pixels))
        return with_targets(terms, "style", responses)

    samples = [ReferenceSample(*each) for each in zip(styles, shares, strict=True)]
    terms = loss_terms(content={}, style=LAYERS, convention=convention)
    return Objective(
        network=network,
        preprocessing=model.preprocessing,
        terms=with_blended_targets(terms, "style", samples, add_targets),
        weights={"style": 3.0},
    )


@pytest.mark.parametrize("convention", [PAPER, AUTHOR])
def test_the_blended_target_has_the_gradient_of_the_blended_losses_and_a_loss_smaller_by_a_constant(
    tiny_model: Model, rng: np.random.Generator, convention: Convention
) -> None:
    styles = images(rng)
    blended = objective(tiny_model, styles, SHARES, convention)
    each = [objective(tiny_model, [style], [1.0], convention) for style in styles]
    constants = []
    for x in rng.uniform(0, 255, (3, 3, 22, 26)):
        found = blended.loss_and_gradient(x)
        parts = [alone.loss_and_gradient(x) for alone in each]
        expected = sum(λ * part.gradient for λ, part in zip(SHARES, parts, strict=True))
        assert np.linalg.norm(found.gradient - expected) < 1e-12 * np.linalg.norm(expected)
        loss = sum(λ * part.loss for λ, part in zip(SHARES, parts, strict=True))
        constants.append(loss - found.loss)
    # The variance of the targets, equation by equation.
    constant = 0.0
    for layer, w in LAYERS.items():
        targets = [alone.terms_of("style")[layer] for alone in each]
        A = [term.A / term.M for term in targets]
        mean = sum(λ * part for λ, part in zip(SHARES, A, strict=True))
        variance = sum(λ * np.sum((part - mean) ** 2) for λ, part in zip(SHARES, A, strict=True))
        constant += 3.0 * w * convention.style_factor * variance / (4 * len(mean) ** 2)
    assert constants == pytest.approx([constant] * 3, rel=1e-9)
    assert constant > 0


def test_the_gradient_with_a_blended_target_is_the_derivative_of_the_loss(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    blended = objective(tiny_model, images(rng), SHARES)

    see = tiny_model.preprocessing.forward
    check_gradient(
        blended.loss_and_gradient,
        rng.uniform(0, 255, (3, 12, 14)),
        kinks=lambda x: blended.network.choices(blended.network.forward(see(x))),
    )


def test_one_image_has_its_own_target_bit_by_bit(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    style, *_ = images(rng)
    network = tiny_model.network.until(tuple(LAYERS)).pooled_by("avg")
    responses = network.forward(tiny_model.preprocessing.forward(style))
    expected = with_targets(loss_terms(content={}, style=LAYERS), "style", responses)
    for found, term in zip(objective(tiny_model, [style], [1.0]).terms, expected, strict=True):
        assert found.M == term.M
        assert np.array_equal(found.A, term.A)


def test_an_image_blended_with_itself_is_the_image(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    style, *_ = images(rng)
    x = rng.uniform(0, 255, (3, 16, 18))
    expected = objective(tiny_model, [style], [1.0]).loss_and_gradient(x)
    found = objective(tiny_model, [style, style], [0.75, 0.25]).loss_and_gradient(x)
    assert found.loss == pytest.approx(expected.loss, rel=1e-12)
    np.testing.assert_allclose(found.gradient, expected.gradient, rtol=1e-9, atol=1e-12)


def test_a_blend_replaces_the_targets_that_the_terms_had(rng: np.random.Generator) -> None:
    terms = loss_terms(content={"conv2_1": 1.0}, style={"conv1_1": 1.0})
    F, P = rng.uniform(0, 1, (2, 4, 3, 3))
    terms = with_targets(terms, "content", {"conv2_1": P})
    terms = with_targets(terms, "style", {"conv1_1": F})
    samples = [ReferenceSample(F, 0.5), ReferenceSample(3 * F, 0.5)]
    content, style = with_blended_targets(
        terms, "style", samples, lambda terms, F: with_targets(terms, "style", {"conv1_1": F})
    )
    assert content is terms[0]
    np.testing.assert_allclose(style.A, 5 * terms[1].A / 9)


def test_a_term_that_cannot_blend_is_refused_before_any_target_is_computed() -> None:
    terms = (replace(ContentTerm(layer="conv1_1")),)
    samples = [ReferenceSample(np.zeros((3, 2, 2)), 0.5)] * 2
    with pytest.raises(OptionError, match="the loss content cannot blend several images or scales"):
        with_blended_targets(terms, "content", samples, lambda *_: pytest.fail("computed"))
