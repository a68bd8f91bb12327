"""torch's first format: what is read, what is refused before memory is taken."""

import struct
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.sources.torch_tar import is_tar, open_torch_tar
from pickle_writer import dictionary, list_of, name_of, number, pickled, text, tuple_of
from tar_writer import (
    archive,
    pickle_member,
    storages_member,
    tensor_entry,
    tensors_member,
    write_torch_tar,
)

# A refusal reads a few headers and pickles; what a file asks for would be gigabytes.
LITTLE_MEMORY = 2**21

NINE = np.arange(9, dtype=np.float32)


def read(path: Path) -> dict[str, Array]:
    with open_torch_tar(path) as tensors:
        return {name: tensor.load() for name, tensor in tensors.items()}


def written(folder: Path, **members: bytes) -> Path:
    """A file with one tensor of nine numbers, some members replaced."""
    whole = {
        "storages": storages_member({7: NINE}),
        "tensors": tensors_member([tensor_entry(8, 7, 0, (9,), (1,))]),
        "pickle": pickle_member({"a": 8}),
    }
    path = folder / "old.tar"
    path.write_bytes(archive(whole | members))
    return path


def refusal(path: Path) -> str:
    tracemalloc.start()
    try:
        with pytest.raises(Exception) as caught:  # noqa: PT011
            read(path)
        assert tracemalloc.get_traced_memory()[1] < LITTLE_MEMORY
    finally:
        tracemalloc.stop()
    if not isinstance(caught.value, ModelError):
        return "damaged"
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_tensors_are_read_by_their_names(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = {
        "features.0.weight": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "features.0.bias": rng.standard_normal(4).astype(np.float32),
        "double": rng.standard_normal((2, 5)),
    }
    write_torch_tar(tmp_path / "old.tar", arrays)
    with open_torch_tar(tmp_path / "old.tar") as tensors:
        assert list(tensors) == list(arrays)
        for name, tensor in tensors.items():
            assert (tensor.shape, tensor.dtype) == (arrays[name].shape, arrays[name].dtype)
            np.testing.assert_array_equal(tensor.load(), arrays[name])


def test_a_tensor_is_a_view_of_its_storage(tmp_path: Path) -> None:
    entries = [tensor_entry(8, 7, 1, (2, 3), (4, 1))]
    path = written(tmp_path, tensors=tensors_member(entries))
    np.testing.assert_array_equal(read(path)["a"], [[1, 2, 3], [5, 6, 7]])


def test_a_storage_may_be_a_part_of_another(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        storages=storages_member({7: NINE}, [(70, 7, 2, 4), (71, 70, 1, 2)]),
        tensors=tensors_member(
            [tensor_entry(8, 70, 1, (3,), (1,)), tensor_entry(9, 71, 0, (2,), (1,))]
        ),
        pickle=pickle_member({"a": 8, "b": 9}),
    )
    found = read(path)
    assert found["a"].tolist() == [3, 4, 5]
    assert found["b"].tolist() == [3, 4]


def test_a_tar_archive_is_told_by_its_magic(tmp_path: Path) -> None:
    data = written(tmp_path).read_bytes()
    assert is_tar(data[:512])
    assert not is_tar(bytes(512))
    assert not is_tar(data[:200])


SYSTEM = name_of("os", "system") + tuple_of(text("echo > ran")) + b"R"


@pytest.mark.parametrize("member", ["storages", "tensors", "pickle"])
def test_a_command_does_not_run(
    member: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, **{member: pickled(SYSTEM)})
    assert "os.system" in refusal(path)
    later = pickled(number(1)) + pickled(SYSTEM)
    if member != "pickle":
        assert "os.system" in refusal(written(tmp_path, **{member: later}))
    assert not (tmp_path / "ran").exists()


def test_a_tensors_type_is_a_name_and_cannot_be_called(tmp_path: Path) -> None:
    body = name_of("torch", "FloatTensor") + tuple_of(number(10**9)) + b"R"
    assert "unknown way" in refusal(written(tmp_path, pickle=pickled(body)))


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ((0, (10,), (1,)), "does not fit"),
        ((1, (9,), (1,)), "does not fit"),
        ((0, (2**60,), (0,)), "does not fit"),
        ((0, (2,), (2**60,)), "does not fit"),
        ((-1, (9,), (1,)), "unknown way"),
        ((0, (-9,), (1,)), "unknown way"),
        ((0, (1,) * 9, (1,) * 9), "at most 8 dimensions, found 9"),
    ],
)
def test_a_tensor_that_its_storage_cannot_hold_is_refused(
    entry: tuple[int, tuple[int, ...], tuple[int, ...]], words: str, tmp_path: Path
) -> None:
    assert words in refusal(written(tmp_path, tensors=tensors_member([tensor_entry(8, 7, *entry)])))


