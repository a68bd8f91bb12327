"""Masks in a run: regions, labels, the protected part, records, checkpoints and bad input."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from gramstyle import read_recipe, recipe_of
from gramstyle.cli import main
from gramstyle.core.arrays import Array
from gramstyle.errors import OptionError
from gramstyle.images import read_image, read_settings
from gramstyle.run import checkpoint
from gramstyle.run.options import Options
from gramstyle.run.plan import RunPlan, plan_run
from gramstyle.run.prepare import Prepared
from gramstyle.run.resume import resume
from gramstyle.run.resume.saved_run import read_saved_run
from gramstyle.run.transfer import execute
from run.short_runs import assert_same, command, interrupted, resumed

Make = Callable[..., Prepared]

# Layers whose positions see few pixels, so that small regions of a style image have some.
SHALLOW = ("conv1_1", "conv2_1")

RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture
def halves() -> tuple[Array, Array]:
    """The masks of the left and the right half, with a soft edge."""
    left = np.clip((60 - np.arange(100)) / 20, 0, 1)
    left = np.round(255 * np.repeat(left[np.newaxis], 75, axis=0)).astype(np.uint8)
    return left, 255 - left


def labels(height: int, width: int, edge: int) -> Array:
    """A label map: red to the left of an edge, blue to the right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, :edge], pixels[:, edge:] = RED, BLUE
    return pixels


def planned(content: Any, style: Any, model: Path, **given: Any) -> tuple[RunPlan, list[str]]:
    said: list[str] = []
    options = Options(**{"size": 100, "engine": "numpy", **given})
    return plan_run(content, style, options, model=model, notify=said.append), said


def test_one_white_mask_is_the_run_without_masks(ready: Make, paintings: Any) -> None:
    white = np.full((5, 4), 255, np.uint8)
    assert_same(ready(paintings[0], style_regions=(white,)), ready(paintings[0]))


@pytest.mark.parametrize("engine", ["hybrid", "winograd", "onnx"])
def test_every_engine_has_regions(ready: Make, paintings: Any, halves: Any, engine: str) -> None:
    how = {"style_regions": halves, "style_blend": (3, 1), "style_scale": (0.5, 1)}
    assert_same(ready(paintings, engine=engine, **how), ready(paintings, **how))


@pytest.mark.parametrize("engine", ["numpy", "winograd"])
def test_tiles_have_regions_and_a_protected_part(
    ready: Make, paintings: Any, halves: Any, engine: str
) -> None:
    how = {"style_regions": halves, "protect": halves[0].T}
    assert_same(ready(paintings, engine=engine, tile=48, **how), ready(paintings, **how))


def test_on_a_cluster_regions_are_those_of_tiles_bit_for_bit(
    ready: Make, paintings: Any, halves: Any
) -> None:
    how = {"tile": 48, "style_regions": halves, "style_scale": (0.5, 1), "protect": halves[0].T}
    local, there = ready(paintings, **how), ready(paintings, workers=1, **how)
    expected, found = (each.loss_and_gradient(each.start) for each in (local, there))
    assert found.loss == expected.loss
    assert np.array_equal(found.gradient, expected.gradient)


def test_a_region_has_the_target_of_its_style_image(
    ready: Make, paintings: Any, halves: Any
) -> None:
    both = ready(paintings, style_regions=halves).objective.terms_of("style")
    for r, painting in enumerate(paintings):
        alone = ready(painting).objective.terms_of("style")
        for layer, term in both.items():
            np.testing.assert_allclose(
                term.A[r] / term.M[r], alone[layer].A / alone[layer].M, rtol=1e-5
            )


def test_the_blend_weights_the_regions(ready: Make, paintings: Any, halves: Any) -> None:
    given = ready(paintings, style_regions=halves, style_blend=(3, 1)).objective
    assert {term.shares for term in given.terms_of("style").values()} == {(1.5, 0.5)}


