"""The files of Keras 3, .weights.h5 and .keras, written by h5py and zipfile.

test_keras_writes.py compares them with what Keras writes.
"""

import io
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import h5py
import numpy as np
import pytest

from gramstyle.core.arrays import Array
from gramstyle.model.architecture import VGGS, Architecture
from gramstyle.model.convolutions import find_network
from gramstyle.model.formats import open_weights
from hostile_files import error_line
from weight_files import BLOCKS, LAYERS, Chain, chain, write_keras3, write_keras_archive


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch, h5_server: object) -> None:
    """Make VGG-19 narrow, and read the tables of contents in one process."""
    monkeypatch.setitem(VGGS, "VGG-19", Architecture(BLOCKS))


def convolutions(path: Path) -> list[tuple[Array, Array]]:
    with open_weights(path) as opened:
        return [(c.W, c.b) for c in find_network(opened.tensors).convolutions]


def check(path: Path, layers: Chain) -> None:
    found = convolutions(path)
    for (W, b), (expected_W, expected_b) in zip(found, layers, strict=True):
        np.testing.assert_array_equal(W, expected_W)
        np.testing.assert_array_equal(b, expected_b)


def refusal(path: Path) -> str:
    return error_line(lambda: convolutions(path))


def write(
    path: Path,
    layers: Chain,
    *,
    root: str = "layers",
    numbers: Iterable[int] | None = None,
    name: Callable[[int], object] | None = None,
) -> Path:
    """Write a .weights.h5, with groups and the attribute `name` of one's choice."""
    with h5py.File(path, "a") as file:
        for k, (number, (W, b)) in enumerate(
            zip(numbers or range(len(layers)), layers, strict=True)
        ):
            group = f"conv2d_{number}" if number else "conv2d"
            variables = file.create_group(f"{root}/{group}/vars")
            variables["0"], variables["1"] = W.transpose(2, 3, 1, 0), b
            if name is not None:
                variables.attrs["name"] = name(k)
    return path


def keras_name(k: int) -> str:
    return "block{}_conv{}".format(*LAYERS[k].split("_"))


@pytest.mark.parametrize("root", ["layers", "layers/functional/layers", "_layer_dependencies"])
@pytest.mark.parametrize("name", [keras_name, lambda k: f"conv2d_{k + 40}", None])
def test_layers_are_found_by_their_names_or_their_order(
    root: str, name: Callable[[int], object] | None, tmp_path: Path
) -> None:
    check(write(tmp_path / "m.weights.h5", chain(), root=root, name=name), chain())


