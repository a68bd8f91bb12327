"""Each case tests what it says, and its truth is the derivative of its loss."""

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from conformance_cases import CASES, apart, planted
from gramstyle.conformance import Case, cases
from gramstyle.conformance.cases import answer
from gramstyle.conformance.comparing import TOLERANCES
from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.core.kernels import PlainKernels
from gramstyle.core.network import Convolution, Pool
from gramstyle.core.objective import Objective
from gramstyle.model.architecture import VGGS

OBJECTIVES = [name for name in CASES if name.startswith("objective")]

# Two orders of summation in float64, through 17 layers; measured: 2e-14.
ORDER = 1e-12

# Along a line without a kink the loss is a polynomial of degree 4. A central difference with
# step 1e-5 has an error of 1e-9 of the slope from the cubic term, and of 2e-8 from rounding.
STEP, DIFFERENCE = 1e-5, 1e-6

# These cases are at a kink on purpose, where there is no slope to measure.
AT_A_KINK = ("relu-at-zero", "max-pooling-ties")

# A mistake in the convention that a case tests shows in every float type but float16.
VISIBLE = 10 * TOLERANCES["float32"]


def plainly(objective: Objective) -> Objective:
    """The objective computed with matrix products, as the engine does."""
    return replace(objective, forward=None, kernels=PlainKernels())


def responses(case: Case) -> Mapping[str, Array]:
    return case.network.forward(case.preprocessing.forward(case.x))


def before_the_relu(case: Case, name: str) -> Array:
    """Z of a convolution."""
    below = {"v": case.preprocessing.forward(case.x), **responses(case)}
    place = case.network.names.index(name)
    layer = case.layers[place]
    assert isinstance(layer, Convolution)
    return layers.conv2d_forward(below[list(below)[place]], layer.W, layer.b)


def numbers(case: Case) -> dict[str, Array]:
    """Every number of a case that comes from its hash."""
    found = {"x": case.x, "p": case.p, "a": case.a}
    for layer in case.layers:
        if isinstance(layer, Convolution):
            found |= {f"{layer.name}.W": layer.W, f"{layer.name}.b": layer.b}
    for name, regions in case.regions.items():
        found |= {f"{name}.T{number}": each.T for number, each in enumerate(regions)}
    found |= {f"{name}.T_a": T for name, T in case.guidance.items()}
    return {name: array for name, array in found.items() if array is not None}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_pixel_and_weight_is_a_multiple_of_1_256_and_exact_in_float16(case: Case) -> None:
    for name, array in numbers(case).items():
        assert array.dtype == np.float64, name
        np.testing.assert_array_equal(array * 256, np.round(array * 256), name)
        np.testing.assert_array_equal(array.astype(np.float16), array, name)
    assert min(len(np.unique(array)) for array in (case.x, case.p, case.a) if array is not None) > 2


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_truth_equals_the_engine_s_result_with_matrix_products(case: Case) -> None:
    found = answer(plainly(case.objective), case.x)
    assert found.loss == pytest.approx(case.truth.loss, rel=ORDER)
    assert apart(found.gradient, case.truth.gradient) <= ORDER
    assert list(found.dF) == list(case.truth.dF) == list(reversed(case.network.names))
    for name, dF in case.truth.dF.items():
        assert dF.shape == responses(case)[name].shape
        assert apart(found.dF[name], dF) <= ORDER, name
    assert np.any(case.truth.gradient)


@pytest.mark.parametrize("name", [name for name in CASES if name not in AT_A_KINK])
def test_the_gradient_is_the_derivative_of_the_loss(name: str) -> None:
    case = CASES[name]
    u = np.random.default_rng(1508).normal(size=case.x.shape)
    ends = [case.x + STEP * u, case.x - STEP * u]
    chosen = [case.network.choices(responses(replace(case, x=x))) for x in ends]
    for layer in chosen[0]:
        np.testing.assert_array_equal(chosen[0][layer], chosen[1][layer], layer)
    above, below = (plainly(case.objective).loss_and_gradient(x).loss for x in ends)
    slope = (above - below) / (2 * STEP)
    assert np.vdot(case.truth.gradient, u) == pytest.approx(slope, rel=DIFFERENCE)