@pytest.mark.parametrize("scale", [1.0, 0.6, 1.3])
def test_the_style_of_a_label_does_not_depend_on_the_style_image_elsewhere(
    ready: Make, paintings: Any, rng: np.random.Generator, scale: float
) -> None:
    other = paintings[0].copy()
    other[:, 45:] = rng.integers(0, 256, (60, 45, 3))
    how = {
        "content_labels": labels(75, 100, 40),
        "style_labels": (labels(60, 90, 45),),
        "style_layers": SHALLOW,
        "style_scale": scale,
    }
    before, after = (
        ready(each, **how).objective.terms_of("style") for each in (paintings[0], other)
    )
    for layer, term in before.items():
        blue, red = range(2)  # in the order of their colours, #0000ff before #ff0000
        np.testing.assert_array_equal(term.A[red], after[layer].A[red])
        assert not np.allclose(term.A[blue], after[layer].A[blue])


def test_labels_of_several_style_images_have_the_images_shares(ready: Make, paintings: Any) -> None:
    second = np.zeros((80, 70, 3), np.uint8)
    second[...] = RED  # the second image is red everywhere
    how = {"content_labels": labels(75, 100, 40), "style_layers": SHALLOW}
    maps = (labels(60, 90, 45), second)
    both = ready(paintings, style_labels=maps, style_blend=(3, 1), **how)
    first = ready(paintings[0], style_labels=maps[:1], **how).objective.terms_of("style")
    whole = ready(paintings[1], style_layers=SHALLOW).objective.terms_of("style")
    for layer, term in both.objective.terms_of("style").items():
        of_first = [first[layer].A[r] / first[layer].M[r] for r in range(2)]
        np.testing.assert_allclose(term.A[0] / term.M[0], of_first[0], rtol=1e-5)
        mean = 0.75 * of_first[1] + 0.25 * whole[layer].A / whole[layer].M
        np.testing.assert_allclose(term.A[1] / term.M[1], mean, rtol=1e-5)


@pytest.mark.parametrize("init", ["content", "noise"])
def test_the_protected_part_is_the_photograph_to_the_last_bit(
    photo: Array, paintings: Any, tiny_model_path: Path, init: str
) -> None:
    mask = np.zeros((75, 100), np.uint8)
    mask[20:50, 30:70] = 255
    mask[18:20, 30:70] = 128
    plan, _ = planned(
        photo, paintings[0], tiny_model_path, iterations=4, beta=1e3, init=init, protect=mask
    )
    seen: list[Array] = []

    def look(progress: Any) -> None:
        seen.append(np.asarray(progress.image()))

    image = np.asarray(execute(plan, callback=look).image)
    protected, free = mask == 255, mask == 0
    for each in (image, *seen):
        np.testing.assert_array_equal(each[protected], photo[protected])
    assert np.mean(image[free] != photo[free]) > 0.5
    if init == "noise":  # half of each pixel at the soft edge is the photograph
        apart = np.abs(image[18:20, 30:70].astype(float) - photo[18:20, 30:70])
        assert apart.max() <= 255 - 127


def test_with_its_own_colours_the_protected_part_is_the_photograph_within_one_level(
    photo: Array, paintings: Any, tiny_model_path: Path
) -> None:
    mask = np.zeros((75, 100), np.uint8)
    mask[20:50, 30:70] = 255
    how = {"iterations": 2, "beta": 1e3, "colours": "content", "protect": mask}
    plan, _ = planned(photo, paintings[0], tiny_model_path, **how)
    image = np.asarray(execute(plan).image).astype(int)
    assert np.abs(image - photo)[mask == 255].max() <= 1


def test_at_each_scale_the_masks_have_the_size_of_the_result(
    photo: Array, paintings: Any, halves: Any, tiny_model_path: Path
) -> None:
    plan, said = planned(
        photo, paintings, tiny_model_path, scales=2, style_regions=halves, protect=halves[1]
    )
    for number, size in enumerate([(53, 71), (75, 100)]):
        images = plan.inputs.images[number]
        assert images is not None
        assert images.masks is not None
        assert {T.shape for T in images.masks.result} == {size}
    assert said == []
    result = execute(plan)
    protected = halves[1] == 255
    np.testing.assert_array_equal(np.asarray(result.image)[protected], photo[protected])


