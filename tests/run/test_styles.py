"""Several style images and the scale of the style: plans, targets, records and checkpoints."""

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
from gramstyle.errors import OptionError
from gramstyle.images import read_image, read_settings
from gramstyle.run import checkpoint, inputs
from gramstyle.run.checkpoint import load, manifest, read_manifest
from gramstyle.run.options import Options
from gramstyle.run.plan import RunPlan, plan_run
from gramstyle.run.prepare import Prepared
from gramstyle.run.reconstruct import style_options
from gramstyle.run.resume import resume
from gramstyle.run.resume.saved_run import read_saved_run
from gramstyle.run.transfer import execute
from run.short_runs import assert_same, command, interrupted, resumed

Make = Callable[..., Prepared]


def test_the_targets_are_the_shares_of_those_of_each_image(ready: Make, paintings: Any) -> None:
    blended = ready(paintings, style_blend=(3, 1)).objective.terms_of("style")
    alone = [ready(each).objective.terms_of("style") for each in paintings]
    for layer, term in blended.items():
        first, second = (terms[layer].A / terms[layer].M for terms in alone)
        np.testing.assert_allclose(term.A / term.M, 0.75 * first + 0.25 * second, rtol=1e-5)


def test_several_scales_of_one_image_have_equal_shares(ready: Make, paintings: Any) -> None:
    both = ready(paintings[0], style_scale=(0.5, 1)).objective.terms_of("style")
    alone = [
        ready(paintings[0], style_scale=scale).objective.terms_of("style") for scale in (0.5, 1)
    ]
    for layer, term in both.items():
        first, second = (terms[layer].A / terms[layer].M for terms in alone)
        np.testing.assert_allclose(term.A / term.M, (first + second) / 2, rtol=1e-5)


@pytest.mark.parametrize("engine", ["numpy", "hybrid", "winograd", "onnx"])
def test_every_engine_blends(ready: Make, paintings: Any, engine: str) -> None:
    how = {"style_blend": (3, 1), "style_scale": (0.5, 1)}
    assert_same(ready(paintings, engine=engine, **how), ready(paintings, **how))


@pytest.mark.parametrize("engine", ["numpy", "winograd"])
def test_tiles_blend(ready: Make, paintings: Any, engine: str) -> None:
    how = {"style_blend": (3, 1), "style_scale": (0.5, 1)}
    assert_same(ready(paintings, engine=engine, tile=48, **how), ready(paintings, **how))


def test_on_a_cluster_blended_targets_are_those_of_tiles_bit_for_bit(
    ready: Make, paintings: Any
) -> None:
    how = {"tile": 48, "style_blend": (3, 1), "style_scale": (0.5, 1)}
    local, there = ready(paintings, **how), ready(paintings, workers=1, **how)
    expected, found = (each.loss_and_gradient(each.start) for each in (local, there))
    assert found.loss == expected.loss
    assert np.array_equal(found.gradient, expected.gradient)


@pytest.mark.parametrize("engine", ["numpy", "winograd"])
def test_an_image_enlarged_by_its_scale_has_the_targets_of_the_whole_image(
    ready: Make, paintings: Any, engine: str
) -> None:
    # Its targets are computed in tiles, which take no more memory than the result.
    large = ready(paintings[0], style_scale=3, engine=engine).objective.terms_of("style")
    whole = ready(paintings[0], style_scale=3, engine="onnx")
    for layer, term in whole.objective.terms_of("style").items():
        assert large[layer].M == term.M
        np.testing.assert_allclose(large[layer].A, term.A, rtol=1e-4, atol=1e-4 * term.A.max())


def test_the_defaults_and_a_list_of_one_change_no_bit(
    photo: Array, paintings: Any, tiny_model_path: Path
) -> None:
    def result(style: Any, **given: Any) -> Array:
        options = Options(size=48, iterations=3, **given)
        return np.asarray(execute(plan_run(photo, style, options, model=tiny_model_path)).image)

    expected = result(paintings[0])
    for given in ({"style_scale": 1}, {"style_size": 48}, {"style_blend": (7,)}):
        np.testing.assert_array_equal(result(paintings[:1], **given), expected)


def planned(content: Any, style: Any, model: Path, **given: Any) -> tuple[RunPlan, list[str]]:
    said: list[str] = []
    options = Options(**{"size": 64, "engine": "numpy", **given})
    return plan_run(content, style, options, model=model, notify=said.append), said


