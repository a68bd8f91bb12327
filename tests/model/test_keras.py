"""Keras HDF5 files, written by h5py.

Tests of harmless files read the table of contents in this process, which is faster.
"""

import base64
import json
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.sources import h5_table, keras
from gramstyle.model.sources.keras import open_keras
from h5_server import H5Server
from hostile_files import POSITIONS, damaged, error_line, outcome

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
# Options of h5py that change the layout of a file; Keras uses the oldest.
LAYOUTS: dict[str, dict[str, Any]] = {
    "earliest": {"libver": "earliest"},
    "latest": {"libver": "latest"},
    "in order": {"track_order": True},
    "behind a user's block": {"userblock_size": 512},
}


def write(
    path: Path,
    names: tuple[str, str] = STYLES["Keras 2"],
    kernel: Array = KERNEL,
    layout: str = "earliest",
) -> Path:
    with h5py.File(path, "w", **LAYOUTS[layout]) as file:
        file[names[0]], file[names[1]] = kernel, B
    return path


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the table of contents in this process; the files are harmless."""

    def run(path: Path, start: int, size: int) -> bytes:
        return json.dumps(h5_table.read_table(h5py, str(path), start, size)).encode()

    monkeypatch.setattr(keras, "run_program", run)


def read(path: Path) -> dict[str, Array]:
    with open_keras(path) as tensors:
        return {name: tensor.load() for name, tensor in tensors.items()}


def refusal(path: Path) -> str:
    return error_line(lambda: read(path))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_naming_style_in_every_layout_is_read(
    style: str, layout: str, tmp_path: Path, here: None
) -> None:
    found = read(write(tmp_path / "m.h5", STYLES[style], layout=layout))
    assert set(found) == {"block1_conv1.weight", "block1_conv1.bias"}
    np.testing.assert_array_equal(found["block1_conv1.weight"], W)
    np.testing.assert_array_equal(found["block1_conv1.bias"], B)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f2", ">f4", ">f8"])
def test_kernels_are_transposed_to_filters_channels_height_width(
    dtype: str, tmp_path: Path, here: None
) -> None:
    path = write(tmp_path / "m.h5", kernel=KERNEL.astype(dtype))
    with open_keras(path) as tensors:
        weight, bias = tensors["block1_conv1.weight"], tensors["block1_conv1.bias"]
        assert (weight.shape, weight.dtype) == ((5, 4, 3, 3), np.dtype(dtype))
        assert (bias.shape, bias.dtype) == ((5,), np.dtype("<f4"))
        loaded = weight.load()
        assert (loaded.dtype, loaded.flags.c_contiguous) == (np.dtype(dtype), True)
        np.testing.assert_array_equal(loaded, W.astype(dtype))
        np.testing.assert_array_equal(bias.load(), B)


def test_the_classifier_and_the_optimiser_are_ignored(tmp_path: Path, here: None) -> None:
    path = write(tmp_path / "m.h5", STYLES["whole model"])
    with h5py.File(path, "a") as file:
        file["model_weights/fc1/fc1/kernel:0"] = np.zeros((4, 4))
        file["model_weights/block1_conv1/block1_conv1/steps:0"] = 3
        file["optimizer_weights/block1_conv1/kernel:0"] = KERNEL
        file["optimizer_weights/training/Adam/block1_conv1/kernel/m:0"] = KERNEL
    assert set(read(path)) == {"block1_conv1.weight", "block1_conv1.bias"}


def test_a_layer_is_named_by_the_last_layer_in_its_path(tmp_path: Path, here: None) -> None:
    name = "up_to_block1_conv1/block2_conv2"
    path = write(tmp_path / "m.h5", (f"{name}/kernel:0", f"{name}/bias:0"))
    assert set(read(path)) == {"block2_conv2.weight", "block2_conv2.bias"}


def test_a_scalar_is_read(tmp_path: Path, here: None) -> None:
    path = write(tmp_path / "m.h5")
    with h5py.File(path, "a") as file:
        file["block1_conv2/bias:0"] = np.float32(3)
    found = read(path)["block1_conv2.bias"]
    assert (found.shape, found.tolist()) == ((), 3)


def test_opening_reads_no_values(tmp_path: Path, here: None) -> None:
    path = write(tmp_path / "m.h5")
    with open_keras(path) as tensors:
        data = path.read_bytes()
        place = data.index(KERNEL.tobytes())
        with path.open("r+b") as file:
            file.seek(place)
            file.write(np.zeros_like(KERNEL).tobytes())
        assert not tensors["block1_conv1.weight"].load().any()


def test_a_file_that_shrinks_while_it_is_open_is_refused(tmp_path: Path, here: None) -> None:
    kernel = np.zeros((3, 3, 64, 64), np.float32)  # more than Python reads ahead
    path = write(tmp_path / "m.h5", kernel=kernel)
    with open_keras(path) as tensors:
        with path.open("r+b") as file:
            file.truncate(4096)
        with pytest.raises(ModelError, match="cut short"):
            tensors["block1_conv1.weight"].load()


def test_the_file_is_closed_afterwards(tmp_path: Path, here: None) -> None:
    with open_keras(write(tmp_path / "m.h5")) as tensors:
        stored = tensors["block1_conv1.bias"]
    with pytest.raises(ValueError, match="closed"):
        stored.load()


# Errors


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


def in_pieces(file: h5py.File, _folder: Path) -> None:
    file.create_dataset(NAME, data=KERNEL, chunks=(3, 3, 2, 1))


def huge(file: h5py.File, _folder: Path) -> None:
    file.create_dataset(NAME, (3, 3, 2**20, 2**20), "f4")


def in_the_header(file: h5py.File, _folder: Path) -> None:
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_layout(h5py.h5d.COMPACT)
    group, space = file.create_group("block1_conv1").id, h5py.h5s.create_simple(KERNEL.shape)
    dataset = h5py.h5d.create(group, b"kernel:0", h5py.h5t.IEEE_F32LE, space, made)
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ascontiguousarray(KERNEL))


def never_written(file: h5py.File, _folder: Path) -> None:
    file.create_dataset(NAME, KERNEL.shape, "f4")


def odd_floats(file: h5py.File, _folder: Path) -> None:
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_ebias(100)
    space = h5py.h5s.create_simple(KERNEL.shape)
    h5py.h5d.create(file.create_group("block1_conv1").id, b"kernel:0", kind, space)


def long_doubles(file: h5py.File, _folder: Path) -> None:
    file[NAME] = KERNEL.astype(np.longdouble)


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


def long_name(file: h5py.File, _folder: Path) -> None:
    file["g" * 201] = KERNEL


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (external_values, "contiguous"),
        (virtual_values, "contiguous"),
        (compressed, "contiguous"),
        (in_pieces, "contiguous"),
        (in_the_header, "contiguous"),
        (huge, "contiguous"),
        (never_written, "contiguous"),
        (integers, "expected floats in '/block1_conv1/kernel:0', found 'int32'"),
        (texts, "expected floats"),
        (empty, "found 'nothing'"),
        (odd_floats, "expected floats"),
        (long_doubles, f"found '{np.dtype(np.longdouble)}'"),
        (theano, "tf_dim_ordering_tf_kernels"),
        (flat, "expected a kernel of shape (3, 3, C, N)"),
        (twice, "expected one weight of block1_conv1, found two"),
        (deep, "too deeply nested groups"),
        (in_itself, "too deeply nested groups"),
        (long_name, "too deeply nested groups"),
    ],
)
@pytest.mark.parametrize("layout", ["earliest", "latest", "behind a user's block"])
def test_other_kinds_of_values_are_refused_without_being_read(
    edit: Callable[[h5py.File, Path], None],
    words: str,
    layout: str,
    tmp_path: Path,
    here: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w", **LAYOUTS[layout]) as file:
        edit(file, tmp_path)
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda *_: pytest.fail("it was read"))
    assert words in refusal(path)


@pytest.mark.parametrize("end", [0, 1, 10**9, 2**70])
def test_values_beyond_the_file_are_refused_before_memory_is_allocated(
    end: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "m.h5")
    size = path.stat().st_size
    entry = ["/block1_conv1/b", "", [6], "<f4", size - end]
    monkeypatch.setattr(keras, "run_program", lambda *_: json.dumps([entry]).encode())
    assert "expected (6,) values of '/block1_conv1/b', found fewer" in refusal(path)


@pytest.mark.parametrize("shape", [[-1, -6], [2**40], [2**40, -1]])
def test_a_shape_larger_than_the_file_is_refused(
    shape: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = ["/block1_conv1/b", "", shape, "<f4", 100]
    monkeypatch.setattr(keras, "run_program", lambda *_: json.dumps([entry]).encode())
    assert "found fewer" in refusal(write(tmp_path / "m.h5"))


def test_links_are_not_followed(tmp_path: Path, here: None) -> None:
    write(tmp_path / "other.h5", ("block2_conv1/kernel:0", "block2_conv1/bias:0"))
    path = write(tmp_path / "m.h5")
    with h5py.File(path, "a") as file:
        file["block2_conv1"] = h5py.ExternalLink("other.h5", "/block2_conv1")
        file["block3_conv1"] = h5py.SoftLink("/block1_conv1")
    assert set(read(path)) == {"block1_conv1.weight", "block1_conv1.bias"}


def test_an_error_of_the_library_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "m.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert "the HDF5 library cannot read it (OSError)" in refusal(tmp_path / "m.h5")


def test_too_many_objects_are_refused(
    tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(h5_table, "MAX_OBJECTS", 50)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        for k in range(51):
            file.create_group(f"g{k}")
    assert "too deeply nested groups" in refusal(tmp_path / "m.h5")


def test_without_h5py_the_error_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "m.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert 'pip install "h5py>=' in refusal(path)


# Files that crash the library

# Nine groups with a count of 65,280: reading their names is a segmentation fault in HDF5 2.0.
CRASH = (
    "c-rgqaB<`1lHy|K;9!7(|4{Ih3&J;mia+D7f9LPv62!z%!NtVD$iToP1QNc@3X#rbgQ|;Qpc$zAD>nn`1c>GT(E!"
    "9@v~<GJohR0eI$_iagUAVP!NIN!lcCv<v5b+S3&fbek23(PmO<cR619xFn4DA*<PpHY4&*Q~2ryt2?q!S+J}lV)R"
    "iV;Qz)7TyEJ!*bMk@g6r|?=Oz%5PEDa6Btffb~V8z_>Z@stf_2j_nXE9CC7X>P$lRSYoqF*2ai2>SvUDu8ytWR5a"
    "J#HAQeX$1voS*H*mHwM=D_0vrlJb^;I3`Zxtb7M#bGvDwR`7zXjnW8tI`Y{xMnd@>Diy3Ud%zc~ViW$PdOuxUUn;"
    "DeA%=cRHhZ#h{OyP>adkp$u=G}<3@eHG2umLv@7bkc#1q2?fzfr-+z?5#V8J@bB(hbcR5genPNE~AuCIrW1KN82("
    "i5bB$`+~$VU&eyqSVXXn#=^h>079)3hy"
)


def endless_loop(path: Path) -> None:
    """A virtual dataset with one flipped bit, which puts HDF5 2.0 in an endless loop."""
    with h5py.File(path, "w", libver="earliest") as file:
        virtual_values(file, path.parent)
    data = bytearray(path.read_bytes())
    size = data.index(b"GCOL") + 24  # of the first object in the heap
    data[size + 1] ^= 1
    path.write_bytes(data)


def test_a_file_that_crashes_the_library_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.h5").write_bytes(zlib.decompress(base64.b85decode(CRASH)))
    with pytest.raises(ModelError, match=r"(fails on it|cannot read it|too many)"):
        read(tmp_path / "m.h5")


def test_a_file_that_causes_an_endless_loop_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras, "MAX_SECONDS", 0.5)
    endless_loop(tmp_path / "m.h5")
    refusal(tmp_path / "m.h5")


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import os; os.abort()", "fails on it (exit status -6)"),
        ("raise SystemExit(3)", "fails on it (exit status 3)"),
        ("while True: pass", "fails on it (no answer in 0.5 s)"),
        ("print('\"a sentence\"')", "a sentence"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_every_failure_of_the_program_gives_one_line(
    program: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "program.py").write_text(program)
    monkeypatch.setattr(h5_table, "__file__", str(tmp_path / "program.py"))
    monkeypatch.setattr(keras, "MAX_SECONDS", 0.5)
    assert words in refusal(write(tmp_path / "m.h5"))


def test_the_program_imports_nothing_from_its_own_or_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, current = tmp_path / "program", tmp_path / "current"
    for folder in (program, current):
        folder.mkdir()
        for name in ("h5py", "json", "numpy"):
            (folder / f"{name}.py").write_text("raise SystemExit('imported')")
    (program / "h5_table.py").write_text(Path(h5_table.__file__).read_text())
    monkeypatch.setattr(h5_table, "__file__", str(program / "h5_table.py"))
    monkeypatch.chdir(current)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert set(read(write(tmp_path / "m.h5"))) == {"block1_conv1.weight", "block1_conv1.bias"}


def test_the_program_uses_this_processs_import_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "only_there.py").write_text("print('\"found\"')")
    (tmp_path / "program.py").write_text("import only_there")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    monkeypatch.setattr(h5_table, "__file__", str(tmp_path / "program.py"))
    assert refusal(write(tmp_path / "m.h5")) == "found"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit memory so")
def test_the_program_limits_its_memory_and_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = """
    import resource
    try:
        bytearray(4 * 1024**3)
    except MemoryError:
        seconds, _ = resource.getrlimit(resource.RLIMIT_CPU)
        sys.stdout.write(json.dumps(f"no more memory, {seconds} s"))
"""
    source, table = (
        Path(h5_table.__file__).read_text(),
        "    sys.stdout.write(json.dumps(read_table(h5py, path, int(start), int(size))))\n",
    )
    assert source.count(table) == 1
    program = source.replace(table, probe)
    (tmp_path / "program.py").write_text(program)
    monkeypatch.setattr(h5_table, "__file__", str(tmp_path / "program.py"))
    assert refusal(write(tmp_path / "m.h5")) == "no more memory, 30 s"


@given(POSITIONS, st.booleans())
@settings(
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the server has no state
)
def test_a_damaged_file_gives_arrays_or_an_exception(
    tmp_path_factory: pytest.TempPathFactory,
    h5_server: H5Server,
    positions: list[float],
    cut: bool,
) -> None:
    path = write(tmp_path_factory.getbasetemp() / "flipped.h5")
    data = damaged(path.read_bytes(), positions, cut)
    path.write_bytes(data)
    found = outcome(lambda: read(path))
    assert isinstance(found, Exception) or all(a.nbytes <= len(data) for a in found.values())
