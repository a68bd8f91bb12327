"""Another style loss in every kind of run: engines, tiles, clusters, records and checkpoints."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from gramstyle.cli import main
from gramstyle.core.arrays import Array
from gramstyle.core.conventions import STYLE_FACTORS, style_factor
from gramstyle.core.terms import STYLE_LOSSES
from gramstyle.images import read_image, read_settings
from gramstyle.run.options import Options
from gramstyle.run.plan import plan_run
from gramstyle.run.prepare import Prepared
from gramstyle.run.resume.saved_run import read_saved_run
from gramstyle.run.transfer import execute
from run.short_runs import assert_same, command, interrupted, resumed

Make = Callable[..., Prepared]

OTHERS = STYLE_LOSSES[1:]

SAVED = ("photo", "one")
IMAGES = 'content = "photo.png"\nstyle = "one.png"\noutput = "out.png"\n'


@pytest.mark.parametrize("style_loss", OTHERS)
@pytest.mark.parametrize("how", [{"engine": "hybrid"}, {"engine": "winograd"}, {"engine": "onnx"},
    {"tile": 48}, {"tile": 48, "engine": "winograd"}], ids=str)  # fmt: skip
def test_engines_and_tiles_agree_with_several_images_at_several_scales(
    ready: Make, paintings: Any, style_loss: str, how: dict[str, Any]
) -> None:
    same = {"style_loss": style_loss, "style_blend": (3, 1), "style_scale": (0.5, 1), "alpha": 0.1}
    assert_same(ready(paintings, **same, **how), ready(paintings, **same))


def test_on_a_cluster_the_loss_is_that_of_tiles_bit_for_bit(ready: Make, paintings: Any) -> None:
    # Its sums contain those of the other losses.
    how = {"tile": 48, "style_loss": "covariance", "style_blend": (3, 1)}
    local, there = ready(paintings, **how), ready(paintings, workers=1, **how)
    expected, found = (each.loss_and_gradient(each.start) for each in (local, there))
    assert found.loss == expected.loss
    assert np.array_equal(found.gradient, expected.gradient)


def test_gram_is_the_default_and_changes_no_bit(
    photo: Array, paintings: Any, tiny_model_path: Path
) -> None:
    def result(**given: Any) -> Array:
        options = Options(size=48, iterations=3, **given)
        plan = plan_run(photo, paintings[0], options, model=tiny_model_path)
        return np.asarray(execute(plan).image)

    np.testing.assert_array_equal(result(style_loss="gram"), result())
    assert not np.array_equal(result(style_loss="mean-std"), result())


def test_every_style_loss_has_a_factor_and_a_normalised_network_changes_it_as_alpha() -> None:
    assert tuple(STYLE_FACTORS) == STYLE_LOSSES
    assert style_factor("gram", normalised=True) == 1
    assert style_factor("covariance", normalised=True) == 1
    # Like the content loss, this one is proportional to the square of the responses.
    raw, normalised = (style_factor("mean-std", normalised=each) for each in (False, True))
    assert raw / normalised == pytest.approx(50 / 0.01)


@pytest.fixture
def folder(tmp_path: Path, photo: Array, paintings: Any, tiny_model_path: Path) -> Path:
    for name, pixels in zip(SAVED, (photo, paintings[0]), strict=True):
        PIL.Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    shutil.copy(tiny_model_path, tmp_path / "tiny.onnx")
    return tmp_path


def test_a_result_names_the_style_loss_and_a_resumed_run_is_the_same_bit_by_bit(
    folder: Path,
) -> None:
    more = ["--style-loss", "mean-std", "--iterations", "4"]
    assert main(command(folder, *more, "--optimiser", "own", images=SAVED)) == 0
    expected = read_image(folder / "out.png").pixels
    settings = read_settings(folder / "out.png")
    assert settings is not None
    assert settings["style_loss"] == "mean-std"

    interrupted(command(folder, *more, images=SAVED), folder / "saved")
    assert read_saved_run(folder / "saved").options({}).style_loss == "mean-std"
    np.testing.assert_array_equal(resumed(folder), expected)


def test_a_batch_renders_a_style_loss_anew_and_reuses_it_afterwards(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs, run = folder / "jobs.toml", ["batch", "--model", str(folder / "tiny.onnx")]
    for line, said in (
        ("", "1 done, 0 reused"),
        ('style_loss = "gram"', "0 done, 1 reused"),
        ('style_loss = "mean-std"', "1 done, 0 reused"),
        ('style_loss = "mean-std"', "0 done, 1 reused"),
    ):
        jobs.write_text(f"[[jobs]]\n{IMAGES}size = 48\niterations = 2\n{line}\n")
        assert main([*run, str(jobs)]) == 0
        assert said in capsys.readouterr().out


def test_an_exported_graph_has_the_targets_as_inputs(folder: Path) -> None:
    graph = [str(folder / name) for name in ("objective.onnx", "targets.onnx")]
    arguments = ["objective", "export", "--targets", "inputs", "--alpha", "1e-3", "-o", graph[0],
                 "--targets-model", graph[1], "--style-loss", "mean-std",
                 "--style-layers", "conv1_1", "--model", str(folder / "tiny.onnx")]  # fmt: skip
    assert main(arguments) == 0
    onnx = pytest.importorskip("onnx")
    inputs = {each.name for each in onnx.load(graph[0]).graph.input}
    outputs = {each.name for each in onnx.load(graph[1]).graph.output}
    assert {"conv1_1.mean", "conv1_1.deviation"} <= inputs & outputs
    metadata = {each.key: each.value for each in onnx.load(graph[0]).metadata_props}
    assert json.loads(metadata["objective"])["style_loss"] == "mean-std"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--style-loss", "grams"), "gram"),
        (("--style-loss", "mean-std", "--convention", "author"), "leave --convention or"),
    ],
)
def test_the_command_refuses_with_exit_code_2_and_writes_nothing(
    arguments: tuple[str, ...], words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.iterdir())
    try:
        code = main(command(folder, *arguments, images=SAVED))
    except SystemExit as stop:
        code = stop.code  # type: ignore[assignment]
    assert code == 2
    assert words in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before