@pytest.mark.parametrize(
    ("part", "words"),
    [((70, 7, 5, 5), "beyond"), ((70, 7, -1, 2), "beyond"), ((70, 7, 2, -1), "beyond")],
)
def test_a_part_beyond_its_storage_is_refused(
    part: tuple[int, int, int, int], words: str, tmp_path: Path
) -> None:
    assert words in refusal(written(tmp_path, storages=storages_member({7: NINE}, [part])))


def test_a_storage_larger_than_its_member_is_refused(tmp_path: Path) -> None:
    whole = storages_member({7: NINE})
    size = struct.pack("<q", 9)
    for absurd in (100, 2**61, -1):
        changed = whole.replace(size, struct.pack("<q", absurd))
        assert refusal(written(tmp_path, storages=changed)) in (
            "expected whole storages, found one cut short",
            "expected a storage's type and size, found something else",
        )


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"storages": pickled(number(2**40))}, "at most 50000 tensors"),
        ({"tensors": pickled(number(-1))}, "at most 50000 tensors"),
        ({"tensors": pickled(text("two"))}, "at most 50000 tensors"),
        ({"pickle": pickled(dictionary({"a": number(99) + b"Q"}))}, "damaged"),
        (
            {"pickle": pickled(dictionary({"a": tuple_of(number(8)) + b"Q"}))},
            "found something else",
        ),
        ({"pickle": pickled(list_of())}, "found something else"),
        ({"storages": pickled(number(0)) + pickled(list_of())}, "damaged"),
    ],
)
def test_members_that_do_not_fit_together_are_refused(
    members: dict[str, bytes], words: str, tmp_path: Path
) -> None:
    assert words in refusal(written(tmp_path, **members))


@pytest.mark.parametrize("missing", ["storages", "tensors", "pickle"])
def test_an_archive_without_a_member_is_refused(missing: str, tmp_path: Path) -> None:
    data = {
        "storages": storages_member({7: NINE}),
        "tensors": tensors_member([]),
        "pickle": pickle_member({}),
    }
    del data[missing]
    (tmp_path / "old.tar").write_bytes(archive(data))
    assert f"expected a member '{missing}'" in refusal(tmp_path / "old.tar")


def test_a_member_whose_name_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    path = written(tmp_path, **{"../storages": b"elsewhere", "/etc/x": b"elsewhere"})
    assert read(path)["a"].tolist() == NINE.tolist()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["old.tar"]


def test_only_the_first_members_are_looked_at(tmp_path: Path) -> None:
    whole = {
        "storages": storages_member({7: NINE}),
        "tensors": tensors_member([tensor_entry(8, 7, 0, (9,), (1,))]),
        "pickle": pickle_member({"a": 8}),
    }
    path = tmp_path / "old.tar"
    path.write_bytes(archive({f"m{k}": b"" for k in range(97)} | whole))
    assert list(read(path)) == ["a"]
    path.write_bytes(archive({f"m{k}": b"" for k in range(98)} | whole))
    assert "expected a member 'pickle'" in refusal(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE])
def test_a_member_that_is_no_file_is_none(kind: bytes, tmp_path: Path) -> None:
    path = written(tmp_path)
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("storages")
        link.type, link.linkname = kind, "/etc/passwd"
        tar.addfile(link)
    assert read(path)["a"].tolist() == NINE.tolist()


def test_a_header_of_megabytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "old.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("storages")
        info.pax_headers = {"comment": "x" * 3_000_000}
        tar.addfile(info)
    assert "table of contents" in refusal(path)


def test_an_archive_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    data = written(tmp_path).read_bytes().rstrip(b"\0")
    path = tmp_path / "cut.tar"
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        refusal(path)


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=4))
@settings(max_examples=200, deadline=None)
def test_flipped_bits_give_arrays_or_an_ordinary_error(
    tmp_path_factory: pytest.TempPathFactory, places: list[float]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    data = bytearray(written(folder).read_bytes().rstrip(b"\0"))
    for place in places:
        bit = int(place * 8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
    path = folder / "flipped.tar"
    path.write_bytes(data)
    try:
        found = read(path)
    except (MemoryError, RecursionError):
        raise
    except Exception:
        return  # the caller makes one line of it
    assert all(array.nbytes <= len(data) for array in found.values())
