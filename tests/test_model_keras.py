"""Keras' files in every style of names, and what is refused of them."""

import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from gramstyle.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.sources import keras
from gramstyle.model.sources.keras import open_keras

W = np.random.default_rng(2).standard_normal((5, 4, 3, 3)).astype(np.float32)
B = np.random.default_rng(3).standard_normal(5).astype(np.float32)
KERNEL = W.transpose(2, 3, 1, 0)  # (height, width, channels, filters)

STYLES = {
    "Keras 1": ("block1_conv1/block1_conv1_W_1:0", "block1_conv1/block1_conv1_b_1:0"),
    "Keras 2": ("block1_conv1/block1_conv1/kernel:0", "block1_conv1/block1_conv1/bias:0"),
    "whole model": (
        "model_weights/block1_conv1/block1_conv1/kernel:0",
        "model_weights/block1_conv1/block1_conv1/bias:0",
    ),
    "numbered layers": (
        "block1_conv1/block1_conv1_2/kernel:0",
        "block1_conv1/block1_conv1_2/bias:0",
    ),
    "without an ending": ("block1_conv1/kernel", "block1_conv1/bias"),
}


def write(path: Path, names: tuple[str, str] = STYLES["Keras 2"], kernel: Array = KERNEL) -> Path:
    with h5py.File(path, "w") as file:
        file[names[0]], file[names[1]] = kernel, B
    return path


def read(path: Path) -> dict[str, Array]:
    with open_keras(path) as tensors:
        return {name: tensor.load() for name, tensor in tensors.items()}


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read(path)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_kernels_are_given_as_filters_channels_height_width(
    style: str, dtype: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "m.h5", STYLES[style], KERNEL.astype(dtype))
    with open_keras(path) as tensors:
        assert set(tensors) == {"block1_conv1.weight", "block1_conv1.bias"}
        weight, bias = tensors["block1_conv1.weight"], tensors["block1_conv1.bias"]
        assert (weight.shape, weight.dtype) == ((5, 4, 3, 3), np.dtype(dtype))
        assert weight.load().flags.c_contiguous
        np.testing.assert_array_equal(weight.load(), W.astype(dtype))
        np.testing.assert_array_equal(bias.load(), B)


def test_the_classifier_and_the_optimiser_are_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "m.h5", STYLES["whole model"])
    with h5py.File(path, "a") as file:
        file["model_weights/fc1/fc1/kernel:0"] = np.zeros((4, 4))
        file["optimizer_weights/block1_conv1/kernel:0"] = KERNEL
        file["optimizer_weights/training/Adam/block1_conv1/kernel/m:0"] = KERNEL
    assert set(read(path)) == {"block1_conv1.weight", "block1_conv1.bias"}


# What is refused


def add(edit: Callable[[h5py.File, Path], None]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / "m.h5"
        with h5py.File(path, "w") as file:
            edit(file, folder)
        return path

    return make


NAME = "block1_conv1/kernel:0"


def external_values(file: h5py.File, folder: Path) -> None:
    (folder / "secret").write_bytes(KERNEL.tobytes())
    file.create_dataset(
        NAME, KERNEL.shape, "f4", external=[(str(folder / "secret"), 0, KERNEL.nbytes)]
    )


def virtual_values(file: h5py.File, folder: Path) -> None:
    layout = h5py.VirtualLayout(KERNEL.shape, "f4")
    layout[...] = h5py.VirtualSource(str(folder / "other.h5"), "x", KERNEL.shape)
    file.create_virtual_dataset(NAME, layout)


def compressed(file: h5py.File, _folder: Path) -> None:
    file.create_dataset(NAME, data=KERNEL, compression="gzip")


def huge(file: h5py.File, _folder: Path) -> None:
    file.create_dataset(NAME, (3, 3, 2**20, 2**20), "f4", chunks=(3, 3, 16, 16))


def integers(file: h5py.File, _folder: Path) -> None:
    file[NAME] = KERNEL.astype(np.int32)


def texts(file: h5py.File, _folder: Path) -> None:
    file[NAME] = ["a", "b"]


def empty(file: h5py.File, _folder: Path) -> None:
    file[NAME] = h5py.Empty("f4")


def theano(file: h5py.File, _folder: Path) -> None:
    file[NAME] = W


def flat(file: h5py.File, _folder: Path) -> None:
    file[NAME] = np.zeros(9, np.float32)


def twice(file: h5py.File, _folder: Path) -> None:
    file["a/block1_conv1/kernel:0"] = KERNEL
    file["b/block1_conv1/kernel:0"] = KERNEL


def deep(file: h5py.File, _folder: Path) -> None:
    file["/".join(["g"] * 20)] = KERNEL


def in_itself(file: h5py.File, _folder: Path) -> None:
    group = file.create_group("g")
    group["again"] = group


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (external_values, "lie in another file"),
        (virtual_values, "lie in another file"),
        (compressed, "found compressed ones"),
        (huge, "expected at most 67108864 bytes"),
        (integers, "expected floats"),
        (texts, "expected floats"),
        (empty, "expected floats"),
        (theano, "tf_dim_ordering_tf_kernels"),
        (flat, "expected a kernel of shape (3, 3, C, N)"),
        (twice, "expected one weight of block1_conv1, found two"),
        (deep, "labyrinth"),
        (in_itself, "labyrinth"),
    ],
)
def test_values_of_another_kind_are_refused_unread(
    edit: Callable[[h5py.File, Path], None],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = add(edit)(tmp_path)
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda *_: pytest.fail("it was read"))
    assert words in refusal(path)


def test_links_to_elsewhere_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "other.h5", ("block2_conv1/kernel:0", "block2_conv1/bias:0"))
    path = write(tmp_path / "m.h5")
    with h5py.File(path, "a") as file:
        file["block2_conv1"] = h5py.ExternalLink("other.h5", "/block2_conv1")
        file["block3_conv1"] = h5py.SoftLink("/block1_conv1")
    assert set(read(path)) == {"block1_conv1.weight", "block1_conv1.bias"}


def test_very_many_objects_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras, "MAX_OBJECTS", 50)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        for k in range(51):
            file.create_group(f"g{k}")
    assert "labyrinth" in refusal(tmp_path / "m.h5")


def test_without_h5py_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "m.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert 'pip install "gramstyle[weights]"' in refusal(path)
