"""torch's zip format, written member by member.

Neither torch nor the reader is used to write an archive. test_pickles.py tests the pickle in it.
"""

import io
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gramstyle.core.arrays import Array
from gramstyle.model.sources.archives import open_archive
from gramstyle.model.sources.tensors import StoredTensor
from gramstyle.model.sources.torch_zip import open_torch_zip
from hostile_files import LITTLE_MEMORY, POSITIONS, error_line, flipped, outcome, peak_memory
from pickle_writer import dictionary, name_of, pickled, storage, text
from pickle_writer import tensor as tensor_of

# A table of contents of 2 MiB, with 400 bytes in Python for each of its 40,000 members.
TABLE_MEMORY = 40 * 2**20


# The writer


def tensor(
    key: str,
    kind: str,
    size: int,
    *,
    offset: int = 0,
    shape: Iterable[int] | None = None,
    stride: Iterable[int] = (1,),
) -> bytes:
    return tensor_of(storage(key, kind, size), offset, shape or (size,), stride)


def described(tensors: Mapping[str, bytes]) -> bytes:
    return pickled(dictionary(tensors))


FOUR = np.arange(4, dtype=np.float32)
ONE_TENSOR = described({"a": tensor("0", "Float", 4)})


def members(
    contents: bytes = ONE_TENSOR, storages: Mapping[str, bytes] | None = None, root: str = "archive"
) -> dict[str, bytes]:
    """The members of an archive that torch writes."""
    storages = {"0": FOUR.tobytes()} if storages is None else storages
    return {
        f"{root}/data.pkl": contents,
        f"{root}/.format_version": b"1",
        f"{root}/byteorder": b"little",
        **{f"{root}/data/{key}": raw for key, raw in storages.items()},
        f"{root}/version": b"3\n",
        f"{root}/.data/serialization_id": b"0" * 40,
    }


def archive(
    parts: Mapping[str, bytes], compressed: Iterable[str] = (), aligned: bool = True
) -> bytes:
    """A zip archive, padded as torch does so that elements begin at multiples of 64 bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, data in parts.items():
            info = zipfile.ZipInfo(name)
            if aligned:
                room = -(stream.tell() + 30 + len(name) + 4) % 64
                info.extra = b"FB" + struct.pack("<H", room) + b"Z" * room
            if name in compressed:
                info.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(info, data)
    return stream.getvalue()


def changed(data: bytes, at: int, replacement: bytes) -> bytes:
    return data[:at] + replacement + data[at + len(replacement) :]


def central(data: bytes, name: str) -> int:
    """The offset of a member's entry in the table of contents."""
    return data.rindex(name.encode()) - 46


# The reader


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], Path]:
    """Returns a function that writes data to a new file."""
    folder, numbers = tmp_path_factory.mktemp("zip"), count()

    def write(data: bytes) -> Path:
        path = folder / f"{next(numbers)}.pth"
        path.write_bytes(data)
        return path

    return write


Place = Callable[[bytes], Path]


def read(path: Path) -> dict[str, Array]:
    """Every tensor of an archive."""
    with open_torch_zip(path) as tensors:
        return {name: stored.load() for name, stored in tensors.items()}


def refusal(path: Path) -> str:
    """The error for an archive, which is raised before any tensor is read."""

    def attempt() -> None:
        with open_torch_zip(path):
            pytest.fail("it was opened")

    message = error_line(attempt)
    assert len(message) < 300
    return message


