"""Damaged and hostile checkpoints are refused."""

import errno
import hashlib
import io
import json
import os
import random
import tracemalloc
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gramstyle.core.arrays import Array
from gramstyle.run.checkpoint import (
    CheckpointError,
    Expected,
    check_folder,
    load,
    read_manifest,
)
from run.checkpoint.states import (
    EXPECTED,
    manifest,
    refusal,
    state,
)

needs_posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such thing")


def sealed(folder: Path, document: Mapping[str, Any]) -> None:
    """Write a manifest with a right checksum, as an attacker would."""
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    checksum = hashlib.sha256(canonical.encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({**document, "checksum": checksum}))


def changed(folder: Path, **changes: Any) -> None:
    document = json.loads((folder / "manifest.json").read_bytes())
    del document["checksum"]
    sealed(folder, {k: v for k, v in {**document, **changes}.items() if v is not ...})


def with_state(folder: Path, data: bytes) -> None:
    """Replace the bytes of the state, and their size and hash in the manifest."""
    (folder / "state-000120.npz").write_bytes(data)
    changed(folder, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def test_the_helper_seals_a_manifest_correctly(saved: Path) -> None:
    changed(saved, run=manifest(7))
    assert read_manifest(saved) == manifest(7)


def test_a_missing_folder_or_one_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    assert "there is no such folder" in refusal(tmp_path / "missing")
    assert "there is no manifest.json in it" in refusal(tmp_path)
    (tmp_path / "file").touch()
    assert "there is no such folder" in refusal(tmp_path / "file")


def test_a_checkpoint_of_a_newer_version_is_refused_as_such(saved: Path) -> None:
    (saved / "manifest.json").write_text('{"format": "gramstyle checkpoint", "version": 4}')
    message = refusal(saved)
    assert "made by a newer gramstyle" in message
    assert "version 4" in message


def test_a_checkpoint_of_the_version_that_names_files_elsewhere_is_refused_as_such(
    saved: Path,
) -> None:
    (saved / "manifest.json").write_text('{"format": "gramstyle checkpoint", "version": 1}')
    message = refusal(saved)
    assert "made by an earlier gramstyle (version 1" in message
    assert "resume it with that one, or start the run again" in message


def test_a_missing_state_is_refused_as_such(saved: Path) -> None:
    (saved / "state-000120.npz").unlink()
    assert "state-000120.npz is missing; put it back" in refusal(saved)


@pytest.mark.parametrize("wrong", [-1, 1, -500])
def test_a_state_of_another_size_is_refused_as_such(wrong: int, saved: Path) -> None:
    data = (saved / "state-000120.npz").read_bytes()
    data = data[:wrong] if wrong < 0 else data + b"\0"
    (saved / "state-000120.npz").write_bytes(data)
    assert f"state-000120.npz has {len(data):,} bytes instead of" in refusal(saved)


NESTED = "[" * 200_000


BAD_MANIFESTS: list[tuple[bytes, str]] = [
    (b"", "not plain JSON"),
    (b"\x00\xff\x00", "not plain JSON"),
    (b"{" * 5, "not plain JSON"),
    (NESTED.encode(), "not plain JSON"),
    (b'{"format": ' + NESTED.encode(), "not plain JSON"),
    (b'{"format": ' + b"1" * 5000 + b"}", "not plain JSON"),
    (b'{"format": 1, "format": 1}', "not plain JSON"),
    (b"[]", "not of gramstyle"),
    (b"null", "not of gramstyle"),
    (b"{}", "not of gramstyle"),
    (b'{"format": "a web application"}', "not of gramstyle"),
    (b'{"format": "gramstyle checkpoint"}', "damaged"),
    (b'{"format": "gramstyle checkpoint", "version": NaN}', "damaged"),
    (b'{"format": "gramstyle checkpoint", "version": 1e999}', "damaged"),
    (b'{"format": "gramstyle checkpoint", "version": 1' + b"0" * 4000 + b"}", "newer"),
    (b'"' + b"x" * 1_000_000, "larger"),
]


@pytest.mark.parametrize(("data", "reason"), BAD_MANIFESTS)
def test_an_invalid_manifest_is_refused(data: bytes, reason: str, saved: Path) -> None:
    (saved / "manifest.json").write_bytes(data)
    assert reason in refusal(saved)
    with pytest.raises(CheckpointError):
        check_folder(saved)


BAD_CHANGES: list[dict[str, Any]] = [
    {"state": "../state-000120.npz"},
    {"state": "/etc/passwd"},
    {"state": "manifest.json"},
    {"state": "state-000120.npz\n"},
    {"state": "state-\u0661\u0661\u0661\u0661\u0661\u0661.npz"},
    {"state": "x" * 10_000},
    {"state": 5},
    {"state": None},
    {"sha256": 5},
    {"bytes": "5"},
    {"bytes": True},
    {"bytes": -1},
    {"bytes": 2**70},
    {"bytes": 1e3},
    {"bytes": ...},
    {"version": 0},
    {"version": None},
    {"version": "1"},
    {"run": []},
    {"run": None},
    {"run": {}},
    {"run": {"iteration": -1}},
    {"run": {"iteration": "\x1b[2J"}},
    {"more": 1},
]


@pytest.mark.parametrize("changes", BAD_CHANGES)
def test_a_manifest_with_a_right_checksum_is_validated(
    changes: dict[str, Any], saved: Path
) -> None:
    changed(saved, **changes)
    refusal(saved)
    with pytest.raises(CheckpointError):
        read_manifest(saved)


def test_a_flipped_bit_anywhere_in_the_manifest_is_found(saved: Path) -> None:
    path = saved / "manifest.json"
    data = path.read_bytes()
    harmless = 0
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 7
        path.write_bytes(flipped)
        try:
            # Some flips do not change the document: \u00e9 and \u00E9 are both é.
            assert read_manifest(saved) == manifest(120)
        except CheckpointError:
            continue
        harmless += 1
    assert harmless < 10


def test_a_manifest_truncated_anywhere_is_refused(saved: Path) -> None:
    data = (saved / "manifest.json").read_bytes().rstrip()
    for length in range(len(data)):
        (saved / "manifest.json").write_bytes(data[:length])
        assert "not plain JSON" in refusal(saved)


def test_a_flipped_bit_anywhere_in_the_state_is_found_before_parsing(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parsed(*_: object) -> None:
        raise AssertionError

    path = saved / "state-000120.npz"
    data = path.read_bytes()
    monkeypatch.setattr(zipfile, "ZipFile", parsed)
    for at in range(0, len(data), 5):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        path.write_bytes(flipped)
        assert "state-000120.npz is damaged" in refusal(saved)


@pytest.mark.filterwarnings("error")
def test_a_forged_state_with_a_right_hash_yields_the_expected_arrays_or_an_error(
    saved: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, rng = saved / "state-000120.npz", random.Random(7)  # noqa: S311
    whole = path.read_bytes()
    refused = 0
    for _ in range(1000):
        data = bytearray(whole)
        match rng.randrange(3):
            case 0:  # other bytes, most of them in the archive's metadata
                for _ in range(rng.choice([1, 1, 2, 8])):
                    data[rng.randrange(len(data))] = rng.choice([0, 1, 0xFF, rng.randrange(256)])
            case 1:
                del data[rng.randrange(len(data)) :]
            case _:
                start = rng.randrange(len(data))
                data[start : start + rng.randrange(40)] = rng.randbytes(rng.randrange(40))
        with_state(saved, bytes(data))
        try:
            arrays = load(saved, expected=EXPECTED).arrays
        except CheckpointError:
            refused += 1
            continue
        for name, truth in state(120).items():
            assert (arrays[name].shape, arrays[name].dtype) == (truth.shape, truth.dtype)
    assert refused > 800
    assert capfd.readouterr() == ("", "")


def npz(arrays: Mapping[str, Array], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as target:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=True)
            target.writestr(f"{name}.npy", member.getvalue())
    return file.getvalue()


X = {"x": Expected((3, 2), ("float64",))}


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({}, "does not contain the arrays"),
        ({"y": np.zeros((3, 2))}, "does not contain the arrays"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(1)}, "does not contain the arrays"),
        ({"x": np.zeros((3, 2), np.float32)}, "x is not float64 of the shape"),
        ({"x": np.zeros((3, 2), np.int64)}, "x is not float64 of the shape"),
        ({"x": np.zeros((3, 2), ">f8")}, "x is not float64 of the shape"),
        ({"x": np.zeros((2, 3))}, "x is not float64 of the shape"),
        ({"x": np.zeros((6,))}, "x is not float64 of the shape"),
        ({"x": np.full((3, 2), None)}, "x is not float64 of the shape"),
        ({"x": np.full((3, 2), np.nan)}, "x contains NaN"),
        ({"x": np.full((3, 2), -np.inf)}, "x contains NaN"),
    ],
)
def test_unexpected_arrays_are_refused(arrays: dict[str, Array], reason: str, saved: Path) -> None:
    with_state(saved, npz(arrays))
    assert reason in refusal(saved, X)