def test_a_mask_of_another_size_than_its_image_is_noted(
    photo: Array, paintings: Any, halves: Any, tiny_model_path: Path
) -> None:
    def said(*masks: Array, **given: Any) -> list[str]:
        return planned(photo, paintings, tiny_model_path, style_regions=masks, **given)[1]

    assert said(*halves) == said(*halves, size=50) == []
    (line,) = said(halves[0], np.full((9, 16), 255, np.uint8))
    assert line == (
        "(region2) has 16×9 pixels and its image 100×75; it is resized to cover the whole image."
    )


def test_a_run_without_masks_has_the_settings_and_terms_of_before(
    photo: Array, paintings: Any, tiny_model_path: Path
) -> None:
    plan, _ = planned(photo, paintings[0], tiny_model_path)
    assert "masks" not in plan.settings.to_json()
    assert {type(term).__name__ for term in plan.last.spec.terms} == {"ContentTerm", "StyleTerm"}


WHITE, BLACK = np.full((75, 100), 255, np.uint8), np.zeros((75, 100), np.uint8)
DOT = BLACK.copy()
DOT[74, 99] = 255
MAPS = {"content_labels": labels(75, 100, 40), "style_layers": SHALLOW}


@pytest.mark.parametrize(
    ("styles", "given", "message"),
    [
        (2, {"style_regions": (WHITE,)}, "style_regions has 1 mask for 2 style images; give one"),
        (1, {"style_regions": (WHITE, WHITE)}, "style_regions has 2 masks for 1 style image"),
        (1, {"style_regions": ()}, "style_regions has 0 masks"),
        (1, {"style_regions": (BLACK,)}, r"\(region\) is black everywhere.*paint the region white"),
        (1, {"style_regions": (DOT,)}, r"the region \(region\) is empty at layer conv2_1 of"),
        (1, {"content_labels": labels(9, 9, 4)}, "content_labels needs style_labels.*give both"),
        (1, {"style_labels": (labels(9, 9, 4),)}, "style_labels needs content_labels"),
        (1, {**MAPS, "style_labels": (labels(9, 9, 4),) * 2}, "style_labels has 2 label maps"),
        (1, {**MAPS, "style_labels": (labels(9, 9, 9),)},
         r"\(content_labels\) has the label #0000ff, and \(style_labels\) has not; paint the same"),
        (1, {"content_labels": labels(9, 9, 9), "style_labels": (labels(9, 9, 4),)},
         r"\(style_labels\) has the label #0000ff, and \(content_labels\) has not"),
        (2, {**MAPS, "style_labels": (labels(9, 9, 9),) * 2}, "and no label map of a style has it"),
        (1, {**MAPS, "style_labels": (labels(60, 90, 7),)},
         r"the region #ff0000 of \(content_labels\) is empty at layer conv2_1 of the style: a "
         r"position there sees 10×10 pixels.*larger --style-scale, or leave conv2_1 out"),
        (1, {**MAPS, "style_labels": (labels(9, 9, 4),), "style_regions": (WHITE,)},
         "style_regions and labels both say where"),
        (1, {"protect": WHITE}, "the part of the image that is not protected is empty at layer"),
        (1, {"protect": BLACK}, r"\(protect\) is black everywhere"),
        (1, {"style_regions": (np.zeros((4, 4, 7)),)}, "an array of shape .* is not an image"),
        (1, {"style_regions": "none.png"}, r"cannot read 'none\.png': there is no such file"),
        (1, {"protect": 3}, r"cannot read protect: it is of type int"),
        (1, {"style_regions": (WHITE,), "style_loss": "covariance"},
         "masks guide Gram matrices, and style_loss is covariance; leave style_loss or"),
    ],
)  # fmt: skip
def test_masks_that_make_no_sense_are_one_line(
    styles: int, given: dict[str, Any], message: str, photo: Array, paintings: Any,
    tiny_model_path: Path,
) -> None:  # fmt: skip
    with pytest.raises(Exception, match=message) as caught:
        planned(photo, paintings[:styles], tiny_model_path, **given)
    assert "\n" not in str(caught.value)
    assert type(caught.value).__name__ in ("OptionError", "ImageError")


def test_only_a_content_image_with_a_style_can_be_protected(
    paintings: Any, tiny_model_path: Path
) -> None:
    for content, style in ((None, paintings[0]), (paintings[0], None)):
        with pytest.raises(OptionError, match=r"protect keeps a part .* needs both"):
            planned(content, style, tiny_model_path, protect=WHITE)


