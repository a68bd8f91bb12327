"""Checkpoints that torch writes, compared with its own tensors."""

import copy
import struct
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.sources.torch_stream import is_torch_stream, open_torch_stream
from gramstyle.model.sources.torch_tar import open_torch_tar
from gramstyle.model.sources.torch_zip import open_torch_zip
from tar_writer import write_torch_tar

torch = pytest.importorskip("torch", reason="torch writes these checkpoints and is not installed")

pytestmark = pytest.mark.frameworks

FORMATS = {"stream": (open_torch_stream, False), "zip": (open_torch_zip, True)}
PROTOCOLS = (2, 3, 4, 5)

Written = Callable[..., Path]
Read = Callable[[Path], dict[str, Array]]


@pytest.fixture(params=FORMATS)
def file_format(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def write(file_format: str, tmp_path: Path) -> Written:
    def write(checkpoint: object, *, protocol: int = 2) -> Path:
        path = tmp_path / "checkpoint.pth"
        _, is_zip = FORMATS[file_format]
        torch.save(
            checkpoint, path, pickle_protocol=protocol, _use_new_zipfile_serialization=is_zip
        )
        return path

    return write


@pytest.fixture
def read(file_format: str) -> Read:
    def read(path: Path) -> dict[str, Array]:
        with FORMATS[file_format][0](path) as tensors:
            arrays = {name: stored.load() for name, stored in tensors.items()}
            for name, stored in tensors.items():
                assert (arrays[name].shape, arrays[name].dtype) == (stored.shape, stored.dtype)
        return arrays

    return read


def assert_equal(arrays: dict[str, Array], tensors: dict[str, Any]) -> None:
    assert list(arrays) == list(tensors)
    for name, tensor in tensors.items():
        expected = tensor.detach().numpy()
        assert (arrays[name].shape, arrays[name].dtype) == (expected.shape, expected.dtype)
        # Bit for bit, NaN and −0 too.
        assert arrays[name].tobytes() == expected.tobytes()


def network() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        OrderedDict(
            features=torch.nn.Sequential(
                torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU()
            ),
            classifier=torch.nn.Linear(4, 2, bias=False),
        )
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_state_dicts_of_every_protocol_are_read(write: Written, read: Read, protocol: int) -> None:
    state = network().state_dict()
    path = write(state, protocol=protocol)
    assert_equal(read(path), state)
    assert "features.1.num_batches_tracked" in state  # an int64 without dimensions


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_formats_are_distinguished_by_their_first_bytes(
    write: Written, file_format: str, protocol: int
) -> None:
    head = write({}, protocol=protocol).read_bytes()[:24]
    assert is_torch_stream(head) == (file_format == "stream")
    assert head.startswith(b"PK\x03\x04") == (file_format == "zip")


@pytest.mark.parametrize(
    "name",
    ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"],
)
def test_every_type_is_read(write: Written, read: Read, name: str) -> None:
    values = torch.tensor([0, 1, 2, 3, 100, 120]).to(getattr(torch, name))
    assert_equal(read(write({"a": values})), {"a": values})


def test_bfloat16_is_converted_as_torch_converts_it(write: Written, read: Read) -> None:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    arrays = read(write({"a": every, "b": every[7:40:4]}))
    for name, half in {"a": every, "b": every[7:40:4]}.items():
        expected = half.to(torch.float32).numpy()
        assert arrays[name].dtype == np.float32
        np.testing.assert_array_equal(arrays[name], expected)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_parameters_are_read_as_their_tensors(write: Written, read: Read, protocol: int) -> None:
    parameters = dict(network().named_parameters())
    assert_equal(read(write(parameters, protocol=protocol)), parameters)


def trained() -> tuple[Any, Any]:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, amsgrad=True)
    model.features(torch.ones(1, 3, 5, 5)).square().sum().backward()
    optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_training_checkpoint_gives_its_tensors_by_dotted_names(
    write: Written, read: Read, protocol: int
) -> None:
    model, optimizer = trained()
    checkpoint = {
        "epoch": 5,
        "arch": "vgg19",
        "best": 0.75,
        "seed": 2**40,
        "done": True,
        "none": None,
        "shape": (1, 2, [3]),
        "history": [1.0, {"loss": torch.ones(1)}],
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    state = {f"state_dict.{name}": tensor for name, tensor in model.state_dict().items()}
    for key, entry in optimizer.state_dict()["state"].items():
        state.update({f"optimizer.state.{key}.{name}": tensor for name, tensor in entry.items()})
    assert len(state) > 12
    assert_equal(read(write(checkpoint, protocol=protocol)), state)


def test_values_that_torch_loads_as_safe_are_accepted_and_dropped(
    write: Written, read: Read
) -> None:
    W = torch.arange(6.0)
    checkpoint = {
        "size": W.shape,
        "device": torch.device("cuda", 0),
        "dtypes": [torch.float32, torch.bfloat16, torch.bool, torch.complex64],
        "layout": torch.strided,
        "milestones": Counter({30: 1, 60: 1}),
        "bytes": bytearray(b"abc"),
        "set": {1, 2},
        "complex": 1j,
        "W": W,
    }
    path = write(checkpoint)
    assert torch.load(path, weights_only=True)["size"] == W.shape
    assert_equal(read(path), {"W": W})


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tensors_with_attributes_are_read_without_them(
    write: Written, read: Read, protocol: int
) -> None:
    W, b = torch.nn.Parameter(torch.arange(6.0)), torch.nn.Buffer(torch.arange(3.0))
    W.note = b.note = {"frozen": True}
    path = write({"W": W, "b": b}, protocol=protocol)
    assert_equal(read(path), {"W": W, "b": b})


@pytest.fixture
def alignment() -> Iterator[Any]:
    """torch's setting of the alignment of storages in a zip archive."""
    config = pytest.importorskip(
        "torch.utils.serialization", reason="this torch has no such setting"
    ).config
    before = config.save.storage_alignment
    yield config.save
    config.save.storage_alignment = before


@pytest.mark.parametrize("size", [64, 4096])
def test_archives_of_every_alignment_are_read(size: int, alignment: Any, tmp_path: Path) -> None:
    alignment.storage_alignment = size
    state, path = network().state_dict(), tmp_path / "aligned.pth"
    torch.save(state, path)
    with zipfile.ZipFile(path) as archive:
        assert archive.read("aligned/.storage_alignment") == str(size).encode()
        assert archive.read("aligned/.format_version") == b"1"
        assert archive.read("aligned/byteorder") == b"little"
        assert len(archive.read("aligned/.data/serialization_id")) == 40
    assert_equal(arrays_in(path), state)


def test_an_archive_without_checksums_is_read(tmp_path: Path) -> None:
    state, path = network().state_dict(), tmp_path / "unchecked.pth"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert_equal(arrays_in(path), state)


def arrays_in(path: Path) -> dict[str, Array]:
    with open_torch_zip(path) as tensors:
        return {name: stored.load() for name, stored in tensors.items()}


def test_views_of_one_storage_are_read_as_torch_reads_them(write: Written, read: Read) -> None:
    whole = torch.arange(60.0).reshape(3, 4, 5)
    views = {
        "whole": whole,
        "transposed": whole.transpose(0, 2),
        "permuted": whole.permute(1, 2, 0),
        "row": whole[1],
        "column": whole[:, 2, :],
        "stepped": whole[::2, 1::2, ::3],
        "single": whole[2, 3, 4],
        "diagonal": torch.diagonal(whole, dim1=0, dim2=1),
        "window": whole.reshape(-1).unfold(0, 5, 20),
        "empty": whole[:, :0],
        "last": whole.reshape(-1)[59:],
    }
    assert_equal(read(write(views)), views)


def test_a_view_larger_than_its_storage_is_refused(write: Written, read: Read) -> None:
    with pytest.raises(ModelError, match="exceeds its own"):
        read(write({"a": torch.ones(3, 1).expand(3, 1000)}))


def test_channels_last_weights_are_read_in_logical_order(write: Written, read: Read) -> None:
    W = torch.arange(120.0).reshape(5, 2, 3, 4).to(memory_format=torch.channels_last)
    assert not W.is_contiguous()
    assert_equal(read(write({"W": W})), {"W": W})


def test_tied_weights_are_read_under_both_names(write: Written, read: Read) -> None:
    W = torch.arange(6.0)
    model = network()
    checkpoint = {"a": W, "b": W, "c": W.view(2, 3), "model": model.state_dict()}
    checkpoint["again"] = checkpoint["model"]
    arrays = read(write(checkpoint))
    np.testing.assert_array_equal(arrays["a"], arrays["b"])
    np.testing.assert_array_equal(arrays["c"], W.view(2, 3).numpy())
    weight = model.state_dict()["classifier.weight"].numpy()
    np.testing.assert_array_equal(arrays["model.classifier.weight"], weight)
    np.testing.assert_array_equal(arrays["again.classifier.weight"], weight)


def test_tensors_without_elements_or_dimensions_are_read(write: Written, read: Read) -> None:
    tensors = {
        "none": torch.zeros(0),
        "rows": torch.zeros(3, 0),
        "columns": torch.zeros(0, 7),
        "scalar": torch.tensor(2.5),
        "deep": torch.ones(1, 1, 1, 1, 1, 1, 1, 1),
    }
    assert_equal(read(write(tensors)), tensors)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_whole_module_is_refused_with_the_remedy(
    write: Written, read: Read, protocol: int
) -> None:
    path = write(network(), protocol=protocol)
    with pytest.raises(ModelError) as caught:
        read(path)
    assert "'torch.nn.modules.container.Sequential'" in str(caught.value)
    assert str(caught.value).endswith("save model.state_dict() instead")


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: torch.ones(2, dtype=torch.complex64), "torch.ComplexFloatStorage"),
        (lambda: torch.eye(2).to_sparse(), "torch._utils._rebuild_sparse_tensor"),
        (lambda: torch.ones(2).to(torch.uint16), "torch._utils._rebuild_tensor_v3"),
        (lambda: np.float64(1), "numpy"),
    ],
    ids=["complex", "sparse", "unsigned", "NumPy's number"],
)
def test_the_error_for_an_unsupported_object_names_it(
    write: Written, read: Read, make: Callable[[], object], name: str
) -> None:
    path = write({"a": make()})
    with pytest.raises(ModelError, match=rf"imports '{name}"):
        read(path)


