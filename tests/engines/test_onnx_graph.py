"""The objective as one graph against the objective: float64, plain kernels, the same numbers."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from gramstyle.conformance import Case, cases
from gramstyle.conformance.adapters import dtypes_of, load
from gramstyle.conformance.running import check
from gramstyle.core.conventions import AUTHOR, PAPER, Convention
from gramstyle.core.guides import mean_guides, with_guides
from gramstyle.core.kernels import Pooling
from gramstyle.core.layers import Padding
from gramstyle.core.network import Convolution, Layer, Network, Pool
from gramstyle.core.objective import Objective
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.core.terms import loss_terms, with_targets
from gramstyle.engines.onnx_graph import GraphObjective, objective_graph
from gramstyle.engines.onnx_session import open_session
from gramstyle.errors import ImageError, ModelError, NonFiniteError, OptionError
from gramstyle.optimise.scipy_lbfgsb import minimise
from objectives import ContentTarget, Weights, composed, style_targets

CASES = {case.name: case for case in cases()}

# Eight layers of sums of up to 54 products in float32; a loss is a sum of squares of such numbers.
ROUNDING = 1e-5

SEEN = Preprocessing(channels="BGR", mean=(104.0, 117.0, 124.0), scale=(0.02, 0.015, 0.01))

Rng = np.random.Generator


def network(rng: Rng, pooling: Pooling) -> Network:
    """Five convolutions and two poolings, weights exact in float32."""
    layers: list[Layer] = []
    channels = 3
    for name, N in (("conv1_1", 4), ("conv1_2", 5), ("pool1", 0), ("conv2_1", 6), ("pool2", 0),
                    ("conv3_1", 6), ("conv3_2", 5)):  # fmt: skip
        if name.startswith("pool"):
            layers.append(Pool(name, pooling))
            continue
        W = rng.standard_normal((N, channels, 3, 3)) * np.sqrt(2 / (9 * channels))
        layers.append(
            Convolution(
                name,
                W.astype(np.float32).astype(np.float64),
                rng.standard_normal(N).astype(np.float32).astype(np.float64),
            )
        )
        channels = N
    return Network(tuple(layers))


def image(rng: Rng, height: int, width: int) -> np.ndarray:
    return rng.uniform(0, 255, (3, height, width)).astype(np.float32).astype(np.float64)


def objective(
    rng: Rng,
    size: tuple[int, int],
    *,
    pooling: Pooling = "max",
    convention: Convention = PAPER,
    content: str | None = "conv2_1",
    style: tuple[str, ...] = ("conv1_1", "conv2_1", "conv3_2"),
    tv: float = 0.0,
    padding: Padding = "zeros",
) -> Objective:
    """An objective for a photograph of this size and an artwork of another, in float64."""
    net = network(rng, pooling).padded_by(padding)
    responses = net.forward(SEEN.forward(image(rng, *size)))
    of_artwork = net.forward(SEEN.forward(image(rng, 13, 22)))
    return composed(
        network=net,
        preprocessing=SEEN,
        content=None if content is None else ContentTarget(content, responses[content]),
        style=style_targets(of_artwork, style),
        weights=Weights(
            alpha=0.7, beta=3.0, w={name: 0.1 * (i + 1) for i, name in enumerate(style)}
        ),
        tv=tv,
        convention=convention,
        wraps=padding == "circular",
    )


def relative(found: np.ndarray | float, truth: np.ndarray | float) -> float:
    return float(np.linalg.norm(np.subtract(found, truth)) / np.linalg.norm(truth))


def assert_same(found: GraphObjective, truth: Objective, x: np.ndarray) -> None:
    evaluation, expected = found.loss_and_gradient(x), truth.loss_and_gradient(x)
    assert relative(evaluation.loss, expected.loss) < ROUNDING
    assert relative(evaluation.gradient, expected.gradient) < ROUNDING
    assert evaluation.terms == pytest.approx(expected.terms, rel=ROUNDING)
    assert evaluation.layers.keys() == expected.layers.keys()
    for name, by_layer in expected.layers.items():
        assert evaluation.layers[name] == pytest.approx(by_layer, rel=ROUNDING)


@pytest.mark.parametrize("size", [(16, 16), (19, 23), (22, 17), (7, 30)])
@pytest.mark.parametrize("convention", [PAPER, AUTHOR], ids=["paper", "author"])
@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_the_graph_gives_what_the_objective_gives_in_float64(
    pooling: Pooling, convention: Convention, size: tuple[int, int], rng: Rng
) -> None:
    truth = objective(rng, size, pooling=pooling, convention=convention)
    assert_same(GraphObjective(truth, *size, threads=1), truth, image(rng, *size))


@pytest.mark.parametrize("size", [(8, 8), (19, 23), (9, 30)])
@pytest.mark.parametrize("padding", ["replicate", "reflect", "circular"])
def test_the_graph_gives_what_the_objective_gives_with_each_padding(
    padding: Padding, size: tuple[int, int], rng: Rng
) -> None:
    truth = objective(rng, size, pooling="avg", padding=padding, tv=0.5)
    assert_same(GraphObjective(truth, *size, threads=1), truth, image(rng, *size))


@pytest.mark.parametrize("padding", ["replicate", "circular"])
def test_the_graph_pads_layers_of_one_position(padding: Padding, rng: Rng) -> None:
    truth = objective(rng, (4, 4), pooling="avg", padding=padding)
    assert truth.network.shapes(4, 4)["conv3_1"][1:] == (1, 1)
    assert_same(GraphObjective(truth, 4, 4, threads=1), truth, image(rng, 4, 4))


@pytest.mark.parametrize(
    ("content", "style"),
    [
        ("conv3_1", ()),
        (None, ("conv1_2", "conv3_1")),
        ("conv1_1", ("conv1_1",)),
        ("pool1", ("pool2", "conv1_1")),  # of poolings too, the deepest one of them
    ],
)
def test_either_term_may_be_left_out_and_look_at_any_layer(
    content: str | None, style: tuple[str, ...], rng: Rng
) -> None:
    truth = objective(rng, (18, 21), content=content, style=style)
    assert_same(GraphObjective(truth, 18, 21, threads=1), truth, image(rng, 18, 21))


@pytest.mark.parametrize("channels", ["BGR", "RGB"])
@pytest.mark.parametrize("size", [(16, 16), (19, 23), (7, 30)])
def test_total_variation_is_in_the_graph(
    size: tuple[int, int], channels: Literal["BGR", "RGB"], rng: Rng
) -> None:
    truth = objective(rng, size, tv=0.02)
    truth = replace(truth, preprocessing=replace(SEEN, channels=channels))
    x = image(rng, *size)
    assert 0.02 * truth.loss_and_gradient(x).terms["tv"] > 1e-3 * truth.loss_and_gradient(x).loss
    assert_same(GraphObjective(truth, *size, threads=1), truth, x)


def of_regions(rng: Rng, size: tuple[int, int], convention: Convention) -> Objective:
    """An objective of two regions with a soft edge, whose style images are two others."""
    net, styles = network(rng, "avg"), ("conv1_1", "conv2_1", "conv3_2")
    left = np.linspace(1.2, -0.2, size[1]).clip(0, 1)[np.newaxis].repeat(size[0], axis=0)
    terms = loss_terms(
        content={"conv2_1": 1.0},
        style={name: 0.1 * (i + 1) for i, name in enumerate(styles)},
        convention=convention,
        regions=(1.5, 0.5),
    )
    ones = {name: (np.ones(shape[1:]),) * 2 for name, shape in net.shapes(13, 22).items()}
    responses = [net.forward(SEEN.forward(image(rng, *each))) for each in (size, (13, 22))]
    terms = with_targets(terms, "content", responses[0])
    terms = with_targets(with_guides(terms, ones), "style", responses[1])
    parts = [mean_guides(net, T) for T in (left, 1 - left)]
    guides = {name: tuple(part[name] for part in parts) for name in net.names}
    return Objective(
        network=net,
        preprocessing=SEEN,
        terms=with_guides(terms, guides),
        weights={"content": 0.7, "style": 3.0},
    )


@pytest.mark.parametrize("convention", [PAPER, AUTHOR], ids=["paper", "author"])
def test_the_regions_of_a_style_are_in_the_graph(convention: Convention, rng: Rng) -> None:
    truth = of_regions(rng, (19, 23), convention)
    assert_same(GraphObjective(truth, 19, 23, threads=1), truth, image(rng, 19, 23))


def test_a_graph_of_regions_has_stored_targets_and_the_size_of_the_masks(rng: Rng) -> None:
    truth = of_regions(rng, (19, 23), PAPER)
    with pytest.raises(OptionError, match="take --targets stored"):
        objective_graph(truth, (19, 23), targets="inputs")
    without_content = replace(truth, terms=truth.terms[1:])
    for size in (None, (23, 19)):
        with pytest.raises(OptionError, match="the masks of regions have one size"):
            objective_graph(without_content, size)


@pytest.mark.parametrize("tv", [0.0, 0.02])
def test_a_graph_for_any_size_agrees_with_the_objective(tv: float, rng: Rng) -> None:
    truth = objective(rng, (16, 16), content=None, tv=tv)
    session = open_session(objective_graph(truth, None), threads=1)
    names = [each.name for each in session.get_outputs()]
    for size in ((16, 16), (19, 23), (30, 7)):
        x = image(rng, *size)
        outputs = session.run(None, {"x": x[None].astype(np.float32)})
        found, expected = dict(zip(names, outputs, strict=True)), truth.loss_and_gradient(x)
        assert relative(found["loss"], expected.loss) < ROUNDING
        assert relative(found["gradient"][0], expected.gradient) < ROUNDING
        for name, value in expected.terms.items():
            assert found[name] == pytest.approx(value, rel=ROUNDING)


@pytest.mark.parametrize("convention", [PAPER, AUTHOR], ids=["paper", "author"])
@pytest.mark.parametrize("w", [{"conv2_1": 0.3}, {"conv1_2": 0.5, "pool1": 1.0, "conv3_1": 2.0}])
def test_content_at_several_weighted_layers_is_in_the_graph(
    w: dict[str, float], convention: Convention, rng: Rng
) -> None:
    size = (18, 21)
    truth = objective(rng, size, convention=convention)
    F = truth.network.forward(SEEN.forward(image(rng, *size)))
    content = loss_terms(content=w, style={}, convention=convention)
    style = tuple(term for term in truth.terms if term.name == "style")
    truth = replace(truth, terms=(*with_targets(content, "content", F), *style))
    assert_same(GraphObjective(truth, *size, threads=1), truth, image(rng, *size))


def test_the_first_of_equals_in_a_window_takes_its_gradient(rng: Rng) -> None:
    """An image of one colour: away from the edges all four in every window are equal."""
    truth = objective(rng, (17, 18))
    x = np.full((3, 17, 18), 200.0)
    assert_same(GraphObjective(truth, 17, 18, threads=1), truth, x)


def test_a_second_call_is_another_image_s_and_leaves_the_image_alone(rng: Rng) -> None:
    truth = objective(rng, (16, 20))
    graph = GraphObjective(truth, 16, 20, threads=1)
    first, second = image(rng, 16, 20), image(rng, 16, 20)
    kept = first.copy()
    graph.loss_and_gradient(first)
    assert_same(graph, truth, second)
    assert np.array_equal(first, kept)


def test_large_losses_are_summed_to_seven_digits(rng: Rng) -> None:
    """Two million squares of about 1e8 each: one sum in a row was off by 3e-4, this by 2e-7."""
    # The network hands the image on: 128 times as large, and twice as many filters.
    W = np.zeros((6, 3, 3, 3))
    W[np.arange(6), np.arange(6) % 3, 1, 1] = 128.0
    net = Network((Convolution("conv1_1", W, np.zeros(6)),))
    plain = Preprocessing(channels="RGB", mean=(0.0, 0.0, 0.0), scale=(1.0, 1.0, 1.0))
    x = np.rint(image(rng, 600, 610))
    F = net.forward(np.rint(image(rng, 600, 610)))["conv1_1"]
    truth = composed(
        network=net,
        preprocessing=plain,
        content=ContentTarget("conv1_1", F),
        style={},
        weights=Weights(alpha=1.0, beta=0.0, w={}),
    )
    found = GraphObjective(truth, 600, 610, threads=1).loss_and_gradient(x)
    # A few units in float32's last place, 6e-8 each.
    assert relative(found.loss, truth.loss_and_gradient(x).loss) < 5e-7


def test_a_run_of_l_bfgs_on_the_graph_ends_where_one_on_the_objective_does(rng: Rng) -> None:
    truth = objective(rng, (16, 18), pooling="avg")
    graph = GraphObjective(truth, 16, 18, threads=1)
    start = image(rng, 16, 18)
    at_first = truth.loss_and_gradient(start).loss
    ends = [
        minimise(
            each.loss_and_gradient, start, iterations=20, tolerance=0.0, history=10
        ).best.evaluation.loss
        for each in (truth, graph)
    ]
    assert ends[0] < 0.2 * at_first
    # Rounding sends the runs apart, but not where they lead.
    assert ends[1] == pytest.approx(ends[0], rel=0.05)


# What cannot be computed


def test_a_loss_that_is_not_finite_names_the_layer_as_the_objective_does(rng: Rng) -> None:
    truth = objective(rng, (16, 16))
    graph = GraphObjective(truth, 16, 16, threads=1)
    x = image(rng, 16, 16)
    x[0, 3, 3] = np.nan
    with pytest.raises(NonFiniteError) as expected:
        truth.loss_and_gradient(x)
    with pytest.raises(NonFiniteError) as found:
        graph.loss_and_gradient(x)
    assert str(found.value) == str(expected.value)


def test_a_loss_beyond_float32_is_said(rng: Rng) -> None:
    truth = objective(rng, (16, 16))
    huge = replace(truth, weights={**truth.weights, "content": 3e38})
    with pytest.raises(NonFiniteError, match="not finite in float32; choose smaller --alpha"):
        GraphObjective(huge, 16, 16, threads=1).loss_and_gradient(image(rng, 16, 16))


def test_an_image_of_another_size_than_the_photograph_is_refused(rng: Rng) -> None:
    with pytest.raises(OptionError, match="give the content image's --size"):
        GraphObjective(objective(rng, (16, 16)), 16, 18, threads=1)
    with pytest.raises(OptionError, match="--targets inputs"):
        objective_graph(objective(rng, (16, 16)), None)


def test_an_image_too_small_for_the_network_is_refused(rng: Rng) -> None:
    with pytest.raises(ImageError, match="at least 4 pixels"):
        GraphObjective(objective(rng, (16, 16), content=None), 3, 16, threads=1)


def test_a_runtime_that_fails_is_one_line(rng: Rng, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def __init__(self, session: object) -> None:
            self._session = session

        def __getattr__(self, name: str) -> object:
            return getattr(self._session, name)

        def run_with_iobinding(self, _binding: object) -> None:
            raise RuntimeError("no memory")

    monkeypatch.setattr(
        "gramstyle.engines.onnx_graph.open_session",
        lambda *given, **options: Failing(open_session(*given, **options)),
    )
    graph = GraphObjective(objective(rng, (16, 16)), 16, 16, threads=1)
    with pytest.raises(ModelError, match=r"could not run the objective \(no memory\)"):
        graph.loss_and_gradient(image(rng, 16, 16))


# The conformance kit


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_graph_passes_every_case_in_float32(case: Case) -> None:
    assert dtypes_of("onnx_graph") == ("float32",)
    result = check(load("onnx_graph"), case, dtype="float32")
    assert result.passed, result


def test_the_adapter_refuses_any_other_float_type() -> None:
    result = check(load("onnx_graph"), CASES["relu"], dtype="float64")
    assert result.problem == "raised OptionError: the graph computes in float32, not float64"