@pytest.fixture
def folder(
    tmp_path: Path, photo: Array, paintings: Any, halves: Any, tiny_model_path: Path
) -> Path:
    pixels = {"photo": photo, "one": paintings[0], "two": paintings[1], "keep": halves[0].T}
    pixels |= {"left": halves[0], "right": halves[1]}
    for name, each in pixels.items():
        PIL.Image.fromarray(np.ascontiguousarray(each)).save(tmp_path / f"{name}.png")
    shutil.copy(tiny_model_path, tmp_path / "tiny.onnx")
    return tmp_path


def regions(folder: Path, *names: str) -> list[str]:
    return ["--style-regions", ",".join(str(folder / f"{name}.png") for name in names)]


@pytest.mark.parametrize(
    ("names", "words"),
    [(("left",), "style_regions has 1 mask for 2 style images"),
     (("left", "none"), "there is no such file"),
     (("left", "out"), "out.png")],
)  # fmt: skip
def test_the_command_refuses_bad_masks_with_exit_code_2_and_writes_nothing(
    names: tuple[str, ...], words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.iterdir())
    assert main(command(folder, *regions(folder, *names))) == 2
    assert words in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before


def test_a_result_names_its_masks_and_a_resumed_run_is_the_same_bit_by_bit(folder: Path) -> None:
    protect = ["--protect", str(folder / "keep.png"), "--iterations", "4"]
    more = [*regions(folder, "left", "right"), *protect]
    assert main(command(folder, *more, "--optimiser", "own")) == 0
    expected = read_image(folder / "out.png").pixels
    settings = read_settings(folder / "out.png")
    assert settings is not None
    assert settings["style_regions"] == ["left.png", "right.png"]
    assert settings["protect"] == "keep.png"
    described = {role: each["name"] for role, each in settings["masks"].items()}
    assert described == {"region": "left.png", "region2": "right.png", "protect": "keep.png"}
    assert {len(each["pixels"]) for each in settings["masks"].values()} == {64}

    interrupted(command(folder, *more), folder / "saved")
    for name in ("photo", "one", "two", "left", "right", "keep", "out"):
        (folder / f"{name}.png").unlink()
    saved = read_saved_run(folder / "saved")
    masks = {role: path.name for role, path in saved.images.items() if role in described}
    assert masks == described
    np.testing.assert_array_equal(resumed(folder), expected)

    PIL.Image.new("L", (100, 75), 255).save(saved.images["region2"])
    with pytest.raises(checkpoint.CheckpointError, match=r"another region2 image than right\.png"):
        resume(folder / "saved", model=folder / "tiny.onnx")


def test_the_recipe_of_a_result_names_its_masks(folder: Path) -> None:
    more = [*regions(folder, "left", "right"), "--protect", str(folder / "keep.png")]
    assert main(command(folder, *more, "--iterations", "1")) == 0
    recipe = recipe_of(folder / "out.png")
    assert recipe.values["style_regions"] == ["left.png", "right.png"]
    assert recipe.values["protect"] == "keep.png"
    assert not any("region" in note or "protect" in note for note in recipe.notes)
    for masks in ('["left.png", "right.png"]', '"left.png, right.png"'):
        (folder / "look.toml").write_text(f"version = 1\nstyle_regions = {masks}\n")
        found = read_recipe(folder / "look.toml").values["style_regions"]
        assert found == [str(folder / "left.png"), str(folder / "right.png")]


def test_a_checkpoint_contains_its_masks_and_names_no_others(folder: Path) -> None:
    more = [*regions(folder, "left", "right"), "--iterations", "1"]
    assert main(command(folder, *more, "--checkpoint", str(folder / "saved"))) == 0
    run = checkpoint.read_manifest(folder / "saved")
    assert "style_regions" not in run["options"]
    arrays = checkpoint.load(folder / "saved", expected=read_saved_run(folder / "saved").expected())
    hostile = {**run, "options": {**run["options"], "protect": str(folder / "keep.png")}}
    checkpoint.save(folder / "saved", hostile, arrays.arrays.items())
    with pytest.raises(checkpoint.CheckpointError, match="names masks instead of containing them"):
        resume(folder / "saved", model=folder / "tiny.onnx")
