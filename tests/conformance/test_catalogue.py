"""The cases are what they say: each one shows what it pins, and its truth is the derivative."""

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from gramstyle.conformance import Case, cases
from gramstyle.conformance.cases import answer
from gramstyle.conformance.comparing import TOLERANCES
from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.core.kernels import Area, PlainKernels, Pooling
from gramstyle.core.network import Convolution, Pool
from gramstyle.core.objective import Objective
from gramstyle.model.vgg19 import BLOCKS

CASES: Mapping[str, Case] = {case.name: case for case in cases()}

OBJECTIVES = [name for name in CASES if name.startswith("objective")]

# Two orders of summation in float64, through 17 layers; measured: 2e-14.
ORDER = 1e-12

# Along a line without a kink the loss is a polynomial of degree 4, so a central difference with
# step 1e-5 errs by the cubic term, 1e-9 of the slope, and by rounding, 2e-8 at most.
STEP, DIFFERENCE = 1e-5, 1e-6

# These stand at a kink on purpose; there is no slope to measure.
AT_A_KINK = ("relu-at-zero", "max-pooling-ties")

# A mistake that a case pins has to show in every float type but float16.
VISIBLE = 10 * TOLERANCES["float32"]


def apart(found: Array | float, truth: Array | float) -> float:
    return float(np.linalg.norm(np.subtract(found, truth)) / np.linalg.norm(truth))


def plainly(objective: Objective, kernels: PlainKernels | None = None) -> Objective:
    """The objective computed by matrix products, as the engine does, or with kernels of ours."""
    return replace(objective, forward=None, kernels=kernels or PlainKernels())


def responses(case: Case) -> Mapping[str, Array]:
    return case.network.forward(case.objective.preprocessing.forward(case.x))


def before_the_relu(case: Case, name: str) -> Array:
    """Z of a convolution."""
    below = {"v": case.objective.preprocessing.forward(case.x), **responses(case)}
    place = case.network.names.index(name)
    layer = case.network.layers[place]
    assert isinstance(layer, Convolution)
    return layers.conv2d_forward(below[list(below)[place]], layer.W, layer.b)


def numbers(case: Case) -> dict[str, Array]:
    """Everything that the case was drawn from."""
    found = {"x": case.x, "p": case.p, "a": case.a}
    for layer in case.network.layers:
        if isinstance(layer, Convolution):
            found |= {f"{layer.name}.W": layer.W, f"{layer.name}.b": layer.b}
    return {name: array for name, array in found.items() if array is not None}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_pixel_and_weight_is_a_multiple_of_1_256_and_exact_in_float16(case: Case) -> None:
    for name, array in numbers(case).items():
        assert array.dtype == np.float64, name
        np.testing.assert_array_equal(array * 256, np.round(array * 256), name)
        np.testing.assert_array_equal(array.astype(np.float16), array, name)
    assert min(len(np.unique(array)) for array in (case.x, case.p, case.a) if array is not None) > 2


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_truth_is_what_the_engine_computes_by_matrix_products(case: Case) -> None:
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


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_targets_are_those_of_the_photograph_and_the_artwork(case: Case) -> None:
    objective, forward = case.objective, case.network.forward
    assert (case.p is None) == (objective.content is None)
    assert (case.a is None) == (not objective.style)
    if case.p is not None and objective.content is not None:
        P = forward(objective.preprocessing.forward(case.p))[objective.content.layer]
        assert apart(objective.content.P, P) <= ORDER
    if case.a is not None:
        F = forward(objective.preprocessing.forward(case.a))
        for name, target in objective.style.items():
            assert F[name].shape[1] * F[name].shape[2] == target.M
            assert apart(target.A, np.einsum("ixy,jxy->ij", F[name], F[name])) <= ORDER


def test_every_case_has_a_name_of_its_own_and_says_what_it_pins() -> None:
    listed = cases()
    assert len(listed) == len(CASES) >= 20
    for case in listed:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", case.name)
        assert len(case.pins.split()) >= 4, case.name


def test_the_cases_are_the_same_whenever_they_are_made() -> None:
    for case in cases():
        for name, array in numbers(case).items():
            np.testing.assert_array_equal(array, numbers(CASES[case.name])[name], name)


# One mistake at a time, each as the step it would replace.


class UnflippedKernels(PlainKernels):
    """A convolution's backward with the forward's kernels, not turned."""

    def convolution_backward(self, dF: Array, F: Array, W: Array) -> Array:
        return layers.conv2d_backward(layers.relu_backward(dF, F), W[:, :, ::-1, ::-1])


