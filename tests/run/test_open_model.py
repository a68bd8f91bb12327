"""A model that is opened once: the same images as by its path, without repeating preparations."""

import hashlib
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gramstyle import ModelError, Options, open_model, reconstruct_style, transfer
from gramstyle.core.arrays import Array
from gramstyle.engines import onnx_session
from gramstyle.engines.winograd import blocks, kernel_panels

OPTIONS = Options(size=40, iterations=3, engine="winograd", threads=2)


@pytest.fixture
def images(rng: np.random.Generator) -> tuple[Array, Array]:
    return rng.uniform(size=(30, 40, 3)), rng.uniform(size=(40, 40, 3))


@pytest.fixture
def arranged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the kernels that have been arranged."""
    shapes: list[tuple[int, ...]] = []

    def counted(W: Array) -> Array:
        shapes.append(W.shape)
        return kernel_panels.by_taps(W)

    monkeypatch.setattr(blocks, "by_taps", counted)
    return shapes


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the graphs that have been loaded into ONNX Runtime."""
    sizes: list[int] = []
    load = onnx_session.open_session

    def counted(model: bytes, **given: Any) -> Any:
        sizes.append(len(model))
        return load(model, **given)

    monkeypatch.setattr(onnx_session, "open_session", counted)
    return sizes


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


def test_kernels_are_arranged_once_whatever_the_options(
    images: tuple[Array, Array], tiny_model_path: Path, arranged: list[tuple[int, ...]]
) -> None:
    with open_model(tiny_model_path) as model:
        rendered(images, model, content_layer="conv2_1", style_layers=("conv2_1",))
        assert len(arranged) == 2  # conv1_2 and conv2_1; the first block has none
        rendered(images, model)
        assert len(arranged) == 12  # up to conv5_1
        for given in ({}, {"pooling": "max"}, {"threads": 1}, {"size": 64, "scales": 2}):
            rendered(images, model, **given)
        assert len(arranged) == 12
    rendered(images, tiny_model_path)
    assert len(arranged) == 24


@pytest.mark.parametrize("engine", ["numpy", "hybrid", "winograd"])
def test_a_second_run_reads_loads_and_transforms_nothing(
    engine: str,
    images: tuple[Array, Array],
    tiny_model_path: Path,
    arranged: list[tuple[int, ...]],
    loaded: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with open_model(tiny_model_path) as model:
        first = rendered(images, model, engine=engine)
        assert bool(arranged) == (engine != "numpy")
        assert bool(loaded) == (engine != "winograd")
        arranged.clear()
        loaded.clear()
        monkeypatch.setattr("gramstyle.run.open_model.read_model", pytest.fail)
        for given in ({}, {"size": 48, "iterations": 2}, {"scales": 2, "size": 64}):
            rendered(images, model, engine=engine, **given)
        assert rendered(images, model, engine=engine) == first
        assert arranged == loaded == []


def test_one_network_stays_loaded_into_onnx_runtime(
    images: tuple[Array, Array], tiny_model_path: Path, loaded: list[int]
) -> None:
    with open_model(tiny_model_path) as model:
        for pooling in ("max", "avg", "avg", "max"):
            rendered(images, model, engine="numpy", pooling=pooling)
    assert len(loaded) == 3


@pytest.mark.parametrize("engine", ["numpy", "winograd"])
def test_a_later_run_gives_the_image_of_a_new_process(
    engine: str, images: tuple[Array, Array], tiny_model_path: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "images.npz", *images)
    program = f"""
import hashlib
import numpy as np
from gramstyle import Options, transfer
images = np.load("images.npz")
options = Options(size=40, iterations=3, engine={engine!r}, threads=2)
image = transfer(images["arr_0"], images["arr_1"], options, model={str(tiny_model_path)!r}).image
print(hashlib.sha256(image.tobytes()).hexdigest())
"""
    alone = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    with open_model(tiny_model_path) as model:
        rendered(images[::-1], model, engine=engine, size=56)
        later = rendered(images, model, engine=engine)
    assert hashlib.sha256(later).hexdigest() == alone.stdout.strip()


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


@pytest.mark.parametrize("engine", ["numpy", "hybrid", "winograd"])
def test_runs_in_two_threads_share_one_open_model_and_agree_with_runs_apart(
    engine: str,
    images: tuple[Array, Array],
    tiny_model_path: Path,
    arranged: list[tuple[int, ...]],
) -> None:
    given: list[dict[str, Any]] = [
        {"engine": engine},
        {"engine": engine, "seed": 1, "init": "noise"},
    ]
    apart = [rendered(images, tiny_model_path, **each) for each in given]
    arranged.clear()
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
    assert len(arranged) == (0 if engine == "numpy" else 12)


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
