"""The option padding in runs: sizes, engines, tiles, a cluster, records, checkpoints and graphs."""

import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import PIL.Image
import pytest

from gramstyle.cli import main
from gramstyle.core.arrays import Array
from gramstyle.core.layers import Padding
from gramstyle.core.wrapping import wrapping_multiple
from gramstyle.errors import ImageError, OptionError
from gramstyle.images import read_image, read_settings
from gramstyle.run.options import Options
from gramstyle.run.plan import plan_run
from gramstyle.run.prepare import Prepared, prepare
from gramstyle.run.resume.saved_run import read_saved_run
from gramstyle.run.transfer import execute
from run.short_runs import FLOAT32, assert_same, command, interrupted, resumed

Make = Callable[..., Prepared]

SAVED = ("photo", "painting")


@pytest.fixture
def photo(rng: np.random.Generator) -> Array:
    return rng.integers(0, 256, (66, 100, 3)).astype(np.uint8)


@pytest.fixture
def painting(rng: np.random.Generator) -> Array:
    return rng.integers(0, 256, (60, 90, 3)).astype(np.uint8)


@pytest.fixture
def ready(photo: Array, painting: Array, tiny_model_path: Path):  # type: ignore[no-untyped-def]
    with ExitStack() as stack:

        def make(**given: Any) -> Prepared:
            options = Options(**{"size": 96, "engine": "numpy", "beta": 1e3, **given})
            return stack.enter_context(prepare(photo, painting, options, model=tiny_model_path))

        yield make


@pytest.mark.parametrize("padding", ["replicate", "reflect", "circular"])
@pytest.mark.parametrize("how", [{"engine": "winograd"}, {"engine": "onnx"}, {"tile": 32}])
def test_engines_and_tiles_agree(ready: Make, padding: Padding, how: dict[str, Any]) -> None:
    assert_same(ready(padding=padding, tv=10.0, **how), ready(padding=padding, tv=10.0))


def test_on_a_cluster_a_padded_image_has_the_bits_of_local_tiles(ready: Make) -> None:
    how = {"tile": 32, "size": 224, "padding": "circular"}
    local, there = ready(**how), ready(workers=1, **how)
    expected, found = (each.loss_and_gradient(each.start) for each in (local, there))
    assert found.loss == expected.loss
    assert np.array_equal(found.gradient, expected.gradient)


def test_a_shift_around_the_edges_changes_no_loss(ready: Make) -> None:
    # Responses move with the image, and the sums of a Gram matrix do not depend on the place.
    prepared = ready(padding="circular", alpha=0.0, tv=10.0)
    x = np.random.default_rng(1).uniform(0, 255, prepared.start.shape)
    expected = prepared.loss_and_gradient(x)
    gradient = expected.gradient.copy()
    found = prepared.loss_and_gradient(np.roll(x, (16, 48), axis=(1, 2)))
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)  # float32 sums in another order
    back = np.roll(found.gradient, (-16, -48), axis=(1, 2))
    assert np.linalg.norm(back - gradient) < FLOAT32 * np.linalg.norm(gradient)


def test_the_default_is_replicate_and_the_conventions_of_the_paper_have_zeros(
    photo: Array, painting: Array, tiny_model_path: Path
) -> None:
    def result(**given: Any) -> Array:
        options = Options(size=48, iterations=3, **given)
        return np.asarray(execute(plan_run(photo, painting, options, model=tiny_model_path)).image)

    np.testing.assert_array_equal(result(padding="replicate"), result())
    assert not np.array_equal(result(padding="zeros"), result())
    paper = {"convention": "paper"}
    np.testing.assert_array_equal(result(padding="zeros", **paper), result(**paper))