# Reading


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("root", ["archive", "vgg19", "my..net", "a b"])
def test_tensors_are_read_from_their_storages(place: Place, root: str, aligned: bool) -> None:
    doubles, halves = np.arange(24.0), np.arange(6, dtype=np.float16)
    contents = described(
        {
            "W": tensor("0", "Double", 24, shape=(2, 3, 4), stride=(12, 4, 1)),
            "W.T": tensor("0", "Double", 24, shape=(4, 6), stride=(1, 4)),
            "part": tensor("0", "Double", 24, offset=5, shape=(2, 2), stride=(7, 3)),
            "h": tensor("1", "Half", 6),
            "none": tensor("2", "Float", 0, shape=(3, 0), stride=(1, 1)),
        }
    )
    parts = members(contents, {"0": doubles.tobytes(), "1": halves.tobytes(), "2": b""}, root=root)
    tensors = read(place(archive(parts, aligned=aligned)))
    assert list(tensors) == ["W", "W.T", "part", "h", "none"]
    np.testing.assert_array_equal(tensors["W"], doubles.reshape(2, 3, 4))
    np.testing.assert_array_equal(tensors["W.T"], doubles.reshape(6, 4).T)
    np.testing.assert_array_equal(tensors["part"], [[5, 8], [12, 15]])
    np.testing.assert_array_equal(tensors["h"], halves)
    assert tensors["none"].shape == (3, 0)
    assert [array.dtype for array in tensors.values()] == ["f8", "f8", "f8", "f2", "f4"]
    assert all(array.flags.c_contiguous for array in tensors.values())


@pytest.mark.parametrize("first", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20 - 9])
@pytest.mark.parametrize("length", [1, 8, 2**20 - 1, 2**20 + 1])
def test_a_part_of_a_storage_of_many_chunks_is_found(place: Place, first: int, length: int) -> None:
    # Elements are read in chunks of a mebibyte.
    size = 3 * 2**20 + 5
    elements = np.random.default_rng(first).integers(0, 256, size).astype(np.uint8)
    length = min(length, size - first)
    contents = described({"a": tensor("0", "Byte", size, offset=first, shape=(length,))})
    path = place(archive(members(contents, {"0": elements.tobytes()})))
    np.testing.assert_array_equal(read(path)["a"], elements[first : first + length])
    path.unlink()


def test_shape_and_type_are_known_before_the_tensor_is_read(place: Place) -> None:
    contents = described({"a": tensor("0", "BFloat16", 8, shape=(2, 4), stride=(4, 1))})
    with open_torch_zip(place(archive(members(contents)))) as tensors:
        stored = tensors["a"]
        array = stored.load()
        assert (stored.shape, stored.dtype) == ((2, 4), np.float32)
        assert (array.shape, array.dtype) == ((2, 4), np.float32)
        assert array.flags.writeable


def test_members_that_older_versions_lack_are_optional(place: Place) -> None:
    parts = members()
    for name in ("byteorder", ".format_version", "version", ".data/serialization_id"):
        del parts[f"archive/{name}"]
    assert read(place(archive(parts)))["a"].tolist() == [0, 1, 2, 3]


def test_a_comment_and_leading_bytes_are_ignored(place: Place) -> None:
    data = archive(members())
    commented = data[:-2] + struct.pack("<H", 5) + b"words"
    assert read(place(commented))["a"].tolist() == [0, 1, 2, 3]
    assert read(place(b"before" + data))["a"].tolist() == [0, 1, 2, 3]


def test_the_file_is_closed_afterwards(place: Place) -> None:
    with open_torch_zip(place(archive(members()))) as tensors:
        stored: StoredTensor = tensors["a"]
    with pytest.raises(ValueError, match="closed"):
        stored.load()


# Lazy reading and checksums


def test_opening_reads_no_elements_and_takes_no_memory(place: Place) -> None:
    size = 2**24
    contents = described({"a": tensor("0", "Byte", size), "b": tensor("1", "Float", 4)})
    parts = members(contents, {"0": bytes(size), "1": FOUR.tobytes()})
    data = archive(parts)
    # With a wrong checksum, which a read would detect.
    path = place(changed(data, data.index(bytes(2**20)) + 2**20, b"\1"))
    del data, parts

    def attempt() -> None:
        with open_torch_zip(path) as tensors:
            assert tensors["a"].shape == (size,)
            assert tensors["b"].load().tolist() == [0, 1, 2, 3]

    assert peak_memory(attempt) < LITTLE_MEMORY
    assert isinstance(outcome(lambda: read(path)), zipfile.BadZipFile)
    path.unlink()


