"""Short runs of the tiny network: the command, an interruption, and a comparison of objectives."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gramstyle.cli import main
from gramstyle.cli.running import performing as running
from gramstyle.core.arrays import Array
from gramstyle.images import read_image
from gramstyle.run.prepare import Prepared
from gramstyle.run.progress import Losses

# The order of sums in float32, where some ReLUs flip.
FLOAT32 = 5e-3


def assert_same(found: Prepared, expected: Prepared) -> None:
    """Check that two objectives agree up to the rounding of float32, at a start from noise."""
    x = np.random.default_rng(1).uniform(0, 255, expected.start.shape).astype(np.float32)
    wanted = expected.loss_and_gradient(x.astype(expected.start.dtype))
    gradient = wanted.gradient.copy()
    evaluation = found.loss_and_gradient(x.astype(found.start.dtype))
    assert evaluation.loss == pytest.approx(wanted.loss, rel=1e-3)
    assert evaluation.layers["style"] == pytest.approx(wanted.layers["style"], rel=1e-3)
    difference = np.linalg.norm(evaluation.gradient - gradient)
    assert difference < FLOAT32 * np.linalg.norm(gradient)


def command(
    folder: Path, *more: str, images: tuple[str, ...] = ("photo", "one", "two")
) -> list[str]:
    """Return the command that renders images of a folder at 48 pixels."""
    paths = [str(folder / f"{name}.png") for name in images]
    model = ["--model", str(folder / "tiny.onnx"), "--quiet", "--size", "48"]
    return ["transfer", *paths, "-o", str(folder / "out.png"), *model, *more]


def interrupt_after(monkeypatch: pytest.MonkeyPatch, iteration: int) -> None:
    """Press Ctrl-C after an iteration."""
    log = running.RunLog.iteration

    def interrupt(self: running.RunLog, losses: Losses, *scale: Any, scales: int) -> None:
        log(self, losses, *scale, scales=scales)
        if losses.iteration == iteration:
            raise KeyboardInterrupt

    monkeypatch.setattr(running.RunLog, "iteration", interrupt)


def interrupted(arguments: list[str], saved: Path) -> None:
    """Run a command that has its last checkpoint after the third iteration."""
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, 3)
        assert main([*arguments, "--checkpoint", str(saved), "--every", "2"]) == 130


def resumed(folder: Path) -> Array:
    """Resume the run in `saved`; return the pixels of its image."""
    out = folder / "out.png"
    paths = [str(folder / "saved"), "-o", str(out), "--model", str(folder / "tiny.onnx")]
    assert main(["resume", *paths, "--quiet"]) == 0
    return read_image(out).pixels
