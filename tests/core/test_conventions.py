"""The paper's formulas and the released code's, each written out again term by term."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from gramstyle.core.arrays import Array
from gramstyle.core.conventions import AUTHOR, PAPER, Convention
from gramstyle.core.evaluation import Evaluation
from gramstyle.errors import OptionError
from gramstyle.model import Model
from gramstyle.run.options import Options
from gramstyle.run.plan import plan_run
from gramstyle.run.prepare import prepare
from objectives import ContentTarget, Weights, composed, recomposed, style_targets

CONTENT, STYLE = "conv2_2", ("conv1_1", "conv2_1")
WEIGHTS = Weights(alpha=0.3, beta=2.0, w={"conv1_1": 0.75, "conv2_1": 0.25})

# Float64 sums of some thousand terms in another order.
ROUNDING = 1e-11


@pytest.fixture
def photograph(rng: np.random.Generator) -> Array:
    return rng.integers(0, 256, (36, 48, 3), np.uint8)


@pytest.fixture
def painting(rng: np.random.Generator) -> Array:
    return rng.integers(0, 256, (40, 30, 3), np.uint8)


@pytest.fixture(autouse=True)
def model(tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAMSTYLE_MODEL", str(tiny_model_path))


def evaluated(
    model: Model, convention: Convention, rng: np.random.Generator
) -> tuple[Evaluation, dict[str, tuple[Array, Array]]]:
    """One evaluation in float64, and at each layer the matrices (N, M) of x and of its target.

    The artwork is larger than the image, so that each Gram matrix has an M of its own.
    """
    network = model.network.until([CONTENT, *STYLE]).astype(np.float64)
    preprocess = model.preprocessing.forward
    x, p, a = (rng.uniform(0, 255, (3, *size)) for size in ((8, 10), (8, 10), (12, 10)))
    X, P, A = (network.forward(preprocess(image)) for image in (x, p, a))
    objective = composed(
        network=network,
        preprocessing=model.preprocessing,
        content=ContentTarget(CONTENT, P[CONTENT]),
        style=style_targets(A, STYLE),
        weights=WEIGHTS,
        convention=convention,
    )
    pairs = {name: (X[name], A[name]) for name in STYLE} | {CONTENT: (X[CONTENT], P[CONTENT])}
    flat = {name: (F.reshape(len(F), -1), T.reshape(len(T), -1)) for name, (F, T) in pairs.items()}
    return objective.loss_and_gradient(x), flat


def squared_differences(F: Array, P: Array) -> list[float]:
    return [(F[i, k] - P[i, k]) ** 2 for i in range(F.shape[0]) for k in range(F.shape[1])]


def gram_entries(F: Array, A: Array) -> list[tuple[float, float]]:
    """G_ij and A_ij, each divided by its own M."""
    return [
        (sum(F[i] * F[j]) / F.shape[1], sum(A[i] * A[j]) / A.shape[1])
        for i, j in itertools.product(range(len(F)), repeat=2)
    ]


def test_the_papers_convention_is_half_a_sum_and_a_quarter_over_n_squared(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    found, responses = evaluated(tiny_model, PAPER, rng)
    content = sum(squared_differences(*responses[CONTENT])) / 2
    style = {
        name: sum((g - a) ** 2 for g, a in gram_entries(*responses[name]))
        / (4 * len(responses[name][0]) ** 2)
        for name in STYLE
    }
    assert found.terms["content"] == pytest.approx(content, rel=ROUNDING)
    assert found.layers["style"] == pytest.approx(style, rel=ROUNDING)
    assert found.loss == pytest.approx(
        0.3 * content + 2.0 * (0.75 * style["conv1_1"] + 0.25 * style["conv2_1"]), rel=ROUNDING
    )


def test_the_authors_convention_is_the_mean_squared_error_of_responses_and_of_grams_over_m(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    found, responses = evaluated(tiny_model, AUTHOR, rng)
    content = np.mean(squared_differences(*responses[CONTENT]))
    style = {
        name: np.mean([(g - a) ** 2 for g, a in gram_entries(*responses[name])]) for name in STYLE
    }
    assert found.terms["content"] == pytest.approx(content, rel=ROUNDING)
    assert found.layers["style"] == pytest.approx(style, rel=ROUNDING)
    assert found.loss == pytest.approx(
        0.3 * content + 2.0 * (0.75 * style["conv1_1"] + 0.25 * style["conv2_1"]), rel=ROUNDING
    )


@pytest.mark.parametrize("convention", [PAPER, AUTHOR], ids=["paper", "author"])
def test_each_conventions_gradient_is_the_derivative_of_its_own_loss(
    tiny_model: Model, rng: np.random.Generator, convention: Convention
) -> None:
    network = tiny_model.network.until([CONTENT, *STYLE]).astype(np.float64).pooled_by("avg")
    preprocess = tiny_model.preprocessing.forward
    x, p, a, v = (rng.uniform(0, 255, (3, 8, 10)) for _ in range(4))
    objective = composed(
        network=network,
        preprocessing=tiny_model.preprocessing,
        content=ContentTarget(CONTENT, network.forward(preprocess(p))[CONTENT]),
        style=style_targets(network.forward(preprocess(a)), STYLE),
        weights=WEIGHTS,
        convention=convention,
    )
    step = 1e-4 * v / np.linalg.norm(v)
    ahead, behind = (objective.loss_and_gradient(x + s * step).loss for s in (1, -1))
    along = 2 * np.sum(objective.loss_and_gradient(x).gradient * step)
    # A central difference with a step of 1e-4 grey levels, away from kinks.
    assert ahead - behind == pytest.approx(along, rel=1e-6)


def test_the_authors_layer_weights_are_a_thousand_over_the_square_of_the_filters(
    photograph: Array, painting: Array
) -> None:
    spec = plan_run(photograph, painting, Options(size=48, convention="author")).last.spec
    assert spec.weights == {"content": 1.0, "style": 1.0}
    # The tiny network has 4, 5, 6, 7 and 8 filters at the five style layers.
    w = [term.weight for term in spec.terms if term.name == "style"]
    assert w == [1000 / n**2 for n in (4, 5, 6, 7, 8)]


def test_the_relation_of_the_two_conventions_on_the_page_holds(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    """docs/derivations.md: α = 2 / (N_c M_c) and β w_l = 4000 / N_l² give the author's total."""
    network = tiny_model.network.until([CONTENT, *STYLE]).astype(np.float64)
    preprocess = tiny_model.preprocessing.forward
    x, p, a = (rng.uniform(0, 255, (3, *size)) for size in ((8, 10), (8, 10), (12, 10)))
    P, A = (network.forward(preprocess(image)) for image in (p, a))
    N = {name: len(P[name]) for name in STYLE}
    author = composed(
        network=network,
        preprocessing=tiny_model.preprocessing,
        content=ContentTarget(CONTENT, P[CONTENT]),
        style=style_targets(A, STYLE),
        weights=Weights(1.0, 1.0, {name: 1000 / n**2 for name, n in N.items()}),
        convention=AUTHOR,
    )
    beta = sum(4000 / n**2 for n in N.values())
    weights = Weights(2 / P[CONTENT].size, beta, {n: 4000 / N[n] ** 2 / beta for n in STYLE})
    paper = recomposed(author, weights=weights, convention=PAPER)
    found, expected = (each.loss_and_gradient(x) for each in (author, paper))
    assert found.loss == pytest.approx(expected.loss, rel=ROUNDING)
    np.testing.assert_allclose(
        found.gradient, expected.gradient, rtol=0, atol=ROUNDING * np.abs(expected.gradient).max()
    )