def test_a_compressed_state_is_refused(saved: Path) -> None:
    with_state(saved, npz({"x": np.zeros((3, 2))}, zipfile.ZIP_DEFLATED))
    assert "x is compressed" in refusal(saved, X)


def member(header: bytes, data: bytes, *, times: int = 1) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        for _ in range(times):
            target.writestr("x.npy", header + data)
    return file.getvalue()


HEADER = b"\x93NUMPY\x01\x00\x76\x00" + (
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (3, 2), }".ljust(117) + b"\n"
)


def test_the_helper_makes_a_valid_state(saved: Path) -> None:
    with_state(saved, member(HEADER, bytes(48)))
    assert not load(saved, expected=X).arrays["x"].any()


@pytest.mark.parametrize(
    "data",
    [
        member(HEADER, bytes(47)),
        member(HEADER, bytes(49)),
        member(HEADER[:-1], bytes(48)),
        member(HEADER[:9], b""),
        member(b"", b""),
        member(b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535, bytes(48)),
        member(HEADER.replace(b"'shape': (3, 2)", b"'shape': (3L,2)"), bytes(48)),
        member(HEADER.replace(b"'<f8'", b"'|O8'"), b"cos\nsystem\n(S'echo'\ntR."),
        b"PK\x05\x06" + bytes(18),
        b"x" * 100,
        b"",
    ],
)
def test_a_state_that_is_not_a_valid_archive_is_refused(data: bytes, saved: Path) -> None:
    with_state(saved, data)
    refusal(saved, X)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_array_that_occurs_twice_is_refused(saved: Path) -> None:
    with_state(saved, member(HEADER, bytes(48), times=2))
    assert "does not contain the arrays" in refusal(saved, X)