def test_a_negated_view_is_refused(write: Written, read: Read) -> None:
    negated = torch.imag(torch.ones(3, dtype=torch.complex64).conj())
    assert negated.is_neg()
    with pytest.raises(ModelError):
        read(write({"a": negated}))


def test_a_single_tensor_is_refused(write: Written, read: Read) -> None:
    with pytest.raises(ModelError, match="expected a dictionary of tensors"):
        read(write(torch.ones(2)))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_flipped_bit_gives_arrays_or_an_error(write: Written, read: Read, protocol: int) -> None:
    path = write({"model": network().state_dict(), "n": 1}, protocol=protocol)
    data = path.read_bytes()
    rng = np.random.default_rng(protocol)
    for _ in range(100):
        damaged = bytearray(data)
        at = rng.integers(len(data))
        damaged[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            arrays = read(path)
        except (MemoryError, RecursionError):
            raise
        except Exception:  # noqa: S112 - the other outcome is fine too
            continue
        assert sum(array.nbytes for array in arrays.values()) <= 8 * len(data)


# Streams as torch wrote them long ago, which torch still reads


def old_stream(body: bytes, keys: list[bytes], elements: Array) -> bytes:
    magic = struct.pack(
        "<BBBB10s", 0x80, 2, 0x8A, 10, 0x1950A86A20F9469CFC6C.to_bytes(10, "little")
    )
    around = (magic + b".", b"\x80\x02M\xe9\x03.", b"\x80\x02}.", b"\x80\x02" + body + b".")
    listed = b"\x80\x02](" + b"".join(keys) + b"e."
    return b"".join(around) + listed + struct.pack("<q", elements.size) + elements.tobytes()


def test_a_stream_of_2017_from_python_2_is_read_as_torch_reads_it(tmp_path: Path) -> None:
    # Strings of bytes, long integers, an ordered dictionary of pairs, tensors without hooks.
    def string(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode()

    def tensor(offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
        stored = b"(" + string("storage") + b"ctorch\nFloatStorage\n" + string("42")
        stored += string("cpu") + b"\x8a\x01\x18" + b"NtQ"
        sizes = [
            b"(" + b"".join(b"\x8a\x01" + bytes([n]) for n in t) + b"t" for t in (shape, stride)
        ]
        return (
            b"ctorch._utils\n_rebuild_tensor\n(" + stored + b"K" + bytes([offset])
            + b"".join(sizes) + b"tR"
        )  # fmt: skip

    elements = np.arange(24, dtype=np.float32)
    described = {"W": (0, (2, 3, 4), (12, 4, 1)), "b": (5, (3,), (2,)), "T": (0, (4, 6), (1, 4))}
    pairs = b"".join(
        b"](" + string(name) + tensor(*facts) + b"e" for name, facts in described.items()
    )
    body = b"ccollections\nOrderedDict\n](" + pairs + b"e\x85R"
    path = tmp_path / "old.pth"
    path.write_bytes(old_stream(body, [string("42")], elements))

    expected = torch.load(path, weights_only=True)

    assert list(expected) == ["W", "b", "T"]
    with open_torch_stream(path) as tensors:
        assert_equal({name: stored.load() for name, stored in tensors.items()}, expected)


def test_reading_changes_nothing_in_the_file(write: Written, read: Read) -> None:
    path = write(network().state_dict())
    before = copy.copy(path.read_bytes())
    for array in read(path).values():
        array[...] = 0
    assert path.read_bytes() == before


def test_torch_reads_the_tar_archives_that_the_tests_write(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    # torch no longer writes this format, so its reader is the oracle of our writer.
    arrays = {
        "features.0.weight": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "features.0.bias": rng.standard_normal(4),
    }
    write_torch_tar(tmp_path / "old.tar", arrays)
    checkpoint = torch.load(tmp_path / "old.tar", weights_only=False)
    assert set(checkpoint) == set(arrays)
    with open_torch_tar(tmp_path / "old.tar") as tensors:
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(tensor.load(), checkpoint[name].numpy())
            np.testing.assert_array_equal(checkpoint[name].numpy(), arrays[name])
