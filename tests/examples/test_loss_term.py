"""examples/loss_term.py: its gradient is right, and tiles compute the same loss."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import loss_term
from documented import ROOT
from gramstyle import Options, check_gradient
from gramstyle.core.arrays import Array
from gramstyle.core.evaluation import Evaluation
from gramstyle.core.objective import Objective
from gramstyle.core.terms import with_targets
from gramstyle.model import Model
from gramstyle.run.plan import plan_run
from gramstyle.run.prepare import RunResources

SAMPLES = ROOT / "docs" / "samples"
PAIR = SAMPLES / "chelsea.jpg", SAMPLES / "meadow.jpg"
TERM = loss_term.MeanTerm(layer="conv2_1")


def test_the_gradient_is_the_derivative_of_the_loss(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    painting, x = rng.uniform(0, 255, (3, 24, 30)), rng.uniform(0, 255, (3, 32, 40))
    network = tiny_model.network.until([TERM.layer]).astype(np.float64)
    preprocessing = tiny_model.preprocessing
    responses = network.forward(preprocessing.forward(painting))
    objective = Objective(
        network=network,
        preprocessing=preprocessing,
        terms=with_targets((TERM,), "style", responses),
        weights={"mean": 3.0},
    )

    def evaluate(x: Array) -> tuple[float, Array]:
        evaluation = objective.loss_and_gradient(x)
        return evaluation.loss, evaluation.gradient

    def choices(x: Array) -> dict[str, Array]:
        return network.choices(network.forward(preprocessing.forward(x)))

    check_gradient(evaluate, x, kinks=choices)


@pytest.mark.parametrize("engine", ["numpy", "winograd"])
def test_tiles_compute_the_loss_and_the_gradient_of_the_whole_image(
    tiny_model_path: Path, engine: str
) -> None:
    if engine == "winograd":
        pytest.importorskip("numba")

    def evaluation(tile: int | None) -> Evaluation:
        options = Options(size=96, engine=engine, tile=tile)  # type: ignore[arg-type]
        plan = loss_term.with_term(plan_run(*PAIR, options, model=tiny_model_path), TERM, 10.0)
        with RunResources(plan) as resources, resources.prepare(0) as prepared:
            return prepared.loss_and_gradient(prepared.start)

    whole, tiled = evaluation(None), evaluation(32)
    assert whole.terms["mean"] > 0
    # Float32 responses, added up in another order.
    assert tiled.terms == pytest.approx(whole.terms, rel=1e-5)
    close = 1e-4 * np.abs(whole.gradient).max()
    np.testing.assert_allclose(tiled.gradient, whole.gradient, atol=close)


def test_it_writes_an_image_and_prints_its_loss(
    tiny_model_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GRAMSTYLE_MODEL", str(tiny_model_path))
    small = replace(Options(), size=64, iterations=3)
    monkeypatch.setattr(loss_term, "Options", lambda **_: small)
    loss_term.main(*PAIR, tmp_path / "result.png")
    with PIL.Image.open(tmp_path / "result.png") as image:
        assert image.size == (64, 43)
    assert capsys.readouterr().out.startswith("L_mean is ")
