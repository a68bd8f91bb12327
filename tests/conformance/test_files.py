"""Reading hostile sets of cases, and writing sets."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance_cases import CASES
from conformance_sets import SMALL, arrays_of, change, contents, refused, rewrite, seal, store
from gramstyle.conformance.files import VERSION, read_cases, write_cases
from gramstyle.errors import ModelError, OptionError
from objectives import recomposed

# Hostile files


@pytest.mark.parametrize(
    "name", ["relu.npz", "relu/model.onnx", "relu/test_data_set_0/output_1.pb"]
)
def test_a_file_with_one_bit_changed_is_refused(name: str, small_set: Path) -> None:
    data = bytearray((small_set / name).read_bytes())
    data[len(data) // 2] ^= 1
    (small_set / name).write_bytes(data)
    refused(small_set, f"expected {name}")


@pytest.mark.parametrize("name", ["relu.npz", "relu/model.onnx", "manifest.json"])
def test_a_file_that_is_missing_is_named(name: str, small_set: Path) -> None:
    (small_set / name).unlink()
    refused(small_set, Path(name).name)


def test_a_file_longer_than_in_the_manifest_is_not_read_to_its_end(small_set: Path) -> None:
    with (small_set / "relu" / "model.onnx").open("ab") as stream:
        stream.truncate(2**42)
    refused(small_set, "in model.onnx, found more")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_instead_of_a_file_is_refused_without_waiting(small_set: Path) -> None:
    (small_set / "relu.npz").unlink()
    os.mkfifo(small_set / "relu.npz")
    refused(small_set, "expected a file relu.npz")


def test_pickles_are_never_read(small_set: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (pytest.fail, ("it was unpickled",))

    arrays = arrays_of(small_set, "relu")
    bomb = np.empty((), object)
    bomb[()] = Bomb()
    with (small_set / "relu.npz").open("wb") as stream:
        np.savez(stream, **{**arrays, "loss": bomb})
    seal(small_set)
    refused(small_set, "bytes of arrays")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"(3, 6, 7)", b"(3, 7, 6)"),
        (b"(3, 6, 7)", b"(9, 9, 9)"),
        (b"'<f8'", b"'|O8'"),
        (b"'fortran_order': False", b"'fortran_order': True "),
        (b"gradient.npy", b"../etc/x.npy"),
        (b"conv1_1.F.npy", b"conv1_1.W.npy"),
        (b"PK\x05\x06\x00\x00", b"PK\x05\x06\x01\x00"),
        (b"PK\x03\x04\x14\x00\x00\x00\x00\x00", b"PK\x03\x04\x14\x00\x00\x00\x08\x00"),
    ],
    ids=lambda value: ascii(value)[2:-1],
)
def test_an_archive_with_another_layout_is_refused(old: bytes, new: bytes, small_set: Path) -> None:
    path = small_set / "relu.npz"
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))
    seal(small_set)
    refused(small_set, "stored as gramstyle stores them")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("array", ["x", "conv1_1.W", "loss", "conv1_1.dF"])
def test_nan_and_infinite_values_are_refused(array: str, value: float, small_set: Path) -> None:
    arrays = arrays_of(small_set, "relu")
    arrays[array].reshape(-1)[-1] = value
    store(small_set, "relu", arrays)
    refused(small_set, f"expected numbers in {array}")


@pytest.mark.parametrize("M", [80.0, 119.5, 0.0])
def test_an_m_other_than_the_style_image_s_is_refused(M: float, small_set: Path) -> None:
    arrays = arrays_of(small_set, "style-of-another-size")
    arrays["conv1_1.M"] = np.asarray(M)
    store(small_set, "style-of-another-size", arrays)
    refused(small_set, "expected M = 120 at conv1_1")


@pytest.mark.parametrize("value", [-65536.0, 65536.0])
def test_a_truth_beyond_float16_must_be_named(value: float, small_set: Path) -> None:
    arrays = arrays_of(small_set, "relu")
    arrays["gradient"][0, 0, 0] = value
    store(small_set, "relu", arrays)
    refused(small_set, "follows from")
    rewrite(small_set, change("cases", 0, "beyond_float16", to=["gradient"]))
    assert read_cases(small_set)[0].truth.gradient[0, 0, 0] == value


def test_the_truth_comes_from_the_file_but_a_changed_case_computes_its_own(small_set: Path) -> None:
    arrays = arrays_of(small_set, "relu")
    loss = float(arrays["loss"])
    doubled = arrays["conv1_1.F"] * 2
    store(small_set, "relu", {**arrays, "loss": np.asarray(1.25), "conv1_1.F": doubled})
    case = read_cases(small_set)[0]
    assert case.truth.loss == 1.25
    np.testing.assert_array_equal(case.responses["conv1_1"], doubled)
    # Computed again, perhaps with the sums in another order.
    assert replace(case, pins="something else").truth.loss == pytest.approx(loss, rel=1e-12)


def test_changing_an_array_does_not_change_the_file(small_set: Path) -> None:
    case = read_cases(small_set)[0]
    case.x[:] = 0
    assert np.any(read_cases(small_set)[0].x)


# Writing


def test_only_the_new_folder_remains_after_writing(tmp_path: Path) -> None:
    written = write_cases(tmp_path / "new", SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    files = contents(tmp_path / "new")
    assert (written.cases, written.version) == (2, VERSION)
    assert written.bytes == sum(map(len, files.values()))


def test_an_older_set_is_replaced_and_an_empty_folder_is_filled(small_set: Path) -> None:
    write_cases(small_set, SMALL[:1])
    assert [case.name for case in read_cases(small_set)] == ["relu"]
    assert not (small_set / "style-of-another-size").exists()
    shutil.rmtree(small_set)
    small_set.mkdir()
    write_cases(small_set, SMALL[:1])
    assert [path.name for path in small_set.parent.iterdir()] == ["set"]


@pytest.mark.parametrize("where", ["notes.txt", "relu/notes.txt", "relu/test_data_set_0/a.pb"])
def test_a_set_with_a_foreign_file_is_not_replaced(where: str, small_set: Path) -> None:
    (small_set / where).write_text("mine")
    before = contents(small_set)
    with pytest.raises(OptionError, match="contains other things"):
        write_cases(small_set, SMALL)
    assert contents(small_set) == before


@pytest.mark.parametrize("name", ["manifest.json", "photo.jpg", "relu.npz"])
def test_a_folder_with_other_files_is_not_replaced(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("{}")
    with pytest.raises(OptionError, match=f"for example {name}"):
        write_cases(tmp_path / "mine", SMALL)
    assert contents(tmp_path / "mine") == {name: b"{}"}
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_set_with_a_foreign_empty_folder_is_not_replaced(small_set: Path) -> None:
    (small_set / "drafts").mkdir()
    with pytest.raises(OptionError, match="for example drafts"):
        write_cases(small_set, SMALL)


def test_a_file_a_missing_parent_and_a_broken_link_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="is not a folder"):
        write_cases(tmp_path / "file", SMALL)
    with pytest.raises(OptionError, match="make it first"):
        write_cases(tmp_path / "a" / "b", SMALL)
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(OptionError, match=r"broken link|is not a folder"):
        write_cases(tmp_path / "circle", SMALL)


def test_a_link_is_followed_and_kept(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write_cases(tmp_path / "link", SMALL[:1])
    assert (tmp_path / "link").is_symlink()
    assert len(read_cases(tmp_path / "real")) == 1


@pytest.mark.parametrize("fails_at", ["write_bytes", "rename"])
def test_a_failure_half_way_leaves_the_old_set_and_nothing_else(
    fails_at: str, small_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, real, calls = contents(small_set), getattr(Path, fails_at), []

    def failing(self: Path, argument: Any) -> Any:
        calls.append(self)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return real(self, argument)

    monkeypatch.setattr(Path, fails_at, failing)
    with pytest.raises(ModelError, match="No space left on device; nothing was written"):
        write_cases(small_set, SMALL[:1])
    assert contents(small_set) == before
    assert [path.name for path in small_set.parent.iterdir()] == ["set"]


@pytest.mark.parametrize("name", ["../relu", "ReLU", "", "a" * 65, "relu\n"])
def test_a_case_with_an_invalid_name_is_not_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected"):
        write_cases(tmp_path / "set", [replace(CASES["relu"], name=name)])
    assert not list(tmp_path.iterdir())


def test_equal_names_and_conventions_without_a_name_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="once"):
        write_cases(tmp_path / "set", [CASES["relu"], CASES["relu"]])
    objective = CASES["relu"].objective
    own = replace(CASES["relu"].convention, style_factor=2.0)
    with pytest.raises(ModelError, match="a convention with a name in the case relu"):
        write_cases(
            tmp_path / "set",
            [replace(CASES["relu"], objective=recomposed(objective, convention=own))],
        )
    assert not list(tmp_path.iterdir())
