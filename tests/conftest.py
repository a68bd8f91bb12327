"""A tiny network in VGG-19's shape, small images, and the real model where it is built."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from gramstyle.core.network import Convolution
from gramstyle.model.architecture import VGGS
from gramstyle.model.locate import checkout_model
from gramstyle.model.onnx_file import Model, read_model, write_model
from gramstyle.model.preprocessings import CAFFE

# VGG-19's layers, each with a few filters: every code path, a thousandth of the work.
TINY_FILTERS = (4, 5, 6, 7, 8)

# The same examples in each run, so that a test which passes once passes again. To draw others:
# pytest --hypothesis-profile default
hypothesis.settings.register_profile("same", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("same")

# Variables that change what gramstyle, pytest and other programs print.
PRINTING = (
    "CI",
    "BUILD_NUMBER",
    "GITHUB_ACTIONS",
    "PYTEST_ADDOPTS",
    "COLUMNS",
    "LINES",
    "NO_COLOR",
    "FORCE_COLOR",
)


@pytest.fixture(scope="session", autouse=True)
def plain_environment() -> Iterator[None]:
    """Remove the variables of the caller's environment that change what programs do here."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name in PRINTING or name.startswith("GRAMSTYLE_"):
                patch.delenv(name)
        yield


def tiny_convolutions(seed: int = 0) -> list[Convolution]:
    """Random convolutions of 256 values a layer with VGG-19's names, He-scaled so that signals
    neither die nor grow."""
    rng = np.random.default_rng(seed)
    convolutions, channels = [], 3
    blocks = VGGS["VGG-19"].blocks
    for block, (filters, tiny) in enumerate(zip(blocks, TINY_FILTERS, strict=True), start=1):
        for number in range(1, len(filters) + 1):
            table = rng.standard_normal(256) * np.sqrt(2 / (9 * channels))
            index = rng.integers(0, 256, (tiny, channels, 3, 3))
            b = rng.standard_normal(tiny).astype(np.float32)
            W = table.astype(np.float32)[index]
            convolutions.append(Convolution(f"conv{block}_{number}", W, b))
            channels = tiny
    return convolutions


@pytest.fixture(scope="session")
def tiny_model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    write_model(
        path,
        tiny_convolutions(),
        CAFFE,
        precision="codebook8",
        metadata={"licence": "none", "source": "random"},
    )
    return path


@pytest.fixture(scope="session")
def tiny_model(tiny_model_path: Path) -> Model:
    return read_model(tiny_model_path)


@pytest.fixture(scope="session")
def real_model_path() -> Path:
    path = checkout_model()
    if path is None or not path.is_file():
        pytest.skip("models/vgg19.onnx is not built; run: gramstyle model export")
    return path


@pytest.fixture(scope="session")
def real_model(real_model_path: Path) -> Model:
    return read_model(real_model_path)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1508_06576)