def test_names_have_priority_over_the_order(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(16).tolist()
    shuffled = [chain()[k] for k in order]
    path = write(tmp_path / "m.weights.h5", shuffled, name=lambda k: keras_name(order[k]))
    check(path, chain())


def test_numbers_may_begin_anywhere_and_have_gaps(tmp_path: Path) -> None:
    check(write(tmp_path / "m.weights.h5", chain(), numbers=range(7, 39, 2)), chain())


def test_layers_are_found_by_the_attributes_of_a_model_class(tmp_path: Path) -> None:
    # Keras 3 names the groups of such a model by its attributes.
    path = tmp_path / "m.weights.h5"
    with h5py.File(path, "w") as file:
        for k, (W, b) in enumerate(chain()):
            file[f"{keras_name(k)}/vars/0"] = W.transpose(2, 3, 1, 0)
            file[f"{keras_name(k)}/vars/1"] = b
            file[f"{keras_name(k)}/vars"].attrs["name"] = f"conv2d_{k}"
    check(path, chain())


def test_convolutions_behind_the_sixteenth_are_ignored(tmp_path: Path) -> None:
    path = write(tmp_path / "m.weights.h5", chain())
    with h5py.File(path, "a") as file:
        file["layers/conv2d_16/vars/0"] = np.zeros((1, 1, 6, 3), np.float32)
    check(path, chain())


def test_two_unnamed_networks_in_one_file_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.weights.h5", chain(), root="layers/a/layers")
    write(path, chain(1), root="layers/b/layers")
    assert "expected one network, found 2" in refusal(path)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [("batch_normalization", (4,)), ("p_re_lu_2", (9, 7, 4)), ("depthwise_conv2d", (3, 3, 4, 1))],
)
def test_layers_that_may_be_between_unnamed_convolutions_are_refused(
    layer: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    path = write(tmp_path / "m.weights.h5", chain())
    with h5py.File(path, "a") as file:
        file[f"layers/{layer}/vars/0"] = np.ones(shape, np.float32)
    assert f"found '/layers/{layer}/vars/0'; export the network as ONNX" in refusal(path)


def test_unnamed_layers_of_a_whole_model_are_in_one_network(tmp_path: Path) -> None:
    # Each is in a group of its own name: conv2d_1/sequential/conv2d_1.
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        for k, (W, b) in enumerate(chain()):
            number = f"conv2d_{k}" if k else "conv2d"
            group = file.create_group(f"model_weights/{number}/sequential/{number}")
            group["kernel"], group["bias"] = W.transpose(2, 3, 1, 0), b
    check(path, chain())


def test_another_unnamed_network_is_refused(tmp_path: Path) -> None:
    layers = chain()
    del layers[6]
    message = refusal(write(tmp_path / "m.weights.h5", layers))
    assert "is it another network?" in message


@pytest.mark.parametrize("name", [3, b"block1_conv1", "block1_conv1" * 1000, h5py.Empty("f4")])
def test_a_layers_name_may_be_anything(name: object, tmp_path: Path) -> None:
    path = write(tmp_path / "m.weights.h5", chain())
    with h5py.File(path, "a") as file:
        file["layers/dense/vars/0"] = np.zeros((3, 4))
        file["layers/dense/vars"].attrs["name"] = name
    if isinstance(name, str | bytes):
        assert "expected a kernel of shape" in refusal(path)
    else:
        check(path, chain())


# Archives


def rewritten(
    path: Path, edit: Callable[[dict[str, bytes]], None], compression: int = zipfile.ZIP_STORED
) -> Path:
    """Write an archive's members again, after an edit."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    edit(members)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    write_keras_archive(tmp_path / "m.keras", chain())
    return tmp_path / "m.keras"


def test_the_weights_are_read_wherever_they_are_in_the_archive(archive: Path) -> None:
    def edit(members: dict[str, bytes]) -> None:
        weights = members.pop("model.weights.h5")
        members.update({"assets/words": bytes(1001), "model.weights.h5": weights, "last": b"x"})

    check(rewritten(archive, edit), chain())
    archive.write_bytes(b"before" + archive.read_bytes())
    with zipfile.ZipFile(archive) as file:
        assert file.getinfo("model.weights.h5").header_offset > 1001


def test_nothing_but_the_weights_is_read(archive: Path) -> None:
    def edit(members: dict[str, bytes]) -> None:
        members["config.json"] = b"[" * 1_000_000
        del members["metadata.json"]

    check(rewritten(archive, edit), chain())


def test_a_flipped_bit_of_the_weights_is_detected(archive: Path) -> None:
    data = bytearray(archive.read_bytes())
    data[data.index(chain()[9][1].tobytes())] ^= 1
    archive.write_bytes(data)
    assert "is damaged, or not a Keras archive at all (BadZipFile)" in refusal(archive)


def test_compressed_weights_are_refused_with_the_remedy(archive: Path) -> None:
    message = refusal(rewritten(archive, lambda _: None, zipfile.ZIP_DEFLATED))
    assert "'model.weights.h5' compressed; use the file as it was saved" in message


def test_the_table_may_not_lead_out_of_the_weights(archive: Path) -> None:
    # The bytes of another member would follow a file that is cut short.
    def edit(members: dict[str, bytes]) -> None:
        weights = io.BytesIO()
        write_keras3(weights, chain())
        last = chain()[15][0].transpose(2, 3, 1, 0).tobytes()
        cut = weights.getvalue().rindex(last) + len(last) // 2
        members["model.weights.h5"] = weights.getvalue()[:cut]
        members["behind"] = bytes(100_000)

    assert "get a fresh copy" in refusal(rewritten(archive, edit))


def test_an_archive_of_another_kind_of_weights_is_refused(archive: Path) -> None:
    def edit(members: dict[str, bytes]) -> None:
        members["model.weights.npz"] = members.pop("model.weights.h5")

    assert "expected one NAME/data.pkl" in refusal(rewritten(archive, edit))
