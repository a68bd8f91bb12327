"""torch's first format, a tar archive."""

import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.sources.torch_tar import is_tar, open_torch_tar
from hostile_files import LITTLE_MEMORY, POSITIONS, flipped, outcome, peak_memory
from pickle_writer import dictionary, list_of, name_of, number, pickled, text, tuple_of
from tar_writer import (
    archive,
    pickle_member,
    storages_member,
    tensor_entry,
    tensors_member,
    write_torch_tar,
)

NINE = np.arange(9, dtype=np.float32)


def read(path: Path) -> dict[str, Array]:
    with open_torch_tar(path) as tensors:
        return {name: tensor.load() for name, tensor in tensors.items()}


def written(folder: Path, **members: bytes) -> Path:
    """Write an archive with one tensor of nine numbers, some members replaced."""
    whole = {
        "storages": storages_member({7: NINE}),
        "tensors": tensors_member([tensor_entry(8, 7, 0, (9,), (1,))]),
        "pickle": pickle_member({"a": 8}),
    }
    path = folder / "old.tar"
    path.write_bytes(archive(whole | members))
    return path


def refusal(path: Path) -> str:
    messages: list[str] = []

    def attempt() -> None:
        result = outcome(lambda: read(path))
        assert isinstance(result, Exception)
        messages.append(str(result) if isinstance(result, ModelError) else "damaged")

    assert peak_memory(attempt) < 2 * LITTLE_MEMORY
    return messages[0]


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


def test_a_tensor_is_read_as_a_view_of_its_storage(tmp_path: Path) -> None:
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


def test_a_tar_archive_is_recognised_by_its_magic_number(tmp_path: Path) -> None:
    data = written(tmp_path).read_bytes()
    assert is_tar(data[:512])
    assert not is_tar(bytes(512))
    assert not is_tar(data[:200])


SYSTEM = name_of("os", "system") + tuple_of(text("echo > ran")) + b"R"


@pytest.mark.parametrize("member", ["storages", "tensors", "pickle"])
def test_a_command_in_the_pickle_does_not_run(
    member: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, **{member: pickled(SYSTEM)})
    assert "os.system" in refusal(path)
    later = pickled(number(1)) + pickled(SYSTEM)
    if member != "pickle":
        assert "os.system" in refusal(written(tmp_path, **{member: later}))
    assert not (tmp_path / "ran").exists()


def test_the_type_of_a_tensor_cannot_be_called(tmp_path: Path) -> None:
    body = name_of("torch", "FloatTensor") + tuple_of(number(10**9)) + b"R"
    assert "unknown" in refusal(written(tmp_path, pickle=pickled(body)))


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ((0, (10,), (1,)), "exceeds its own"),
        ((1, (9,), (1,)), "exceeds its own"),
        ((0, (2**60,), (0,)), "exceeds its own"),
        ((0, (2,), (2**60,)), "exceeds its own"),
        ((-1, (9,), (1,)), "unknown"),
        ((0, (-9,), (1,)), "unknown"),
        ((0, (1,) * 9, (1,) * 9), "at most 8 dimensions, found 9"),
    ],
)
def test_a_tensor_that_exceeds_its_storage_is_refused(
    entry: tuple[int, tuple[int, ...], tuple[int, ...]], words: str, tmp_path: Path
) -> None:
    assert words in refusal(written(tmp_path, tensors=tensors_member([tensor_entry(8, 7, *entry)])))


@pytest.mark.parametrize("part", [(70, 7, 5, 5), (70, 7, -1, 2), (70, 7, 2, -1)])
def test_a_part_that_exceeds_its_storage_is_refused(
    part: tuple[int, int, int, int], tmp_path: Path
) -> None:
    assert "exceeds its own" in refusal(
        written(tmp_path, storages=storages_member({7: NINE}, [part]))
    )


def test_a_storage_larger_than_its_member_is_refused(tmp_path: Path) -> None:
    whole = storages_member({7: NINE})
    size = struct.pack("<q", 9)
    for absurd in (100, 2**61, -1):
        changed = whole.replace(size, struct.pack("<q", absurd))
        assert refusal(written(tmp_path, storages=changed)) in (
            "expected complete storages, found one cut short",
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
def test_contradictory_members_are_refused(
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


def test_members_whose_names_are_paths_are_ignored(tmp_path: Path) -> None:
    path = written(tmp_path, **{"../storages": b"elsewhere", "/etc/x": b"elsewhere"})
    assert read(path)["a"].tolist() == NINE.tolist()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["old.tar"]


def test_only_the_first_members_are_examined(tmp_path: Path) -> None:
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
def test_members_that_are_not_files_are_ignored(kind: bytes, tmp_path: Path) -> None:
    path = written(tmp_path)
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("storages")
        link.type, link.linkname = kind, "/etc/passwd"
        tar.addfile(link)
    assert read(path)["a"].tolist() == NINE.tolist()


def test_a_long_header_is_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "old.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("storages")
        info.pax_headers = {"comment": "x" * 3_000_000}
        tar.addfile(info)
    assert "tar header" in refusal(path)


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    data = written(tmp_path).read_bytes().rstrip(b"\0")
    path = tmp_path / "cut.tar"
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        refusal(path)


@given(POSITIONS)
@settings(max_examples=200)
def test_flipped_bits_give_arrays_or_an_exception(
    tmp_path_factory: pytest.TempPathFactory, positions: list[float]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    data = flipped(written(folder).read_bytes().rstrip(b"\0"), positions)
    path = folder / "flipped.tar"
    path.write_bytes(data)
    result = outcome(lambda: read(path))
    assert isinstance(result, Exception) or all(a.nbytes <= len(data) for a in result.values())