def test_the_authors_weights_on_vgg19_are_those_of_the_page() -> None:
    filters = (64, 128, 256, 512, 512)
    shares = [4 * AUTHOR.layer_weight(N, 5) for N in filters]
    assert sum(shares) == pytest.approx(1.3123, abs=5e-5)
    assert [share / sum(shares) for share in shares] == pytest.approx(
        [0.744, 0.186, 0.047, 0.012, 0.012], abs=5e-4
    )
    ratio = AUTHOR.content_factor(512, 32 * 24) / sum(shares)
    assert ratio == pytest.approx(3.9e-6, abs=5e-8)


@pytest.mark.parametrize(
    ("convention", "init", "pooling", "w"),
    [
        (None, "content", "avg", 0.5),
        ("paper", "noise", "avg", 0.5),
        ("author", "content", "max", None),
    ],
)
def test_a_convention_brings_its_start_its_pooling_and_its_weights(
    photograph: Array,
    painting: Array,
    convention: str | None,
    init: str,
    pooling: str,
    w: float | None,
) -> None:
    layers = ("conv1_1", "conv2_1")
    given = Options(size=48, convention=convention, style_layers=layers)
    with prepare(photograph, painting, given) as prepared:
        settings = prepared.settings.to_json()
        assert (settings["init"], settings["pooling"]) == (init, pooling)
        assert {
            layer.kind for layer in prepared.objective.network.layers if "pool" in layer.name
        } == {pooling}
        assert (prepared.start.transpose(1, 2, 0) == photograph).all() == (init == "content")
    expected = [w, w] if w else [1000 / 16, 1000 / 25]
    assert settings["style_weights"] == expected


def test_what_is_given_goes_before_the_convention(photograph: Array, painting: Array) -> None:
    options = Options(
        size=48, convention="author", alpha=0.5, init="style", pooling="avg",
        style_layers=("conv1_1",), style_weights=(3.0,),
    )  # fmt: skip
    settings = plan_run(photograph, painting, options).settings.to_json()
    found = [settings[name] for name in ("alpha", "init", "pooling", "style_weights")]
    assert found == [0.5, "style", "avg", [3.0]]


def test_an_unknown_convention_is_refused() -> None:
    with pytest.raises(OptionError, match="convention must be paper or author, not 'text'"):
        Options(convention="text")
