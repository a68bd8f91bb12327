"""Runs of the engine cupy with NumPy in CuPy's place, which refuses NumPy's own arrays."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_cuda import fake_cupy
from gramstyle.core.arrays import Array, on_host
from gramstyle.core.evaluation import Evaluation
from gramstyle.core.kernels import PlainKernels
from gramstyle.core.layers import PADDINGS
from gramstyle.core.terms import with_target_arrays
from gramstyle.run.options import Options
from gramstyle.run.prepare import Prepared, prepare

HEIGHT, WIDTH = 90, 70

Evaluate = Callable[..., Evaluation]


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = fake_cupy()
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # nothing of the engine needs it
    return module


@pytest.fixture
def images(rng: np.random.Generator) -> tuple[Array, Array]:
    photo, painting = rng.uniform(size=(HEIGHT, WIDTH, 3)), rng.uniform(size=(80, 96, 3))
    return photo, painting


@pytest.fixture
def start(rng: np.random.Generator) -> Array:
    x: Array = rng.uniform(0, 255, (3, HEIGHT, WIDTH))
    return x


def left_half() -> Array:
    mask = np.zeros((HEIGHT, WIDTH))
    mask[:, : WIDTH // 2] = 1
    return mask


TERMS: dict[str, dict[str, Any]] = {
    "gram": {},
    "mean-std": {"style_loss": "mean-std"},
    "covariance": {"style_loss": "covariance"},
    "tv": {"tv": 1e-2},
    "regions": {"style_regions": (left_half(),), "style_layers": ("conv1_1", "conv2_1")},
    "protect": {"protect": left_half()},
    "max": {"pooling": "max", "content_layers": ("conv2_2", "conv4_2")},
    "style at two scales": {"style_scale": (0.5, 1.0)},
}


def evaluated(images: tuple[Array, Array], start: Array, model: Path, **options: Any) -> Evaluation:
    """Return the evaluation at `start`, with its gradient on the host."""
    chosen = Options(size=max(HEIGHT, WIDTH), **options)
    with prepare(*images, chosen, model=model) as prepared:
        here = prepared.start
        x = start.astype(here.dtype)
        if type(here) is not np.ndarray:
            x = sys.modules["cupy"].asarray(x)
        found = prepared.loss_and_gradient(x)
    return replace(found, gradient=on_host(found.gradient))


def assert_close(found: Evaluation, expected: Evaluation) -> None:
    """Require the same numbers up to float32's rounding, through 14 layers and in other orders."""
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    for name, layers in expected.layers.items():
        assert found.layers[name] == pytest.approx(layers, rel=1e-4), name
    apart = np.linalg.norm(found.gradient - expected.gradient)
    # Rounding flips a few ReLUs and choices of poolings, each of which changes some pixels.
    assert apart < 1e-4 * np.linalg.norm(expected.gradient)


@pytest.mark.parametrize("terms", TERMS.values(), ids=TERMS)
def test_every_term_has_the_loss_and_the_gradient_of_a_cpu(
    cupy: Any, images: Any, start: Array, tiny_model_path: Path, terms: dict[str, Any]
) -> None:
    found = evaluated(images, start, tiny_model_path, device="cuda", **terms)
    expected = evaluated(images, start, tiny_model_path, engine="winograd", **terms)
    assert_close(found, expected)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_both_passes_equal_the_plain_network_in_float64(
    cupy: Any,
    images: Any,
    rng: np.random.Generator,
    tiny_model_path: Path,
    padding: Any,
    pooling: Any,
) -> None:
    # An image that wraps has edges of multiples of 16.
    height, width = (96, 80) if padding == "circular" else (HEIGHT, WIDTH)
    photo, start = rng.uniform(size=(height, width, 3)), rng.uniform(0, 255, (3, height, width))
    options = Options(size=height, device="cuda", padding=padding, pooling=pooling)
    with prepare(photo, images[1], options, model=tiny_model_path) as prepared:
        found = prepared.loss_and_gradient(cupy.asarray(start))
        expected = plainly(prepared).loss_and_gradient(start)
    assert_close(replace(found, gradient=on_host(found.gradient)), expected)


def plainly(prepared: Prepared) -> Any:
    """Return the objective in float64, on the host, by the readable layers."""
    objective = prepared.objective
    network = type(objective.network)(
        tuple(
            replace(layer, W=on_host(layer.W), b=on_host(layer.b)) if hasattr(layer, "W") else layer
            for layer in objective.network.layers
        )
    )
    return replace(
        objective,
        network=network.astype(np.float64),
        terms=with_target_arrays(objective.terms, lambda A: on_host(A).astype(np.float64)),
        forward=None,
        kernels=PlainKernels(),
    )


@pytest.mark.parametrize("name", ["gram", "mean-std", "covariance", "tv", "regions", "protect"])
def test_tiles_have_the_loss_and_the_gradient_of_the_whole_image(
    cupy: Any, images: Any, start: Array, tiny_model_path: Path, name: str
) -> None:
    terms = TERMS[name]
    tiled = evaluated(images, start, tiny_model_path, device="cuda", tile=48, **terms)
    whole = evaluated(images, start, tiny_model_path, device="cuda", **terms)
    assert_close(tiled, whole)


@pytest.mark.parametrize("name", TERMS)
def test_the_host_gets_the_losses_of_an_evaluation_in_one_copy(
    cupy: Any, images: Any, start: Array, tiny_model_path: Path, name: str
) -> None:
    options = Options(size=max(HEIGHT, WIDTH), device="cuda", **TERMS[name])
    with prepare(*images, options, model=tiny_model_path) as prepared:
        x = cupy.asarray(start)
        prepared.loss_and_gradient(x)  # what the first evaluation prepares
        before = cupy.transfers
        found = prepared.loss_and_gradient(x)
        assert cupy.transfers == before + 1
    assert type(found.loss) is float
    assert type(found.gradient) is cupy.ndarray


def test_the_second_evaluation_allocates_no_large_array(
    cupy: Any, images: Any, start: Array, tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(size=max(HEIGHT, WIDTH), device="cuda")
    with prepare(*images, options, model=tiny_model_path) as prepared:
        x = cupy.asarray(start)
        prepared.loss_and_gradient(x)
        monkeypatch.setattr(cupy, "empty", lambda *_, **__: pytest.fail("allocated"))
        prepared.loss_and_gradient(x)


def test_an_image_too_large_for_the_memory_is_refused_with_the_remedy(
    cupy: Any, images: Any, tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise MemoryError("Out of memory allocating 512 bytes")

    monkeypatch.setattr(cupy, "empty", full)
    with (
        pytest.raises(Exception, match=r"memory is too small .*90×75.*512 bytes.*--size.*--tile"),
        prepare(*images, Options(size=90, device="cuda"), model=tiny_model_path),
    ):
        pass