def test_overlapping_members_allocate_no_memory(saved: Path) -> None:
    big = np.zeros(500_000)  # 4 MB
    data = bytearray(npz({f"x{n}": big if n == 0 else np.zeros(0) for n in range(3)}))
    # Every entry of the table of contents points to the first member, with its size.
    entries = [at for at in range(len(data) - 46) if data[at : at + 4] == b"PK\x01\x02"]
    first = data[entries[0] :]
    for at in entries[1:]:
        for field in (slice(16, 28), slice(42, 46)):
            data[at:] = (there := data[at:])[: field.start] + first[field] + there[field.stop :]
    with_state(saved, bytes(data))
    expected = {f"x{n}": Expected(big.shape) for n in range(3)}
    tracemalloc.start()
    try:
        refusal(saved, expected)
        assert tracemalloc.get_traced_memory()[1] < big.nbytes
    finally:
        tracemalloc.stop()


def test_a_huge_table_of_contents_is_not_read(saved: Path) -> None:
    size = 8_000_000
    end = b"PK\x05\x06" + bytes(4) + b"\xff\xff\xff\xff" + size.to_bytes(4, "little") + bytes(6)
    with_state(saved, bytes(size) + end)
    tracemalloc.start()
    try:
        message = refusal(saved, {"x": Expected((1_000_000,))})
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()
    assert "table of contents" in message


def test_a_state_that_is_larger_than_expected_is_not_hashed(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved / "state-000120.npz"
    with path.open("r+b") as file:
        file.truncate(10**12)  # sparse
    changed(saved, bytes=10**12)

    def hashed(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(hashlib, "file_digest", hashed)
    assert "more than the arrays of this run" in refusal(saved)


@needs_posix
@pytest.mark.parametrize("name", ["manifest.json", "state-000120.npz"])
def test_links_are_not_followed(name: str, saved: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (saved / name).rename(outside)
    (saved / name).symlink_to(outside)
    assert f"{name} is a link" in refusal(saved)
    (saved / name).unlink()
    (saved / name).symlink_to("/dev/zero")
    assert f"{name} is a link" in refusal(saved)


@needs_posix
@pytest.mark.parametrize("name", ["manifest.json", "state-000120.npz"])
def test_pipes_and_folders_are_not_read(name: str, saved: Path) -> None:
    (saved / name).unlink()
    os.mkfifo(saved / name)
    assert f"{name} is not a regular file" in refusal(saved)
    (saved / name).unlink()
    (saved / name).mkdir()
    assert f"{name} is a folder" in refusal(saved)


def test_a_read_error_is_reported(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> int:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(os, "open", broken)
    assert "the disk is broken" in refusal(saved)