def sizes(plan: RunPlan, scale: int = 0) -> list[tuple[int, int]]:
    images = plan.inputs.images[scale]
    assert images is not None
    return [(each.image.width, each.image.height) for each in images.styles]


def test_the_scale_is_that_of_the_longer_edge_of_the_result(
    photo: Array, paintings: Any, tiny_model_path: Path
) -> None:
    for given in ({"style_scale": (0.5, 1.25)}, {"style_size": "32,80"}):
        plan, _ = planned(photo, paintings, tiny_model_path, **given)
        assert sizes(plan) == [(32, 21), (80, 53), (28, 32), (70, 80)]
        described = plan.settings.to_json()
        assert [each["width"] for each in described["style"]] == [80, 70]
        assert described["style_scale"] == [0.5, 1.25]
        assert described["style_blend"] == [0.5, 0.5]
        assert (plan.last.width, plan.last.height) == (64, 48)


def test_at_each_scale_of_a_run_the_style_has_its_multiple_of_the_edge(
    photo: Array, paintings: Any, tiny_model_path: Path
) -> None:
    plan, _ = planned(photo, paintings[0], tiny_model_path, scales=2, style_scale=1.5, size=90)
    assert [max(sizes(plan, number)[0]) for number in range(2)] == [96, 135]
    with pytest.raises(OptionError, match="choose --scales 1, or fewer"):
        planned(photo, paintings[0], tiny_model_path, scales=2, style_scale=0.6)


def test_a_reconstruction_of_a_style_at_another_scale_has_the_size_of_the_result(
    paintings: Any, tiny_model_path: Path
) -> None:
    options = style_options(("conv1_1",), Options(size=60, style_scale=0.5))
    plan = plan_run(None, paintings[0], options, model=tiny_model_path)
    assert (plan.last.width, plan.last.height) == (60, 40)
    assert sizes(plan) == [(30, 20)]


def test_a_start_from_the_style_does_not_depend_on_its_scale(ready: Make, paintings: Any) -> None:
    expected = ready(paintings[0], init="style").start
    np.testing.assert_array_equal(ready(paintings, init="style", style_scale=0.5).start, expected)


def test_an_image_is_noted_if_its_scale_enlarges_it(
    photo: Array, paintings: Any, tiny_model_path: Path
) -> None:
    def said(**given: Any) -> list[str]:
        return planned(photo, paintings, tiny_model_path, **given)[1]

    assert said(size=128) == said(style_scale=1) == []
    (line,) = said(style_scale=(0.5, 1.3))
    assert line.startswith("(style2) has 70×80 pixels and is enlarged to 73×83")
    assert "smaller --style-scale" in line
    assert len(said(style_size=128)) == 2


def test_an_array_is_one_image_and_a_list_or_tuple_is_several(
    paintings: Any, photo: Array, tiny_model_path: Path
) -> None:
    for style, count in (
        (paintings[0], 1),
        (paintings, 2),
        (tuple(paintings), 2),
        ([paintings[0]], 1),
    ):
        plan, _ = planned(photo, style, tiny_model_path)
        assert len(plan.styles) == count


@pytest.mark.parametrize(
    ("count", "given", "message"),
    [
        (0, {}, "give from 1 to 64 style images, not 0"),
        (65, {}, "give from 1 to 64 style images, not 65"),
        (2, {"style_blend": (1, 2, 3)}, "style_blend has 3 numbers for 2 style images; give one"),
        (1, {"style_blend": (1, 2)}, "style_blend has 2 numbers for 1 style image; give one each"),
        (2, {"style_blend": (1, 0)}, "each number of style_blend must be above 0"),
        (2, {"style_blend": (1, -2)}, "each number of style_blend must be above 0 .*, not -2"),
        (2, {"style_blend": (1, float("nan"))}, "style_blend must be above 0 .*, not nan"),
        (2, {"style_blend": (1, float("inf"))}, "style_blend must be above 0 .*, not inf"),
        (2, {"style_blend": (1, 1e-30)}, "at least a billionth of their sum"),
        (2, {"style_blend": ()}, "style_blend must have from 1 to 64 numbers, not 0"),
        (1, {"style_scale": 0}, "each number of style_scale must be above 0 and at most 100"),
        (1, {"style_scale": (0.5, 0.5)}, "style_scale must not have the same number twice"),
        (1, {"style_scale": "x"}, "style_scale must be a number or a list, each item a number"),
        (1, {"style_size": 0}, "each number of style_size must be above 0"),
        (1, {"style_size": 12.5}, "style_size must be a whole number or a list"),
        (1, {"style_size": 64, "style_scale": 1}, "give style_scale or style_size, not both"),
        (1, {"style_scale": 0.01}, "too few|at least 16 pixels"),
    ],
)  # fmt: skip
def test_styles_that_make_no_sense_are_one_line(
    count: int,
    given: dict[str, Any],
    message: str,
    photo: Array,
    paintings: Any,
    tiny_model_path: Path,
) -> None:
    with pytest.raises(Exception, match=message) as caught:
        planned(photo, [paintings[0]] * count, tiny_model_path, **given)
    assert "\n" not in str(caught.value)
    assert type(caught.value).__name__ in ("OptionError", "ImageError")