class WithoutMask(PlainKernels):
    """The responses' derivatives pass whether the ReLU is open or not."""

    def add_content_gradient(
        self, dF: Array | None, F: Array, P: Array, weight: float, _owned: Area | None = None
    ) -> Array:
        return weight * (F - P) + (0 if dF is None else dF)

    def convolution_backward(self, dF: Array, F: Array, W: Array) -> Array:
        return super().convolution_backward(dF, np.ones_like(F), W)


class LastTakesAll(PlainKernels):
    """A max pooling's backward that gives to the last of several equal values."""

    def pool_backward(self, dY: Array, X: Array, kind: Pooling) -> Array:
        turned = super().pool_backward(dY[:, ::-1, ::-1], X[:, ::-1, ::-1], kind)
        return turned[:, ::-1, ::-1]


class OtherPooling(PlainKernels):
    """The other kind of pooling on the way back."""

    def pool_backward(self, dY: Array, X: Array, kind: Pooling) -> Array:
        return super().pool_backward(dY, X, "max" if kind == "avg" else "avg")


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        ("convolution", UnflippedKernels()),
        ("convolution-narrow", UnflippedKernels()),
        ("relu", WithoutMask()),
        ("max-pooling-ties", LastTakesAll()),
        *(
            (f"{kind}-pooling{odd}", OtherPooling())
            for kind in ("avg", "max")
            for odd in ("", "-odd")
        ),
        *((name, OtherPooling()) for name in OBJECTIVES),
    ],
)
def test_a_mistake_in_what_a_case_pins_shows_in_its_gradient(
    name: str, mistake: PlainKernels
) -> None:
    case = CASES[name]
    found = answer(plainly(case.objective, mistake), case.x)
    assert apart(found.gradient, case.truth.gradient) > VISIBLE


@pytest.mark.parametrize("name", ["convolution", "convolution-narrow", "max-pooling-ties"])
def test_every_relu_is_open_where_a_case_is_about_something_else(name: str) -> None:
    case = CASES[name]
    for layer in case.network.layers:
        if isinstance(layer, Convolution):
            assert np.all(before_the_relu(case, layer.name) > 0), layer.name


def test_the_relu_of_the_case_about_it_is_open_here_and_closed_there() -> None:
    case = CASES["relu"]
    Z = before_the_relu(case, "conv1_1")
    assert case.objective.content is not None
    wished = np.maximum(Z, 0) - case.objective.content.P
    assert np.count_nonzero((Z < 0) & (wished != 0)) > 30
    assert np.count_nonzero(Z > 0) > 30
    assert not np.any(Z == 0)


def test_at_zero_the_relu_would_let_something_through_if_its_derivative_there_were_1() -> None:
    case = CASES["relu-at-zero"]
    layer, content = case.network.layers[0], case.objective.content
    assert isinstance(layer, Convolution)
    assert content is not None
    Z = before_the_relu(case, layer.name)
    wished = case.objective.weights.alpha * (np.maximum(Z, 0) - content.P)
    assert np.count_nonzero((Z == 0) & (wished != 0)) > 10
    mistaken = layers.conv2d_backward(np.where(Z >= 0, wished, 0), layer.W)
    assert apart(mistaken, case.truth.gradient) > VISIBLE


def test_most_windows_of_the_case_about_ties_have_one() -> None:
    X = responses(CASES["max-pooling-ties"])["conv1_1"]
    members = np.stack([X[window] for window in layers.windows(X)])
    ties = np.count_nonzero(members == members.max(axis=0), axis=0) > 1
    assert np.mean(ties) > 0.5
    assert np.any(~ties)


def test_other_max_pooling_cases_have_no_ties_to_choose_from() -> None:
    for name in ("max-pooling", "max-pooling-odd"):
        X = responses(CASES[name])["conv1_1"]
        members = np.sort(np.stack([X[window] for window in layers.windows(X)]), axis=0)
        assert np.all((members[-1] > members[-2]) | (members[-1] == 0)), name