def statistic(name: str, F: Array) -> Array:
    """Means and deviations, or covariances, as NumPy computes them."""
    flat = F.reshape(len(F), -1)
    if name == "mean-std":
        return np.stack([np.mean(flat, axis=1), np.sqrt(np.var(flat, axis=1) + 1e-5)])
    return np.cov(flat, bias=True)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_targets_come_from_the_content_and_style_images_and_the_terms_add_up_to_the_loss(
    case: Case,
) -> None:
    forward, loss = case.network.forward, 0.0
    assert (case.p is None) == (case.content is None)
    assert (case.a is None) == (not case.style and not case.statistics and not case.regions)
    if case.p is not None and case.content is not None:
        P = forward(case.preprocessing.forward(case.p))[case.content.layer]
        assert apart(case.content.P, P) <= ORDER
        difference = case.responses[case.content.layer] - case.content.P
        loss += case.content.factor * float(np.sum(difference**2))
    if case.a is not None:
        F_a = forward(case.preprocessing.forward(case.a))
        for name, term in case.style.items():
            (G, M), (A, M_a) = (
                (np.einsum("ixy,jxy->ij", F, F), F[0].size)
                for F in (case.responses[name], F_a[name])
            )
            assert M_a == case.style_terms[name].M
            assert apart(term.A, A / M_a) <= ORDER
            loss += term.factor * float(np.sum((G / M - term.A) ** 2))
        for name, each in case.statistics.items():
            S, S_a = (statistic(each.statistic, F) for F in (case.responses[name], F_a[name]))
            assert apart(each.A, S_a) <= ORDER
            loss += each.factor * float(np.sum((S - each.A) ** 2))
        for name, regions in case.regions.items():
            for term, T_a in zip(regions, case.guidance[name], strict=True):
                G, A = (
                    np.einsum("ixy,jxy,xy->ij", F, F, T**2) / np.sum(T**2)
                    for F, T in ((case.responses[name], term.T), (F_a[name], T_a))
                )
                assert apart(term.A, A) <= ORDER
                loss += term.factor * float(np.sum((G - term.A) ** 2))
    for axis in (1, 2):
        loss += case.tv * float(np.sum(np.diff(case.x, axis=axis) ** 2))
    assert loss == pytest.approx(case.truth.loss, rel=ORDER)


def test_every_case_has_a_unique_name_and_a_sentence_about_its_convention() -> None:
    assert len(cases()) == len(CASES) >= 20
    for case in cases():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", case.name)
        assert len(case.pins.split()) >= 4, case.name


def test_two_calls_return_the_same_cases() -> None:
    for case in cases():
        for name, array in numbers(case).items():
            np.testing.assert_array_equal(array, numbers(CASES[case.name])[name], name)


# What each case tests


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        ("convolution", "kernels not flipped in the backward pass"),
        ("convolution-narrow", "kernels not flipped in the backward pass"),
        ("relu", "ReLU left out of the backward pass"),
        ("relu-at-zero", "ReLU gradient passed at 0"),
        ("max-pooling-ties", "max pooling's gradient to the last of equal values"),
        ("style-of-another-size", "A not rescaled to the image's M"),
        ("content-behind-the-relu", "loss computed before the ReLU, P and A too"),
        ("style-weights", "equal w_l"),
        ("style-weights", "w_l in the wrong order"),
        *(
            (name, "average pooling's gradient not divided")
            for name in ("avg-pooling", "avg-pooling-odd", "objective", "objective-odd")
        ),
        *(
            (name, "max pooling differentiated as average pooling")
            for name in (
                "max-pooling",
                "max-pooling-odd",
                "objective-max",
                "objective-odd-max",
                "objective-author",
            )
        ),
    ],
)
def test_a_mistake_in_the_convention_of_a_case_shows_in_its_gradient(
    name: str, mistake: str
) -> None:
    found = planted(mistake, name)
    assert found is not None
    assert apart(found.gradient, CASES[name].truth.gradient) > VISIBLE


@pytest.mark.parametrize("name", ["convolution", "convolution-narrow", "max-pooling-ties"])
def test_every_relu_is_open_in_cases_about_something_else(name: str) -> None:
    case = CASES[name]
    for layer in case.layers:
        if isinstance(layer, Convolution):
            assert np.all(before_the_relu(case, layer.name) > 0), layer.name


def test_the_case_about_the_relu_has_open_and_closed_ones_that_both_matter() -> None:
    case = CASES["relu"]
    Z = before_the_relu(case, "conv1_1")
    assert case.content is not None
    difference = np.maximum(Z, 0) - case.content.P
    assert np.count_nonzero((Z < 0) & (difference != 0)) > 30
    assert np.count_nonzero(Z > 0) > 30
    assert not np.any(Z == 0)


def test_the_case_about_z_equal_to_0_has_content_differences_there() -> None:
    case = CASES["relu-at-zero"]
    assert case.content is not None
    Z = before_the_relu(case, case.content.layer)
    assert np.count_nonzero((Z == 0) & (case.content.P != 0)) > 10


def test_most_windows_of_the_case_about_ties_have_one() -> None:
    X = responses(CASES["max-pooling-ties"])["conv1_1"]
    members = np.stack([X[window] for window in layers.windows(X)])
    ties = np.count_nonzero(members == members.max(axis=0), axis=0) > 1
    assert np.mean(ties) > 0.5
    assert np.any(~ties)


def test_other_max_pooling_cases_have_no_ties_above_0() -> None:
    for name in ("max-pooling", "max-pooling-odd"):
        X = responses(CASES[name])["conv1_1"]
        members = np.sort(np.stack([X[window] for window in layers.windows(X)]), axis=0)
        assert np.all((members[-1] > members[-2]) | (members[-1] == 0)), name


