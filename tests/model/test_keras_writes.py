"""Files that Keras 3 writes, compared with its own weights."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="Keras computes with torch here, which is not installed")
os.environ["KERAS_BACKEND"] = "torch"
keras = pytest.importorskip("keras", reason="Keras writes these files and is not installed")

from gramstyle.model.architecture import VGGS, Architecture  # noqa: E402 - after the check that Keras is installed
from gramstyle.model.preprocessings import CAFFE  # noqa: E402 - as above
from gramstyle.model.weights import read_weights  # noqa: E402
from weight_files import BLOCKS  # noqa: E402

pytestmark = pytest.mark.frameworks


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch, h5_server: object) -> None:
    """Make VGG-19 narrow, and read the tables of contents in one process."""
    monkeypatch.setitem(VGGS, "VGG-19", Architecture(BLOCKS))


def network(*, named: bool = True) -> Any:
    """VGG-19 as keras.applications builds it, without its classifier, or with Keras' names."""
    image = x = keras.Input((None, None, 3))
    for block, filters in enumerate(BLOCKS, 1):
        for number, N in enumerate(filters, 1):
            x = keras.layers.Conv2D(
                N, 3, padding="same", activation="relu", bias_initializer="glorot_uniform",
                name=f"block{block}_conv{number}" if named else None,
            )(x)  # fmt: skip
        x = keras.layers.MaxPooling2D(2)(x)
    return keras.Model(image, x)


def classifier(features: Any) -> Any:
    """A model that contains another one, compiled so that its optimiser is saved too."""
    pool, dense = keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)
    model = keras.Sequential([keras.Input((32, 32, 3)), features, pool, dense])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def save(model: Any, path: Path) -> None:
    model.save_weights(path) if path.name.endswith(".weights.h5") else model.save(path)


@pytest.mark.parametrize("name", ["m.weights.h5", "m.keras", "m.h5"])
@pytest.mark.parametrize("whole", [lambda features: features, classifier])
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.filterwarnings("ignore")  # Keras warns of its own old format, .h5
def test_every_file_of_keras_3_is_read(
    name: str, whole: Callable[[Any], Any], named: bool, tmp_path: Path
) -> None:
    network(named=False)  # Keras counts its layers: these do not begin with 0
    features = network(named=named)
    save(whole(features), tmp_path / name)
    read = read_weights(tmp_path / name)
    layers = [layer for layer in features.layers if isinstance(layer, keras.layers.Conv2D)]
    for found, layer in zip(read.convolutions, layers, strict=True):
        kernel, bias = layer.get_weights()
        np.testing.assert_array_equal(found.W, kernel.transpose(3, 2, 0, 1))
        np.testing.assert_array_equal(found.b, bias)
    assert read.preprocessing == CAFFE