@pytest.mark.parametrize("kind", ["avg", "max"])
def test_an_odd_last_row_and_column_get_nothing_and_the_others_get_something(kind: str) -> None:
    case = CASES[f"{kind}-pooling-odd"]
    H, V = case.x.shape[1:]
    assert H % 2 == V % 2 == 1
    dF = case.truth.dF["conv1_1"]
    assert not np.any(dF[:, -1, :])
    assert not np.any(dF[:, :, -1])
    assert np.all(np.any(dF[:, :-1, :-1], axis=(0, 2)))
    assert np.all(np.any(dF[:, :-1, :-1], axis=(0, 1)))


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if "odd" in name])
def test_odd_objectives_meet_poolings_of_odd_heights_and_of_odd_widths(name: str) -> None:
    case = CASES[name]
    sizes = [F.shape[1:] for n, F in responses(case).items() if n.startswith("conv")]
    pooled = [size for size, after in pairwise(sizes) if after != size]
    assert any(height % 2 for height, _ in pooled)
    assert any(width % 2 for _, width in pooled)
    assert case.a is not None
    assert case.a.shape != case.x.shape


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_are_the_paper_s_on_the_chain_of_vgg19(name: str) -> None:
    case = CASES[name]
    content = case.objective.content
    assert content is not None
    assert content.layer == "conv4_2"
    assert list(case.objective.style) == [f"conv{block}_1" for block in range(1, 6)]
    convolutions = [n for n in case.network.names if n.startswith("conv")]
    vgg19 = [f"conv{b}_{n}" for b, block in enumerate(BLOCKS, 1) for n in range(1, len(block) + 1)]
    assert convolutions == vgg19[: vgg19.index("conv5_1") + 1]
    kinds = {layer.kind for layer in case.network.layers if isinstance(layer, Pool)}
    assert len(kinds) == 1


def test_objectives_come_with_both_poolings() -> None:
    layers_ = [layer for name in OBJECTIVES for layer in CASES[name].network.layers]
    assert {layer.kind for layer in layers_ if isinstance(layer, Pool)} == {"avg", "max"}


def test_every_term_of_every_case_shows_somewhere_in_float32() -> None:
    """A term that is small at the pixels has to show in dF of a layer that it alone reaches."""
    for case in CASES.values():
        content = [] if case.objective.content is None else [None]
        for term in [*content, *case.objective.style]:
            alone = answer(case.objective.alone(term), case.x)
            shares = [np.linalg.norm(alone.gradient) / np.linalg.norm(case.truth.gradient)]
            for name, dF in alone.dF.items():
                open_ = responses(case)[name] > 0
                shares.append(
                    np.linalg.norm(dF[open_]) / np.linalg.norm(case.truth.dF[name][open_])
                )
            assert max(shares) > VISIBLE, (case.name, term)


def by_hand(case: Case, scale: Mapping[str, float]) -> float:
    """α and β times means of squares, as the released code takes them, each scaled."""
    objective, F = case.objective, responses(case)
    total = 0.0
    if objective.content is not None:
        layer = objective.content.layer
        mean = np.mean((F[layer] - objective.content.P) ** 2)
        total += objective.weights.alpha * scale["content"] * mean
    for name, target in objective.style.items():
        G = np.einsum("ixy,jxy->ij", F[name], F[name]) / F[name][0].size
        mean = np.mean((G - target.A / target.M) ** 2)
        total += objective.weights.beta * objective.weights.w[name] * scale["style"] * mean
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
    assert case.objective.content is not None
    half = case.objective.content.P.size / 2
    assert case.truth.loss == pytest.approx(by_hand(case, {"content": half}), rel=ORDER)


def test_an_artwork_of_another_size_has_another_m_and_it_matters() -> None:
    case = CASES["style-of-another-size"]
    assert case.a is not None
    style = {}
    for name, target in case.objective.style.items():
        M = responses(case)[name][0].size
        assert target.M != M
        style[name] = replace(target, M=M)
    found = answer(replace(case.objective, style=style), case.x)
    assert apart(found.loss, case.truth.loss) > VISIBLE
    assert apart(found.gradient, case.truth.gradient) > VISIBLE


def test_losses_before_the_relu_would_be_other_losses() -> None:
    case = CASES["content-behind-the-relu"]
    assert case.objective.content is not None
    Z = before_the_relu(case, case.objective.content.layer)
    P = case.objective.content.P
    behind, before = (np.sum((F - P) ** 2) for F in (np.maximum(Z, 0), Z))
    assert apart(before, behind) > VISIBLE
    assert np.any(P > 0)
    assert np.any(P == 0)


def test_weights_of_style_layers_are_not_interchangeable() -> None:
    w = CASES["style-weights"].objective.weights.w
    assert len(set(w.values())) == len(w) == 2
    assert 1 / len(w) not in w.values()


def test_preprocessing_cases_tell_the_channels_apart_and_scale_them() -> None:
    caffe, torchvision = (CASES[f"preprocessing-{name}"] for name in ("caffe", "torchvision"))
    assert caffe.objective.preprocessing.channels == "BGR"
    assert apart(caffe.truth.gradient[::-1], caffe.truth.gradient) > VISIBLE
    scale = torchvision.objective.preprocessing.scale
    assert len(set(scale)) == 3
    assert max(scale) < 0.1