@pytest.mark.parametrize("kind", ["avg", "max"])
def test_only_an_odd_last_row_and_column_have_no_gradient(kind: str) -> None:
    case = CASES[f"{kind}-pooling-odd"]
    H, V = case.x.shape[1:]
    assert H % 2 == V % 2 == 1
    dF = case.truth.dF["conv1_1"]
    assert not np.any(dF[:, -1, :])
    assert not np.any(dF[:, :, -1])
    assert np.all(np.any(dF[:, :-1, :-1], axis=(0, 2)))
    assert np.all(np.any(dF[:, :-1, :-1], axis=(0, 1)))


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if "odd" in name])
def test_odd_objectives_pool_odd_heights_and_odd_widths(name: str) -> None:
    case = CASES[name]
    sizes = [F.shape[1:] for n, F in responses(case).items() if n.startswith("conv")]
    pooled = [size for size, after in pairwise(sizes) if after != size]
    assert any(height % 2 for height, _ in pooled)
    assert any(width % 2 for _, width in pooled)
    assert case.a is not None
    assert case.a.shape != case.x.shape


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_have_the_paper_s_terms_on_the_chain_of_vgg19(name: str) -> None:
    case = CASES[name]
    assert case.content is not None
    assert case.content.layer == "conv4_2"
    assert list(case.style) == [f"conv{block}_1" for block in range(1, 6)]
    convolutions = [n for n in case.network.names if n.startswith("conv")]
    blocks = VGGS["VGG-19"].blocks
    vgg19 = [f"conv{b}_{n}" for b, block in enumerate(blocks, 1) for n in range(1, len(block) + 1)]
    assert convolutions == vgg19[: vgg19.index("conv5_1") + 1]
    kinds = {layer.kind for layer in case.layers if isinstance(layer, Pool)}
    assert len(kinds) == 1


def test_objectives_have_both_poolings() -> None:
    chains = [layer for name in OBJECTIVES for layer in CASES[name].layers]
    assert {layer.kind for layer in chains if isinstance(layer, Pool)} == {"avg", "max"}


def test_every_term_of_every_case_shows_somewhere_in_float32() -> None:
    """A term that is small at the pixels shows in dF of a layer that only it reaches."""
    for case in CASES.values():
        for term in case.objective.terms:
            alone = answer(case.objective.alone(term.name, term.layer), case.x)
            parts = [np.linalg.norm(alone.gradient) / np.linalg.norm(case.truth.gradient)]
            for name, dF in alone.dF.items():
                open_ = responses(case)[name] > 0
                parts.append(np.linalg.norm(dF[open_]) / np.linalg.norm(case.truth.dF[name][open_]))
            assert max(parts) > VISIBLE, (case.name, term.name, term.layer)


def by_hand(case: Case, scale: Mapping[str, float]) -> float:
    """α and β times means of squares, as in the released code, each scaled."""
    F = responses(case)
    total = 0.0
    if case.content is not None:
        mean = np.mean((F[case.content.layer] - case.content.P) ** 2)
        total += case.alpha * scale["content"] * mean
    for name, term in case.style.items():
        G = np.einsum("ixy,jxy->ij", F[name], F[name]) / F[name][0].size
        mean = np.mean((G - term.A) ** 2)
        total += case.beta * case.style_terms[name].weight * scale["style"] * mean
    return float(total)


@pytest.mark.parametrize("name", ["author-content", "author-style", "objective-author"])
def test_the_released_code_s_losses_are_means_of_squares(name: str) -> None:
    case = CASES[name]
    assert case.truth.loss == pytest.approx(by_hand(case, {"content": 1, "style": 1}), rel=ORDER)


@pytest.mark.parametrize("name", ["style-quarter", "style-of-another-size", "style-weights"])
def test_the_paper_s_style_loss_is_a_quarter_of_the_mean(name: str) -> None:
    case = CASES[name]
    assert case.truth.loss == pytest.approx(by_hand(case, {"style": 1 / 4}), rel=ORDER)


@pytest.mark.parametrize("name", ["content-half", "relu", "avg-pooling", "preprocessing-caffe"])
def test_the_paper_s_content_loss_is_half_the_sum(name: str) -> None:
    case = CASES[name]
    assert case.content is not None
    half = case.content.P.size / 2
    assert case.truth.loss == pytest.approx(by_hand(case, {"content": half}), rel=ORDER)


def test_preprocessing_cases_distinguish_the_channels_and_scale_them() -> None:
    caffe, torchvision = (CASES[f"preprocessing-{name}"] for name in ("caffe", "torchvision"))
    assert caffe.preprocessing.channels == "BGR"
    assert apart(caffe.truth.gradient[::-1], caffe.truth.gradient) > VISIBLE
    scale = torchvision.preprocessing.scale
    assert len(set(scale)) == 3
    assert max(scale) < 0.1
