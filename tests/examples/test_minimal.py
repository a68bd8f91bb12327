"""examples/minimal.py on the tiny network: it is equation 7, and it makes an image."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import minimal
from documented import ROOT
from gramstyle import Options, check_gradient
from gramstyle.model import Model
from gramstyle.run.prepare import prepare

SAMPLES = ROOT / "docs" / "samples"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example at 64 pixels and three iterations."""
    monkeypatch.setattr(minimal, "SIZE", 64)
    monkeypatch.setattr(minimal, "ITERATIONS", 3)


def test_the_gradient_is_the_derivative_of_the_loss(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    shapes = (3, 32, 40), (3, 24, 30), (3, 32, 40)
    photo, painting, x = (rng.uniform(0, 255, shape) for shape in shapes)
    network = tiny_model.network.pooled_by("avg").astype(np.float64)
    evaluate = minimal.objective(network, tiny_model.preprocessing, photo, painting)

    def choices(x: np.ndarray) -> dict[str, np.ndarray]:
        return network.choices(network.forward(tiny_model.preprocessing.forward(x)))

    check_gradient(evaluate, x, kinks=choices)


def test_the_loss_is_the_one_that_the_engine_computes(
    small: None, tiny_model: Model, tiny_model_path: Path
) -> None:
    paths = SAMPLES / "chelsea.jpg", SAMPLES / "meadow.jpg"
    options = Options(size=64, alpha=minimal.ALPHA, pooling="avg", padding="zeros", engine="numpy")
    with prepare(*paths, options, model=tiny_model_path) as prepared:
        expected = prepared.objective.loss_and_gradient(prepared.start)
        photo, painting = map(minimal.opened, paths)
        evaluate = minimal.objective(tiny_model.network, tiny_model.preprocessing, photo, painting)
        loss, gradient = evaluate(prepared.start.astype(np.float32))
    assert loss == pytest.approx(expected.loss, rel=1e-4)
    np.testing.assert_allclose(gradient, expected.gradient, atol=1e-3 * np.abs(gradient).max())


def test_it_writes_an_image_with_a_smaller_loss(
    small: None,
    tiny_model_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GRAMSTYLE_MODEL", str(tiny_model_path))
    minimal.main(SAMPLES / "chelsea.jpg", SAMPLES / "meadow.jpg", tmp_path / "result.png")
    with PIL.Image.open(tmp_path / "result.png") as image:
        assert image.size == (64, 43)
    losses = [float(line.split()[1]) for line in capsys.readouterr().out.splitlines()]
    assert min(losses) < 0.8 * losses[0]


def test_it_stays_short_enough_to_be_read_at_once() -> None:
    assert len((ROOT / "examples" / "minimal.py").read_text(encoding="utf-8").splitlines()) <= 120
