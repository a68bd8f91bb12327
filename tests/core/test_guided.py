"""Guided Gram matrices: against loops and differences, and which pixels a region depends on."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gramstyle.core.arrays import Array
from gramstyle.core.blending import ReferenceSample, with_blended_targets
from gramstyle.core.conventions import AUTHOR, PAPER, Convention
from gramstyle.core.guided import guided_gram, guided_style_gradient
from gramstyle.core.guided_term import GuidedStyleTerm
from gramstyle.core.guides import Guides, inside_guides, mean_guides, with_guides
from gramstyle.core.kernels import PlainKernels
from gramstyle.core.layers import PADDINGS, Padding
from gramstyle.core.losses import gram, style_gradient
from gramstyle.core.network import Convolution, Network, Pool
from gramstyle.core.objective import Objective
from gramstyle.core.terms import Term, loss_terms, with_targets
from gramstyle.gradcheck import check_gradient
from gramstyle.model import Model

Rng = np.random.Generator

LAYERS = {"conv1_1": 0.2, "conv2_1": 0.3, "conv3_1": 0.5}

# Float64 sums of some thousand numbers in another order.
ROUNDING = 1e-12


def guides_of(network: Network, *masks: Array, inside: bool = False) -> Guides:
    """The guidance of regions by layer."""
    parts = [(inside_guides if inside else mean_guides)(network, T) for T in masks]
    return {name: tuple(part[name] for part in parts) for name in network.names}


def halves(height: int, width: int) -> list[Array]:
    """Two masks that fill an image, with a soft edge between them."""
    across = np.clip((np.arange(width) - width / 2) / 4 + 0.5, 0, 1)
    right = np.repeat(across[np.newaxis], height, axis=0)
    return [1 - right, right]


def network_of(model: Model) -> Network:
    return model.network.until(tuple(LAYERS)).pooled_by("avg").astype(np.float64)


def objective(
    model: Model,
    styles: Sequence[tuple[Array, Sequence[Array | None]]],
    masks: Sequence[Array],
    *,
    shares: Sequence[float] = (1.0, 1.0),
    convention: Convention = PAPER,
) -> Objective:
    """The objective of regions; each style image has a mask for each of them, or None."""
    net, see = network_of(model), model.preprocessing.forward

    def add_targets(terms: tuple[Term, ...], pixels: Array) -> tuple[Term, ...]:
        return with_targets(terms, "style", net.forward(see(pixels)))

    samples = []
    for pixels, regions in styles:
        parts = [None if T is None else inside_guides(net, T) for T in regions]
        guides = {name: tuple(part and part[name] for part in parts) for name in net.names}
        samples.append(ReferenceSample(pixels, 1 / len(styles), guides))
    terms = loss_terms(content={}, style=LAYERS, convention=convention, regions=shares)
    terms = with_blended_targets(terms, "style", samples, add_targets)
    return Objective(
        network=net,
        preprocessing=model.preprocessing,
        terms=with_guides(terms, guides_of(net, *masks)),
        weights={"style": 3.0},
    )


def two_styles(rng: Rng) -> list[tuple[Array, list[Array | None]]]:
    """Two whole style images: the first for the first region, the second for the other."""
    first, second = rng.uniform(0, 255, (3, 24, 20)), 0.3 * rng.uniform(0, 255, (3, 20, 28))
    return [(first, [np.ones((24, 20)), None]), (second, [None, np.ones((20, 28))])]


def test_a_guided_gram_matrix_is_the_naive_loop(rng: Rng) -> None:
    F, T = rng.uniform(0, 1, (4, 15)), rng.uniform(0, 1, 15)
    G = np.zeros((4, 4))
    for i in range(4):
        for j in range(4):
            for k in range(15):
                G[i, j] += (T[k] * F[i, k]) * (T[k] * F[j, k])
    np.testing.assert_allclose(guided_gram(F, T), G, rtol=ROUNDING)


def test_a_guidance_of_1_guides_nothing(rng: Rng) -> None:
    F, A, T = np.maximum(rng.normal(size=(4, 15)), 0), rng.uniform(0, 1, (4, 4)), np.ones(15)
    G = gram(F)
    np.testing.assert_array_equal(guided_gram(F, T), G)
    found = guided_style_gradient(F, T, G, A, 4, 15)
    np.testing.assert_array_equal(found, style_gradient(F, G, A, 4, 15))


@pytest.mark.parametrize("convention", [PAPER, AUTHOR])
def test_one_region_that_is_the_whole_image_has_the_loss_without_regions(
    tiny_model: Model, rng: Rng, convention: Convention
) -> None:
    x, a = rng.uniform(0, 255, (3, 22, 26)), rng.uniform(0, 255, (3, 24, 20))
    net, see = network_of(tiny_model), tiny_model.preprocessing.forward
    terms = loss_terms(content={}, style=LAYERS, convention=convention)
    plain = Objective(
        network=net,
        preprocessing=tiny_model.preprocessing,
        terms=with_targets(terms, "style", net.forward(see(a))),
        weights={"style": 3.0},
    ).loss_and_gradient(x)
    guided = objective(
        tiny_model,
        [(a, [np.ones((24, 20))])],
        [np.ones((22, 26))],
        shares=(1.0,),
        convention=convention,
    ).loss_and_gradient(x)
    assert guided.layers["style"] == pytest.approx(plain.layers["style"], rel=ROUNDING)
    distance = np.linalg.norm(guided.gradient - plain.gradient)
    assert distance < ROUNDING * np.linalg.norm(plain.gradient)


@pytest.mark.parametrize("convention", [PAPER, AUTHOR])
def test_the_gradient_of_regions_is_the_derivative(
    tiny_model: Model, rng: Rng, convention: Convention
) -> None:
    of_regions = objective(
        tiny_model, two_styles(rng), halves(22, 26), shares=(1.5, 0.5), convention=convention
    )
    see, net = tiny_model.preprocessing.forward, of_regions.network
    check_gradient(
        of_regions.loss_and_gradient,
        rng.uniform(0, 255, (3, 22, 26)),
        kinks=lambda x: net.choices(net.forward(see(x))),
    )


def test_the_value_is_the_weighted_sum_of_the_regions_losses(tiny_model: Model, rng: Rng) -> None:
    x, masks, shares = rng.uniform(0, 255, (3, 22, 26)), halves(22, 26), (1.5, 0.5)
    of_regions = objective(tiny_model, two_styles(rng), masks, shares=shares)
    found, F = of_regions.loss_and_gradient(x), of_regions.responses(x)
    for layer, term in of_regions.terms_of("style").items():
        N, M = len(F[layer]), F[layer][0].size
        expected = 0.0
        for r, share in enumerate(shares):
            T = mean_guides(of_regions.network, masks[r])[layer]
            m = sum(t * t for t in T.flat)
            G = np.einsum("ihv,jhv,hv->ij", F[layer], F[layer], T * T)
            apart = G / m - term.A[r] / term.M[r]
            expected += share * m / M * np.sum(apart**2) / (4 * N**2)
        assert found.layers["style"][layer] == pytest.approx(expected, rel=ROUNDING)


def test_the_generated_image_s_guidance_is_the_mean_over_the_pixels_of_a_position(
    tiny_model: Model, rng: Rng
) -> None:
    T = rng.uniform(0, 1, (23, 18))
    found = mean_guides(network_of(tiny_model), T)["conv3_1"]
    assert found.shape == (5, 4)
    for i in range(5):
        for j in range(4):
            mean = T[4 * i : 4 * i + 4, 4 * j : 4 * j + 4].mean()
            assert found[i, j] == pytest.approx(mean, rel=ROUNDING)


def test_regions_that_fill_the_image_fill_every_layer(tiny_model: Model) -> None:
    first, second = (mean_guides(network_of(tiny_model), T) for T in halves(23, 18))
    for name in first:
        np.testing.assert_allclose(first[name] + second[name], 1.0, rtol=ROUNDING)


def positive(kinds: Sequence[str]) -> Network:
    """A network whose responses grow with every pixel that they depend on."""
    layers: list[Convolution | Pool] = []
    for number, kind in enumerate(kinds):
        if kind == "avg":
            layers.append(Pool(f"pool{number}", "avg"))
        else:
            C = 3 if not number else 1
            layers.append(Convolution(f"conv{number}", np.ones((1, C, 3, 3)), np.zeros(1)))
    return Network(tuple(layers))


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("kinds", [["c"], ["c", "c"], ["c", "avg", "c"], ["c", "avg", "c", "avg"]])
def test_the_style_image_s_guidance_is_0_exactly_where_a_position_sees_other_pixels(
    kinds: Sequence[str], padding: Padding, rng: Rng
) -> None:
    net = positive(kinds).padded_by(padding)
    T = np.ones((23, 18))
    T[8:14, 11:] = 0
    before = rng.uniform(1, 2, (3, 23, 18))
    after = before + (1 - T)  # every pixel outside of the region has changed
    F, changed = net.forward(before), net.forward(after)
    for name, guidance in inside_guides(net, T).items():
        np.testing.assert_array_equal(guidance > 0, F[name][0] == changed[name][0])


def test_a_soft_mask_is_eroded_to_the_least_value_that_a_position_sees() -> None:
    T = np.linspace(1, 0, 21)[np.newaxis].repeat(4, axis=0)
    net = positive(["c", "avg", "c"])
    # A position of the last layer sees two pixels of its own, and three more on each side.
    found = inside_guides(net, T)["conv2"]
    expected = [min(T[0, max(2 * j - 3, 0) : 2 * j + 5]) for j in range(10)]
    np.testing.assert_allclose(found[0], expected, rtol=ROUNDING)


def test_the_style_of_a_region_does_not_depend_on_the_style_image_elsewhere(
    tiny_model: Model, rng: Rng
) -> None:
    a = rng.uniform(0, 255, (3, 40, 60))
    left = np.zeros((40, 60))
    left[:, :30] = 1
    right, other, x = 1 - left, a.copy(), rng.uniform(0, 255, (3, 22, 26))
    other[:, :, 30:] = rng.uniform(0, 255, (3, 40, 30))
    masks, shares = halves(22, 26), (1.0, 1e-300)  # only the left region counts
    before, after = (
        objective(tiny_model, [(image, [left, right])], masks, shares=shares)
        for image in (a, other)
    )
    for layer, term in before.terms_of("style").items():
        now = after.terms_of("style")[layer]
        np.testing.assert_array_equal(term.A[0], now.A[0])
        assert not np.array_equal(term.A[1], now.A[1])
    found, expected = after.loss_and_gradient(x), before.loss_and_gradient(x)
    assert found.loss == expected.loss
    np.testing.assert_array_equal(found.gradient, expected.gradient)


def test_positions_outside_of_a_region_get_nothing_from_its_style(
    tiny_model: Model, rng: Rng
) -> None:
    left = np.zeros((22, 26))
    left[:, :8] = 1
    of_regions = objective(
        tiny_model, [(rng.uniform(0, 255, (3, 24, 20)), [np.ones((24, 20))])], [left], shares=(1.0,)
    )
    x = rng.uniform(0, 255, (3, 22, 26))
    F = of_regions.responses(x)
    for term in of_regions.terms:
        N, M = len(F[term.layer]), F[term.layer][0].size
        G = term.sums(F[term.layer], PlainKernels())
        dF = term.add_gradient(None, F[term.layer], G, N, M, 1.0, PlainKernels())
        outside = mean_guides(of_regions.network, left)[term.layer] == 0
        assert outside.any()
        assert not dF[:, outside].any()
        assert dF[:, ~outside].any()


def test_several_style_images_of_a_region_have_the_shares_of_their_matrices(
    tiny_model: Model, rng: Rng
) -> None:
    images = [rng.uniform(0, 255, (3, 24, 20)), rng.uniform(0, 255, (3, 20, 28))]
    ones = [np.ones(image.shape[1:]) for image in images]
    # The first region is in both images, the second one in the last one alone.
    both = objective(
        tiny_model, [(images[0], [ones[0], None]), (images[1], [ones[1], ones[1]])], halves(22, 26)
    )
    alone = [
        objective(tiny_model, [(image, [T, T])], halves(22, 26))
        for image, T in zip(images, ones, strict=True)
    ]
    for layer, term in both.terms_of("style").items():
        first, second = (each.terms_of("style")[layer] for each in alone)
        mean = (first.A[0] / first.M[0] + second.A[0] / second.M[0]) / 2
        np.testing.assert_allclose(term.A[0] / term.M[0], mean, rtol=ROUNDING)
        expected = second.A[1] / second.M[1]
        np.testing.assert_allclose(term.A[1] / term.M[1], expected, rtol=ROUNDING)


def test_the_sums_of_areas_add_up_to_those_of_the_image(rng: Rng) -> None:
    F, T = rng.uniform(0, 1, (4, 9, 7)), rng.uniform(0, 1, (9, 7))
    term = GuidedStyleTerm(layer="conv1_1", weight=1.0, shares=(1.0,)).guided_by([T])
    kernels, whole = PlainKernels(), term.sums(F, PlainKernels())
    parts = []
    for rows in (slice(0, 4), slice(4, 9)):
        area = (rows, slice(0, 7))
        parts.append(term.in_part([T[area]]).sums(F, kernels, area))
    np.testing.assert_allclose(parts[0] + parts[1], whole, rtol=ROUNDING)
    assert term.in_part([T[:4]]).m == term.m


def test_an_area_that_no_region_reaches_adds_no_gradient(rng: Rng) -> None:
    F, T = rng.uniform(0, 1, (4, 9, 7)), np.zeros((9, 7))
    T[0, 0] = 1
    term = GuidedStyleTerm(layer="conv1_1", weight=1.0, shares=(1.0,)).guided_by([T])
    kernels, area = PlainKernels(), (slice(4, 9), slice(0, 7))
    term = term.compared_with(term.sums(F, kernels), 63)
    here = term.in_part([T[area]])
    assert not here.sums(F, kernels, area).any()
    G = term.sums(F, kernels)
    dF = here.add_gradient(None, F, G, 4, 63, 1.0, kernels, area)
    assert dF.shape == F.shape
    assert not dF.any()
    before = rng.normal(size=F.shape)
    after = here.add_gradient(before, F, G, 4, 63, 1.0, kernels, area)
    np.testing.assert_array_equal(after, before)


def test_terms_are_compared_without_their_guidance() -> None:
    (term,) = loss_terms(content={}, style={"conv1_1": 1.0}, regions=(1.0, 0.5))
    assert isinstance(term, GuidedStyleTerm)
    assert term.guided_by([np.ones((2, 2)), None]) == term
    assert replace(term, shares=(1.0, 1.0)) != term


class Counting(PlainKernels):
    """Plain kernels that count their heavy steps."""

    def __init__(self) -> None:
        self.grams = self.gradients = 0

    def gram(self, *arguments: Any) -> Array:
        self.grams += 1
        return super().gram(*arguments)

    def add_style_gradient(self, *arguments: Any) -> Array:
        self.gradients += 1
        return super().add_style_gradient(*arguments)


def test_an_evaluation_computes_one_gram_matrix_and_one_product_for_each_region_and_layer(
    tiny_model: Model, rng: Rng
) -> None:
    of_regions, kernels = objective(tiny_model, two_styles(rng), halves(22, 26)), Counting()
    replace(of_regions, kernels=kernels).loss_and_gradient(rng.uniform(0, 255, (3, 22, 26)))
    assert (kernels.grams, kernels.gradients) == (2 * len(LAYERS), 2 * len(LAYERS))