def test_style_images_that_do_not_fit_the_memory_budget_are_refused(
    photo: Array, paintings: Any, tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "memory_budget", lambda _: 300_000)
    planned(photo, paintings[0], tiny_model_path)
    with pytest.raises(OptionError, match=r"the style images at all sizes take .*; raise --memory"):
        planned(photo, paintings, tiny_model_path, style_scale=(1, 2))


@pytest.fixture
def folder(tmp_path: Path, photo: Array, paintings: Any, tiny_model_path: Path) -> Path:
    for name, pixels in (("photo", photo), ("one", paintings[0]), ("two", paintings[1])):
        PIL.Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    shutil.copy(tiny_model_path, tmp_path / "tiny.onnx")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--style-blend", "1,2,3"), "style_blend has 3 numbers for 2 style images"),
        (("--style-blend", "1,0"), "must be above 0"),
        (("--style-scale", "nan"), "must be above 0"),
        (("--style-size", "1.5"), "is not a list like 256,512"),
        (("--style-scale", "1", "--style-size", "48"), "not both"),
    ],
)
def test_the_command_refuses_them_with_exit_code_2_and_writes_nothing(
    arguments: tuple[str, ...], words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.iterdir())
    try:
        code = main(command(folder, *arguments))
    except SystemExit as stop:
        code = stop.code  # type: ignore[assignment]
    assert code == 2
    assert words in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before


def test_a_result_names_every_style_and_a_resumed_run_is_the_same_bit_by_bit(folder: Path) -> None:
    more = ["--style-blend", "3,1", "--style-scale", "0.5,1", "--iterations", "4"]
    assert main(command(folder, *more, "--optimiser", "own")) == 0
    expected = read_image(folder / "out.png").pixels
    settings = read_settings(folder / "out.png")
    assert settings is not None
    assert [each["name"] for each in settings["style"]] == ["one.png", "two.png"]
    assert settings["style_blend"] == [0.75, 0.25]
    assert settings["style_scale"] == [0.5, 1.0]

    interrupted(command(folder, *more), folder / "saved")
    for name in ("photo", "one", "two", "out"):
        (folder / f"{name}.png").unlink()
    saved = read_saved_run(folder / "saved")
    assert saved.iteration == 3
    assert [path.name for path in saved.styles] == ["one.png", "two.png"]
    assert set(saved.fingerprints) == {"model", "content", "style", "style2", "start"}
    np.testing.assert_array_equal(resumed(folder), expected)

    PIL.Image.new("RGB", (70, 80), "red").save(saved.styles[1])
    with pytest.raises(checkpoint.CheckpointError, match="another style2 image than two"):
        resume(folder / "saved", model=folder / "tiny.onnx")


def test_a_checkpoint_of_version_2_can_be_resumed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = command(folder, "--iterations", "2", "--checkpoint", str(folder / "saved"))
    images.remove(str(folder / "two.png"))
    assert main(images) == 0
    arrays = load(folder / "saved", expected=read_saved_run(folder / "saved").expected()).arrays
    run = read_manifest(folder / "saved")
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "VERSION", 2)
        checkpoint.save(folder / "saved", run, arrays.items())
    assert json.loads((folder / "saved/manifest.json").read_text())["version"] == 2
    resumed = resume(folder / "saved", model=folder / "tiny.onnx")
    assert resumed.state().iteration == 2
