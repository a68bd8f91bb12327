"""Which images a batch or a figure reuses, which it renders again, and which it leaves alone."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest

from batch.finished import rewritten
from conftest import tiny_convolutions
from gramstyle.batch import Job, attempt, outcome, reuse
from gramstyle.images import read_image, read_settings, write_image
from gramstyle.model.onnx_file import write_model
from gramstyle.model.preprocessings import CAFFE
from gramstyle.run.open_model import open_model

Attempt = Callable[[Job], str]


@pytest.fixture
def state(tiny_model_path: Path) -> Attempt:
    """Attempt a job and return the state of its outcome."""
    return lambda job: attempt(job, model=tiny_model_path).state


def with_options(job: Job, **options: Any) -> Job:
    return replace(job, options=replace(job.options, **options))


def settings_of(job: Job) -> dict[str, Any]:
    settings = read_settings(job.output)
    assert settings is not None
    return settings


def without_fingerprint(job: Job) -> dict[str, Any]:
    """Take the fingerprint out of a finished image, so that the settings are compared."""
    settings = settings_of(job)
    del settings["fingerprint"]
    rewritten(job, settings)
    return settings


@pytest.mark.parametrize(
    "change",
    [
        {"size": 40},
        {"iterations": 1},
        {"seed": 1},
        {"alpha": 1e-2},
        {"beta": 2.0},
        {"pooling": "max"},
        {"padding": "zeros"},
        {"content_layer": "conv3_1"},
        {"style_layers": ("conv1_1", "conv2_1")},
        {"style_weights": (1.0, 0.0, 0.0, 0.0, 0.0)},
        {"init": "noise"},
        {"convention": "author"},
        {"tolerance": 0.5},
        {"history": 3},
    ],
    ids=lambda change: next(iter(change)),
)
@pytest.mark.parametrize("has_fingerprint", [True, False])
def test_an_image_with_other_options_is_rendered_again(
    job: Job, state: Attempt, change: Mapping[str, Any], has_fingerprint: bool
) -> None:
    job = with_options(job, alpha=1e-3)
    assert state(job) == "done"
    if not has_fingerprint:
        without_fingerprint(job)
    changed = with_options(job, **change)
    assert [state(changed), state(changed)] == ["done", "reused"]


@pytest.mark.parametrize("option", [{"threads": 1}, {"max_pixels": 10**9}, {"memory": 10**10}])
def test_options_that_do_not_change_the_image_do_not_matter(
    job: Job, state: Attempt, option: Mapping[str, Any]
) -> None:
    assert state(job) == "done"
    assert state(with_options(job, **option)) == "reused"
    without_fingerprint(job)
    assert state(with_options(job, **option)) == "reused"


@pytest.mark.parametrize("role", ["content", "style", "output"])
def test_an_image_of_other_files_and_a_damaged_one_are_rendered_again(
    job: Job, state: Attempt, role: str, rng: np.random.Generator
) -> None:
    state(job)
    path: Path = getattr(job, role)
    if role == "output":
        path.write_bytes(path.read_bytes()[:-200])
    else:
        PIL.Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).save(path)
    assert [state(job), state(job)] == ["done", "reused"]


def test_an_image_of_another_network_is_rendered_again(
    job: Job, state: Attempt, tmp_path: Path
) -> None:
    state(job)
    model = tmp_path / "other.onnx"
    write_model(model, tiny_convolutions(1), CAFFE, precision="codebook8", metadata={})
    assert attempt(job, model=model).state == "done"
    assert attempt(job, model=model).state == "reused"


def test_an_open_model_renders_with_the_network_that_was_read_and_names_it(
    job: Job, tmp_path: Path, tiny_model_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    shutil.copyfile(tiny_model_path, path)
    with open_model(path) as model:
        write_model(path, tiny_convolutions(1), CAFFE, precision="codebook8", metadata={})
        assert attempt(job, model=model).state == "done"
    assert attempt(job, model=tiny_model_path).state == "reused"
    assert attempt(job, model=path).state == "done"


def test_an_image_of_a_photograph_without_its_transparency_is_rendered_again(
    job: Job, state: Attempt
) -> None:
    transparent = np.full((24, 32, 4), 255, np.uint8)
    transparent[:12, :, 3] = 0
    assert job.content is not None
    PIL.Image.fromarray(transparent).save(job.content)
    state(job)
    PIL.Image.new("RGB", (32, 24), "white").save(job.content)
    assert state(job) == "done"


def test_the_names_of_the_image_files_do_not_matter(job: Job, state: Attempt, folder: Path) -> None:
    state(job)
    assert job.content is not None
    moved = replace(job, content=job.content.rename(folder / "photos/z.png"))
    assert state(moved) == "reused"
    without_fingerprint(job)
    assert state(moved) == "reused"


def test_a_start_from_an_array_is_compared_by_its_pixels(job: Job, state: Attempt) -> None:
    black, white = (
        with_options(job, init=np.full((24, 32), shade, np.uint8)) for shade in (0, 255)
    )
    assert [state(job) for job in (black, black, white)] == ["done", "reused", "done"]


def test_a_reconstruction_is_reused_and_is_not_one_of_the_other_image(
    job: Job, state: Attempt
) -> None:
    content = with_options(replace(job, style=None), init="noise")
    style = with_options(replace(job, content=None, style=job.content), init="noise")
    jobs = (content, content, style, style)
    assert [state(job) for job in jobs] == ["done", "reused"] * 2


def test_an_equal_fingerprint_is_enough_without_decoding_the_inputs(
    job: Job, folder: Path, state: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = with_options(job, init=str(folder / "meadow.png"))
    state(job)
    with monkeypatch.context() as patch:
        patch.setattr(reuse, "planned_settings", pytest.fail)
        assert state(with_options(job, threads=1, memory=10**10)) == "reused"
    # The style image and the start swap their places.
    assert job.style is not None
    start = job.style.rename(folder / "other.png")
    (folder / "meadow.png").rename(job.style)
    assert state(with_options(job, init=str(start))) == "done"


def encoded_again(path: Path) -> None:
    before = path.read_bytes()
    with PIL.Image.open(path) as image:
        image.load()
        image.save(path, compress_level=0)
    assert path.read_bytes() != before


@pytest.mark.parametrize("change", [None, "photos/a.png", "night.png"])
def test_an_image_rendered_in_less_memory_or_from_the_same_pixels_is_reused(
    job: Job, folder: Path, state: Attempt, change: str | None
) -> None:
    # Too little for a whole image, beside what a process takes for itself.
    assert state(with_options(job, memory=601_000_000)) == "done"
    assert settings_of(job)["tile"] is not None
    if change is not None:
        encoded_again(folder / change)
    assert state(job) == "reused"
    # Options that are given are not left to the machine.
    for option in ({"tile": 512}, {"optimiser": "scipy"}):
        assert state(with_options(job, **option)) == "done"


def test_an_image_has_no_fingerprint_if_a_file_was_replaced_during_the_run(
    job: Job, folder: Path, state: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert job.content is not None
    before, render = job.content.read_bytes(), outcome.render

    def replaced(job: Job, **more: Any) -> object:
        assert job.content is not None
        job.content.write_bytes((folder / "photos/b.png").read_bytes())
        return render(job, **more)

    with monkeypatch.context() as patch:
        patch.setattr(outcome, "render", replaced)
        assert state(job) == "done"
    job.content.write_bytes(before)
    assert [state(job), state(job)] == ["done", "reused"]


def test_an_image_of_another_version_is_compared_by_its_settings(
    job: Job, state: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    state(job)
    monkeypatch.setattr(reuse, "installed_version", lambda: "9.9")
    assert state(job) == "reused"
    former = without_fingerprint(job)
    for change in ({"program": "another"}, {"versions": {}}, {"scales": 1}):
        rewritten(job, {**former, **change})
        assert state(job) == "reused"
    for other in ({**former, "extra": 1}, {k: v for k, v in former.items() if k != "seed"}):
        rewritten(job, other)
        assert state(job) == "done"


def test_a_value_that_is_given_is_the_same_as_one_by_default(job: Job, state: Attempt) -> None:
    assert state(job) == "done"
    assert state(with_options(job, pooling=job.options.pools, style_scale=1.0)) == "reused"


def test_an_image_of_a_version_without_content_strength_is_reused(job: Job, state: Attempt) -> None:
    assert state(job) == "done"
    settings = without_fingerprint(job)
    del settings["content_strength"], settings["given"]
    rewritten(job, settings)
    assert state(job) == "reused"
    assert state(with_options(job, content_strength=2.0)) == "done"


def test_the_sizes_of_a_run_matter(job: Job, state: Attempt) -> None:
    state(job)
    rewritten(job, {**without_fingerprint(job), "scale_edges": [23, 32]})
    assert state(job) == "done"


@pytest.mark.parametrize("owner", ["batch", "figure"])
@pytest.mark.parametrize(
    "text",
    [
        "[1]",
        "{",
        '{"a":' + "[" * 20_000,
        '{"alpha":' + "9" * 5000 + "}",
        "{}",
        '{"cell":"another"}',
        '{"job":"another"}',
    ],
    ids=lambda text: text[:8],
)
def test_a_foreign_image_is_left_alone(job: Job, state: Attempt, text: str, owner: Any) -> None:
    PIL.Image.new("RGB", (3, 3)).save(job.output)
    rewritten(job, text)
    before = job.output.read_bytes()
    job = replace(job, owner=owner)
    assert state(job) == "failed"
    assert f"is not one of this {owner}'s images" in attempt(job, model=Path("x")).reason
    assert job.output.read_bytes() == before


@pytest.mark.parametrize("alpha", ["[" * 300 + "]" * 300, "1e999", "0"], ids=lambda x: x[:4])
def test_forged_settings_are_not_reused(job: Job, state: Attempt, alpha: str) -> None:
    PIL.Image.new("RGB", (3, 3)).save(job.output)
    rewritten(job, f'{{"job":"a.png","alpha":{alpha}}}')
    assert state(job) == "done"


def test_a_forged_image_of_another_size_is_rendered_again(job: Job, state: Attempt) -> None:
    state(job)
    small = read_image(np.zeros((3, 4, 3), np.uint8))
    write_image(job.output, small, settings=settings_of(job))
    assert state(job) == "done"