def test_reading_a_small_part_takes_little_memory(place: Place) -> None:
    size = 2**24
    contents = described({"a": tensor("0", "Byte", size, offset=size // 2, shape=(3,))})
    path = place(archive(members(contents, {"0": bytes(size)})))
    # The other elements are read in chunks of a mebibyte.
    assert peak_memory(lambda: read(path)) < 5 * LITTLE_MEMORY
    path.unlink()


@pytest.mark.parametrize("byte", [0, 3, 8, 15])
def test_a_flipped_bit_anywhere_in_a_storage_is_detected(place: Place, byte: int) -> None:
    contents = described({"a": tensor("0", "Float", 4, offset=1, shape=(2,))})
    data = archive(members(contents))
    at = data.index(FOUR.tobytes()) + byte
    path = place(changed(data, at, bytes([data[at] ^ 1])))
    with open_torch_zip(path) as tensors, pytest.raises(zipfile.BadZipFile, match="CRC"):
        tensors["a"].load()


def test_a_flipped_bit_in_the_pickle_is_detected(place: Place) -> None:
    data = archive(members())
    assert isinstance(
        outcome(lambda: read(place(data.replace(b"Float", b"Int32", 1)))), zipfile.BadZipFile
    )


def without_checksums(data: bytes, names: Iterable[str]) -> bytes:
    """The archive as torch.serialization.set_crc32_options(False) makes torch write it."""
    for name in names:
        data = changed(data, central(data, name) + 16, bytes(4))
    return data


def test_an_archive_without_checksums_is_read(place: Place) -> None:
    data = without_checksums(archive(members()), members())
    assert read(place(data))["a"].tolist() == [0, 1, 2, 3]


def test_one_missing_checksum_is_damage(place: Place) -> None:
    data = without_checksums(archive(members()), ["archive/data/0"])
    assert isinstance(outcome(lambda: read(place(data))), zipfile.BadZipFile)


# Hostile archives


@pytest.mark.parametrize(
    "name",
    [
        *("/etc/passwd", "../data", "archive/../../data", "archive/..", "..", "archive\\data"),
        *("C:\\data", "archive/data/0\0.txt"),
    ],
)
def test_a_name_that_leads_out_of_the_archive_is_refused(place: Place, name: str) -> None:
    stand_in = "x" * len(name)
    data = archive({**members(), stand_in: b""}).replace(stand_in.encode(), name.encode())
    assert "names inside the archive" in refusal(place(data))


def test_a_repeated_name_is_refused(place: Place) -> None:
    for name in members():
        stand_in = "x" * len(name)
        data = archive({**members(), stand_in: b"3"}).replace(stand_in.encode(), name.encode())
        assert "every name once" in refusal(place(data))


@pytest.mark.parametrize("name", ["archive/data.pkl", "archive/data/0", "archive/byteorder"])
def test_a_compressed_member_is_refused_if_it_is_needed(place: Place, name: str) -> None:
    parts = members(storages={"0": bytes(16)})
    assert f"'{name}' compressed" in refusal(place(archive(parts, compressed=[name])))


def test_a_member_that_is_wrongly_marked_as_compressed_is_refused(place: Place) -> None:
    data = archive(members())
    called = changed(data, central(data, "archive/data/0") + 10, b"\x08")
    assert "'archive/data/0' compressed" in refusal(place(called))


def test_compressed_members_that_are_not_needed_are_ignored(place: Place) -> None:
    parts = {**members(), "archive/code.py": bytes(2**16)}
    data = archive(parts, compressed=["archive/code.py", "archive/.data/serialization_id"])
    assert read(place(data))["a"].tolist() == [0, 1, 2, 3]


def test_a_zip_bomb_takes_no_memory(place: Place) -> None:
    size = 2**26
    contents = described({"a": tensor("0", "Byte", size)})
    bomb = archive(members(contents, {"0": bytes(size)}), compressed=["archive/data/0"])
    assert len(bomb) < size // 500
    path = place(bomb)
    assert "compressed" in refusal(path)
    assert peak_memory(lambda: refusal(path)) < LITTLE_MEMORY
    # Marked as not compressed, it claims to be larger than the file.
    path = place(changed(bomb, central(bomb, "archive/data/0") + 10, b"\0\0"))
    assert "compressed" in refusal(path)
    assert peak_memory(lambda: refusal(path)) < LITTLE_MEMORY


@pytest.mark.parametrize("name", ["archive/data.pkl", "archive/data/0", "archive/version"])
def test_an_encrypted_member_is_refused(place: Place, name: str) -> None:
    data = archive(members())
    assert f"'{name}' encrypted" in refusal(place(changed(data, central(data, name) + 8, b"\1")))


def test_a_pickle_of_more_than_16_mebibytes_is_not_read(place: Place) -> None:
    path = place(archive(members(b"\x80\x02" + b"N" * (16 * 2**20) + b".")))
    assert "data.pkl" in refusal(path)
    assert peak_memory(lambda: refusal(path)) < LITTLE_MEMORY
    path.unlink()


def table_entry(name: bytes) -> bytes:
    """An entry of a table of contents without a member."""
    head = struct.pack("<4s4B4HL2L", b"PK\1\2", 20, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0)
    return head + struct.pack("<5H2L", len(name), 0, 0, 0, 0, 0, 0) + name


def table_of(number: int) -> bytes:
    table = b"".join(table_entry(b"%05d" % k) for k in range(number))
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, number % 2**16, number % 2**16, len(table), 0, 0)
    return table + end


def test_too_many_members_are_refused_with_bounded_memory(place: Place) -> None:
    path = place(table_of(100_001))
    assert "table of contents" in refusal(path)
    assert peak_memory(lambda: refusal(path)) < LITTLE_MEMORY
    # The largest number that is accepted.
    path = place(table_of(41_000))

    def attempt() -> None:
        assert "overlap" in refusal(path)

    assert peak_memory(attempt) < TABLE_MEMORY


def test_a_table_of_contents_of_the_size_of_the_file_takes_no_memory(tmp_path: Path) -> None:
    # A file of zeros, which most file systems do not store.
    path = tmp_path / "large.pth"
    size = 2**28
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, size, 0, 0)
    with path.open("wb") as file:
        file.truncate(size)
        file.seek(size)
        file.write(end)
    assert "table of contents" in refusal(path)
    assert peak_memory(lambda: refusal(path)) < LITTLE_MEMORY


def overlapping(shift: int) -> bytes:
    """An archive whose second storage begins before or after the end of its first."""
    contents = described({"a": tensor("0", "Float", 4), "b": tensor("1", "Float", 4)})
    data = archive(members(contents, {"0": FOUR.tobytes(), "1": FOUR.tobytes()}), aligned=False)
    at = central(data, "archive/data/1") + 42
    (offset,) = struct.unpack_from("<L", data, at)
    return changed(data, at, struct.pack("<L", offset + shift))


def test_members_that_overlap_are_refused(place: Place) -> None:
    assert sorted(read(place(overlapping(0)))) == ["a", "b"]
    # At the first member, and in the elements of the first member.
    first_length = 30 + len("archive/data/0") + 16
    for shift in (-first_length, -15):
        assert "overlap" in refusal(place(overlapping(shift)))


def test_a_member_that_reaches_into_the_table_of_contents_is_refused(place: Place) -> None:
    size = 500
    contents = described({"a": tensor("0", "Byte", size)})
    parts = members(contents, {"0": b""})
    parts["archive/data/0"] = parts.pop("archive/data/0")
    data = archive(parts)
    at = central(data, "archive/data/0")
    claimed = changed(data, at + 20, struct.pack("<2L", size, size))
    assert "cut short" in refusal(place(claimed))


@pytest.mark.parametrize("size", [0, 15, 17, 2**20])
def test_a_storage_with_another_size_than_contentsis_refused(place: Place, size: int) -> None:
    message = refusal(place(archive(members(storages={"0": bytes(size)}))))
    assert f"{size} bytes in 'archive/data/0'" in message


@pytest.mark.parametrize("size", [5, 2**40, 2**70])
def test_a_storage_larger_than_its_member_is_refused_before_memory_is_allocated(
    place: Place, size: int
) -> None:
    path = place(archive(members(described({"a": tensor("0", "Float", size)}))))
    assert "as its tensor describes it" in refusal(path)
    assert peak_memory(lambda: refusal(path)) < LITTLE_MEMORY


def test_a_missing_storage_is_refused(place: Place) -> None:
    assert "'archive/data/0', found none" in refusal(place(archive(members(storages={}))))


def test_the_key_of_a_storage_cannot_be_a_path(place: Place) -> None:
    for key in ("../0", "/etc/passwd", "../../etc/passwd", "x" * 5000, "\n"):
        contents = described({"a": tensor(key, "Float", 4)})
        assert "found none" in refusal(place(archive(members(contents))))


@pytest.mark.parametrize(
    ("member", "value", "words"),
    [
        ("byteorder", b"big", "byte order"),
        ("byteorder", b"", "byte order"),
        ("byteorder", b"little" * 100, "600 bytes"),
        ("version", b"11\n", "version"),
        ("version", b"-1", "version"),
        ("version", b"new", "version"),
        ("version", b"", "version"),
    ],
)
def test_another_byte_order_or_version_is_refused(
    place: Place, member: str, value: bytes, words: str
) -> None:
    assert words in refusal(place(archive({**members(), f"archive/{member}": value})))


def test_an_archive_without_exactly_one_checkpoint_is_refused(place: Place) -> None:
    both = {**members(), **members(root="other")}
    assert "found 2" in refusal(place(archive(both)))
    assert "found 0" in refusal(place(archive({"a.txt": b"a"})))
    assert "found 0" in refusal(place(archive(members(root="a/b"))))
    assert "found 0" in refusal(place(archive({"data.pkl": ONE_TENSOR})))


def test_a_command_in_the_pickle_does_not_run(place: Place, tmp_path: Path) -> None:
    sentinel = tmp_path / "ran"
    payload = pickled(name_of("os", "system") + text(f'echo > "{sentinel}"') + b"\x85R")
    pickle.loads(payload)  # noqa: S301 - proves that the payload works
    assert sentinel.exists()
    sentinel.unlink()
    assert "imports 'os.system'" in refusal(place(archive(members(payload))))
    assert not sentinel.exists()


def test_nothing_is_written_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(archive(members()))
    monkeypatch.chdir(tmp_path)
    read(path)
    assert list(tmp_path.rglob("*")) == [path]


def test_open_archive_yields_the_archive(place: Place) -> None:
    data = archive({"a": b"1" * 100}, compressed=["a"])
    with open_archive(place(data)) as opened:
        assert opened.read("a") == b"1" * 100


# Damage

SMALL = archive(
    members(
        described({"W": tensor("0", "Float", 4), "h": tensor("1", "Half", 2)}),
        {"0": FOUR.tobytes(), "1": bytes(4)},
    ),
    aligned=False,
)


def test_a_truncated_archive_gives_an_error(place: Place) -> None:
    assert sorted(read(place(SMALL))) == ["W", "h"]
    path = place(b"")
    for length in range(len(SMALL)):
        path.write_bytes(SMALL[:length])
        assert isinstance(outcome(lambda: read(path)), Exception)


@given(POSITIONS)
@settings(max_examples=300)
def test_flipped_bits_give_the_same_arrays_or_an_error(
    place: Place, positions: list[float]
) -> None:
    path = place(flipped(SMALL, positions))
    result = outcome(lambda: read(path))
    path.unlink()
    if isinstance(result, dict):
        # Checksums cover the pickle and the elements; other bytes do not affect the arrays.
        assert {name: array.tolist() for name, array in result.items()} == {
            "W": [0, 1, 2, 3],
            "h": [0, 0],
        }


@given(st.binary(max_size=300))
@settings(max_examples=50)
def test_random_bytes_give_an_error(place: Place, data: bytes) -> None:
    path = place(data)
    assert isinstance(outcome(lambda: read(path)), Exception)
    path.unlink()
