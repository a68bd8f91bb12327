"""A model that is opened once: the same images as by its path, without repeating preparations."""

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gramstyle import ModelError, Options, open_model, reconstruct_style, transfer
from gramstyle.core.arrays import Array
from gramstyle.engines.winograd import blocks, packing

OPTIONS = Options(size=40, iterations=3, engine="winograd", threads=2)


@pytest.fixture
def images(rng: np.random.Generator) -> tuple[Array, Array]:
    return rng.uniform(size=(30, 40, 3)), rng.uniform(size=(40, 40, 3))


@pytest.fixture
def transformed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the kernels that have been transformed."""
    shapes: list[tuple[int, ...]] = []

    def counted(W: Array, *arguments: Any) -> Array:
        shapes.append(W.shape)
        return packing.transformed_panels(W, *arguments)

    monkeypatch.setattr(blocks, "transformed_panels", counted)
    return shapes


def rendered(images: tuple[Array, Array], model: Any, **given: Any) -> bytes:
    options = Options(**{**vars(OPTIONS), "content_layer": None, **given})
    return transfer(*images, options, model=model).image.tobytes()


@pytest.mark.parametrize(
    "given",
    [
        {}, {"engine": "numpy"}, {"engine": "hybrid"}, {"engine": "onnx"}, {"pooling": "max"},
        {"tile": 32}, {"threads": 1}, {"style_layers": ("conv2_1",)}, {"scales": 2},
    ],
    ids=str,
)  # fmt: skip
def test_the_image_is_that_of_a_run_by_path_to_the_last_bit(
    images: tuple[Array, Array], tiny_model_path: Path, given: dict[str, Any]
) -> None:
    size = {"size": 64} if "scales" in given else {}
    expected = rendered(images, tiny_model_path, **given, **size)
    with open_model(tiny_model_path) as model:
        assert rendered(images, model) == rendered(images, tiny_model_path)
        for _ in range(2):
            assert rendered(images, model, **given, **size) == expected


def test_kernels_are_transformed_once_whatever_the_options(
    images: tuple[Array, Array], tiny_model_path: Path, transformed: list[tuple[int, ...]]
) -> None:
    with open_model(tiny_model_path) as model:
        rendered(images, model, content_layer="conv2_1", style_layers=("conv2_1",))
        assert len(transformed) == 2  # conv1_2 and conv2_1; the first block has none
        rendered(images, model)
        assert len(transformed) == 12  # up to conv5_1
        for given in ({}, {"pooling": "max"}, {"threads": 1}, {"size": 64, "scales": 2}):
            rendered(images, model, **given)
        assert len(transformed) == 12
    rendered(images, tiny_model_path)
    assert len(transformed) == 24


def test_the_file_is_read_once(
    images: tuple[Array, Array], tiny_model_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    shutil.copyfile(tiny_model_path, path)
    expected = rendered(images, path)
    with open_model(path) as model:
        path.unlink()
        assert rendered(images, model) == expected
        assert reconstruct_style(images[1], options=OPTIONS, model=model).record.losses


def test_runs_in_two_threads_share_one_open_model_and_agree_with_runs_apart(
    images: tuple[Array, Array], tiny_model_path: Path, transformed: list[tuple[int, ...]]
) -> None:
    given: list[dict[str, Any]] = [{}, {"pooling": "max"}]
    apart = [rendered(images, tiny_model_path, **each) for each in given]
    transformed.clear()
    together = [b"", b""]
    with open_model(tiny_model_path) as model:

        def work(number: int) -> None:
            together[number] = rendered(images, model, **given[number])

        threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert together == apart
    assert len(transformed) == 12


def test_a_closed_model_is_refused_and_a_file_that_is_none_when_it_is_opened(
    images: tuple[Array, Array], tiny_model_path: Path, tmp_path: Path
) -> None:
    model = open_model(tiny_model_path)
    model.close()
    model.close()
    with pytest.raises(ModelError, match=r"tiny\.onnx is closed; use it inside its with block"):
        rendered(images, model)
    with pytest.raises(ModelError, match="there is no model"):
        open_model(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match=r"model must be a path or open_model\(\.\.\.\), not int"):
        rendered(images, 5)