def test_with_circular_padding_every_image_has_a_size_that_wraps(
    photo: Array, painting: Array, tiny_model_path: Path
) -> None:
    options = Options(size=96, scales=2, padding="circular", style_scale=(0.8, 1.2))
    plan = plan_run(photo, painting, options, model=tiny_model_path)
    assert (plan.last.width, plan.last.height) == (96, 64)
    network = plan.last.spec.network(plan.inputs.take_model())
    for number, scale in enumerate(plan.scales):
        images = plan.inputs.take_images(number)
        assert images.content is not None
        sizes = [(scale.width, scale.height), (images.content.width, images.content.height)]
        sizes += [(each.image.width, each.image.height) for each in images.styles]
        for edge in (edge for size in sizes for edge in size):
            assert edge % wrapping_multiple(network) == 0
            assert edge > 0


def test_a_size_that_does_not_wrap_is_one_line_that_names_the_next_one() -> None:
    message = r"size must be a multiple of 16 with the padding circular, not 100; .* 112$"
    with pytest.raises(OptionError, match=message):
        Options(size=100, padding="circular")
    Options(size=100, padding="circular", content_layers=("pool2",), style_layers=("conv3_1",))
    Options(size=100, padding="reflect")


def test_an_image_too_small_to_reflect_is_refused(
    photo: Array, painting: Array, tiny_model_path: Path
) -> None:
    options = Options(size=40, padding="reflect")  # 40×26
    with pytest.raises(ImageError, match=r"40×26 pixels is too small .* at least 32 pixels"):
        plan_run(photo, painting, options, model=tiny_model_path)


def test_another_word_is_refused_with_the_known_ones() -> None:
    with pytest.raises(OptionError, match=r"padding .*zeros, replicate, reflect.*circular"):
        Options(padding="mirror")  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path, photo: Array, painting: Array, tiny_model_path: Path) -> Path:
    for name, pixels in zip(SAVED, (photo, painting), strict=True):
        PIL.Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    shutil.copy(tiny_model_path, tmp_path / "tiny.onnx")
    return tmp_path


def test_a_result_names_its_padding_and_a_resumed_run_is_the_same_bit_by_bit(folder: Path) -> None:
    more = ["--padding", "circular", "--iterations", "4"]
    assert main(command(folder, *more, "--optimiser", "own", images=SAVED)) == 0
    expected = read_image(folder / "out.png").pixels
    settings = read_settings(folder / "out.png")
    assert settings is not None
    assert settings["padding"] == "circular"

    interrupted(command(folder, *more, images=SAVED), folder / "saved")
    (folder / "out.png").unlink()
    assert read_saved_run(folder / "saved").options({}).padding == "circular"
    np.testing.assert_array_equal(resumed(folder), expected)


def test_a_checkpoint_that_names_no_padding_was_padded_with_zeros(folder: Path) -> None:
    more = ["--iterations", "1", "--checkpoint", str(folder / "saved")]
    assert main(command(folder, *more, images=SAVED)) == 0
    saved = read_saved_run(folder / "saved")
    options = {k: v for k, v in saved.manifest["options"].items() if k != "padding"}
    object.__setattr__(saved, "manifest", {**saved.manifest, "options": options})
    assert saved.options({}).pads == "zeros"


def export(folder: Path, *more: str) -> int:
    where = ["-o", str(folder / "graph.onnx"), "--model", str(folder / "tiny.onnx")]
    return main(["objective", "export", *where, *more])


def test_an_exported_graph_pads_as_the_option_says(folder: Path) -> None:
    images = ["--content", str(folder / "photo.png"), "--style", str(folder / "painting.png")]
    assert export(folder, *images, "--size", "64x48", "--padding", "reflect") == 0
    proto = onnx.load(folder / "graph.onnx")
    modes = {a.s for node in proto.graph.node if node.op_type == "Pad" for a in node.attribute}
    assert modes == {b"reflect"}
    metadata = {each.key: each.value for each in proto.metadata_props}
    assert json.loads(metadata["objective"])["padding"] == "reflect"


def test_a_graph_of_a_size_that_does_not_wrap_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = ["--content", str(folder / "photo.png"), "--style", str(folder / "painting.png")]
    assert export(folder, *images, "--size", "64x50", "--padding", "circular") == 2
    message = "with --padding circular, both edges of --size must be multiples of 16"
    assert capsys.readouterr().err == f"gramstyle: error: {message}\n"
    assert not (folder / "graph.onnx").exists()
