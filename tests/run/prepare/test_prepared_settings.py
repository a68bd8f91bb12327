"""What reconstructions and transfers are prepared from, and what their settings say."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from conftest import tiny_convolutions
from gramstyle.errors import OptionError
from gramstyle.model.onnx_file import Model, read_model, write_model
from gramstyle.model.preprocessings import CAFFE
from gramstyle.run.options import Options
from gramstyle.run.plan import plan_run
from gramstyle.run.prepare import prepare
from gramstyle.run.reconstruct import (
    content_options,
    reconstruct_content,
    reconstruct_style,
    style_options,
)
from gramstyle.system.machine import available_threads

OPTIONS = Options(size=32, iterations=1, convention="paper")
PHOTO, A = Path("photo.png"), Path("a.png")


@pytest.fixture(autouse=True)
def folder(
    tmp_path: Path, rng: np.random.Generator, tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder with a photograph and a painting; the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRAMSTYLE_MODEL", str(tiny_model_path))
    for path, shape in ((PHOTO, (24, 32, 3)), (A, (30, 32, 3))):
        PIL.Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(path)


def settings_of(options: Options, *, model: Path | None = None) -> dict[str, Any]:
    return plan_run(PHOTO, A, options, model=model).settings.to_json()


def test_a_reconstruction_uses_the_given_start_and_weight() -> None:
    given = replace(OPTIONS, init="content", alpha=0.25)
    with (
        prepare(PHOTO, None, content_options("conv2_1", given)) as prepared,
        PIL.Image.open(PHOTO) as image,
    ):
        assert prepared.settings.to_json()["alpha"] == 0.25
        np.testing.assert_array_equal(prepared.start, np.asarray(image).transpose(2, 0, 1))


def test_a_reconstruction_uses_the_given_model_and_calls_back(
    tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAMSTYLE_MODEL", "nowhere.onnx")
    options = replace(OPTIONS, iterations=3)
    for run, layers in ((reconstruct_content, "conv1_2"), (reconstruct_style, ("conv1_1",))):
        seen: list[int] = []
        run(  # type: ignore[operator]
            PHOTO, layers, options, model=tiny_model_path,
            callback=lambda progress, seen=seen: seen.append(progress.losses.iteration),
        )  # fmt: skip
        assert seen == [1, 2, 3]


def test_a_plan_notifies_that_a_model_is_built(
    tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(
        _path: object, *, notify: Callable[[str], None] | None, check: Callable[[], object] | None
    ) -> Model:
        assert notify is not None
        notify("building")
        return read_model(tiny_model_path)

    monkeypatch.setattr("gramstyle.run.open_model.load_model", find)
    said: list[str] = []
    plan_run(PHOTO, A, OPTIONS, notify=said.append)
    assert said == ["building"]


def test_the_formulas_of_the_author_reach_the_objective() -> None:
    x, losses = np.full((3, 24, 32), 90.0), {}
    for convention in ("paper", "author"):
        given = replace(OPTIONS, convention=convention, pooling="avg", init="content", alpha=1.0)
        with prepare(PHOTO, A, given) as prepared:
            losses[convention] = prepared.objective.loss_and_gradient(x)
    for layer, E in losses["paper"].layers["style"].items():
        assert losses["author"].layers["style"][layer] == pytest.approx(4 * E, rel=1e-6)
    # conv4_2 of the tiny network: 7 filters, 3 by 4 positions.
    assert losses["author"].terms["content"] == pytest.approx(
        2 / (7 * 12) * losses["paper"].terms["content"]
    )


def test_the_settings_contain_the_number_of_threads() -> None:
    assert settings_of(replace(OPTIONS, threads=3))["threads"] == 3
    assert settings_of(OPTIONS)["threads"] == available_threads()


def test_the_settings_contain_the_hash_of_the_model_file(tiny_model_path: Path) -> None:
    settings = settings_of(OPTIONS)
    assert settings["model"]["sha256"] == hashlib.sha256(tiny_model_path.read_bytes()).hexdigest()


def test_the_metadata_of_a_model_cannot_replace_its_hash() -> None:

    path = Path("forged.onnx")
    metadata = {"sha256": "0" * 64}
    write_model(path, tiny_convolutions(), CAFFE, precision="codebook8", metadata=metadata)
    settings = settings_of(OPTIONS, model=path)
    assert settings["model"]["sha256"] == read_model(path).sha256


def test_layers_of_a_reconstruction_may_be_text_or_an_array() -> None:
    names = np.array(["conv1_1", "conv2_1"])
    for layers in ("conv1_1,conv2_1", names, list(names)):
        assert style_options(layers, OPTIONS).style_layers == ("conv1_1", "conv2_1")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="style_layers must be a list"):
        style_options(3, OPTIONS)  # type: ignore[arg-type]
