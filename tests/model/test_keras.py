"""Keras' files in every style of names, what is refused of them, and what breaks HDF5's library.

The files are written by h5py. The program that reads their table of contents runs in a process of
its own where the test is about that, and here, which is quicker, where it is not.
"""

import base64
import json
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gramstyle.core.arrays import Array
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
# How h5py itself lays a file out: as old as can be, which Keras takes, or as new.
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
    """Run the program's work in this process; the files are harmless."""

    def run(path: Path) -> bytes:
        return json.dumps(keras._table(h5py, str(path))).encode()

    monkeypatch.setattr(keras, "_run", run)


def read(path: Path) -> dict[str, Array]:
    with open_keras(path) as tensors:
        return {name: tensor.load() for name, tensor in tensors.items()}


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read(path)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_style_of_names_in_every_layout_is_read(
    style: str, layout: str, tmp_path: Path, here: None
) -> None:
    found = read(write(tmp_path / "m.h5", STYLES[style], layout=layout))
    assert set(found) == {"block1_conv1.weight", "block1_conv1.bias"}
    np.testing.assert_array_equal(found["block1_conv1.weight"], W)
    np.testing.assert_array_equal(found["block1_conv1.bias"], B)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f2", ">f4", ">f8"])
def test_kernels_are_given_as_filters_channels_height_width(
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


def test_the_classifier_and_the_optimiser_are_left_alone(tmp_path: Path, here: None) -> None:
    path = write(tmp_path / "m.h5", STYLES["whole model"])
    with h5py.File(path, "a") as file:
        file["model_weights/fc1/fc1/kernel:0"] = np.zeros((4, 4))
        file["model_weights/block1_conv1/block1_conv1/steps:0"] = 3
        file["optimizer_weights/block1_conv1/kernel:0"] = KERNEL
        file["optimizer_weights/training/Adam/block1_conv1/kernel/m:0"] = KERNEL
    assert set(read(path)) == {"block1_conv1.weight", "block1_conv1.bias"}


def test_a_layer_is_called_by_the_last_of_its_names(tmp_path: Path, here: None) -> None:
    name = "up_to_block1_conv1/block2_conv2"
    path = write(tmp_path / "m.h5", (f"{name}/kernel:0", f"{name}/bias:0"))
    assert set(read(path)) == {"block2_conv2.weight", "block2_conv2.bias"}


def test_a_number_is_read(tmp_path: Path, here: None) -> None:
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
        kept = tensors["block1_conv1.bias"]
    with pytest.raises(ValueError, match="closed"):
        kept.load()


# What is refused


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


PLACE = "one behind the other"


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (external_values, PLACE),
        (virtual_values, PLACE),
        (compressed, PLACE),
        (in_pieces, PLACE),
        (in_the_header, PLACE),
        (huge, PLACE),
        (never_written, PLACE),
        (integers, "expected floats in '/block1_conv1/kernel:0', found 'int32'"),
        (texts, "expected floats"),
        (empty, "found 'nothing'"),
        (odd_floats, "expected floats"),
        (long_doubles, f"found '{np.dtype(np.longdouble)}'"),
        (theano, "tf_dim_ordering_tf_kernels"),
        (flat, "expected a kernel of shape (3, 3, C, N)"),
        (twice, "expected one weight of block1_conv1, found two"),
        (deep, "labyrinth"),
        (in_itself, "labyrinth"),
        (long_name, "labyrinth"),
    ],
)
@pytest.mark.parametrize("layout", ["earliest", "latest", "behind a user's block"])
def test_values_of_another_kind_are_refused_unread(
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
def test_values_beyond_the_file_are_refused_before_memory_is_taken(
    end: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "m.h5")
    size = path.stat().st_size
    monkeypatch.setattr(
        keras, "_run", lambda _: json.dumps([["/block1_conv1/b", [6], "<f4", size - end]]).encode()
    )
    assert "expected the (6,) values of '/block1_conv1/b', found fewer" in refusal(path)


@pytest.mark.parametrize("shape", [[-1, -6], [2**40], [2**40, -1]])
def test_a_shape_that_the_file_cannot_hold_is_refused(
    shape: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = ["/block1_conv1/b", shape, "<f4", 100]
    monkeypatch.setattr(keras, "_run", lambda _: json.dumps([entry]).encode())
    assert "found fewer" in refusal(write(tmp_path / "m.h5"))


def test_links_to_elsewhere_are_not_followed(tmp_path: Path, here: None) -> None:
    write(tmp_path / "other.h5", ("block2_conv1/kernel:0", "block2_conv1/bias:0"))
    path = write(tmp_path / "m.h5")
    with h5py.File(path, "a") as file:
        file["block2_conv1"] = h5py.ExternalLink("other.h5", "/block2_conv1")
        file["block3_conv1"] = h5py.SoftLink("/block1_conv1")
    assert set(read(path)) == {"block1_conv1.weight", "block1_conv1.bias"}


def test_what_the_library_refuses_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "m.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert "HDF5's library cannot read it (OSError)" in refusal(tmp_path / "m.h5")


def test_very_many_objects_are_refused(
    tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras, "MAX_OBJECTS", 50)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        for k in range(51):
            file.create_group(f"g{k}")
    assert "labyrinth" in refusal(tmp_path / "m.h5")


def test_without_h5py_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "m.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert 'pip install "gramstyle[weights]"' in refusal(path)


# What breaks HDF5's library

# Nine groups, and a count of 65,280 of them: reading their names is a segmentation fault in
# HDF5 2.0.
CRASH = (
    "c-rgqaB<`1lHy|K;9!7(|4{Ih3&J;mia+D7f9LPv62!z%!NtVD$iToP1QNc@3X#rbgQ|;Qpc$zAD>nn`1c>GT(E!"
    "9@v~<GJohR0eI$_iagUAVP!NIN!lcCv<v5b+S3&fbek23(PmO<cR619xFn4DA*<PpHY4&*Q~2ryt2?q!S+J}lV)R"
    "iV;Qz)7TyEJ!*bMk@g6r|?=Oz%5PEDa6Btffb~V8z_>Z@stf_2j_nXE9CC7X>P$lRSYoqF*2ai2>SvUDu8ytWR5a"
    "J#HAQeX$1voS*H*mHwM=D_0vrlJb^;I3`Zxtb7M#bGvDwR`7zXjnW8tI`Y{xMnd@>Diy3Ud%zc~ViW$PdOuxUUn;"
    "DeA%=cRHhZ#h{OyP>adkp$u=G}<3@eHG2umLv@7bkc#1q2?fzfr-+z?5#V8J@bB(hbcR5genPNE~AuCIrW1KN82("
    "i5bB$`+~$VU&eyqSVXXn#=^h>079)3hy"
)


def circles(path: Path) -> None:
    """A virtual dataset, one bit of whose description leads HDF5 2.0 round for ever."""
    with h5py.File(path, "w", libver="earliest") as file:
        virtual_values(file, path.parent)
    data = bytearray(path.read_bytes())
    size = data.index(b"GCOL") + 24  # of the first object in the heap
    data[size + 1] ^= 1
    path.write_bytes(data)


def test_a_file_that_crashes_the_library_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.h5").write_bytes(zlib.decompress(base64.b85decode(CRASH)))
    with pytest.raises(ModelError, match=r"HDF5's library (broke down over|cannot read) it"):
        read(tmp_path / "m.h5")


def test_a_file_that_never_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras, "MAX_SECONDS", 0.5)
    circles(tmp_path / "m.h5")
    start = time.monotonic()
    refusal(tmp_path / "m.h5")
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import os; os.abort()", "broke down over it (exit status -6)"),
        ("raise SystemExit(3)", "broke down over it (exit status 3)"),
        ("while True: pass", "broke down over it (no answer in 0.5 s)"),
        ("print('\"a sentence\"')", "a sentence"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_whatever_becomes_of_the_program_is_one_line(
    program: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "program.py").write_text(program)
    monkeypatch.setattr(keras, "__file__", str(tmp_path / "program.py"))
    monkeypatch.setattr(keras, "MAX_SECONDS", 0.5)
    assert words in refusal(write(tmp_path / "m.h5"))


def test_the_program_imports_nothing_from_the_folders_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, worked_in = tmp_path / "program", tmp_path / "worked in"
    for folder in (program, worked_in):
        folder.mkdir()
        for name in ("h5py", "json", "numpy"):
            (folder / f"{name}.py").write_text("raise SystemExit('imported')")
    (program / "keras.py").write_text(Path(keras.__file__).read_text())
    monkeypatch.setattr(keras, "__file__", str(program / "keras.py"))
    monkeypatch.chdir(worked_in)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert set(read(write(tmp_path / "m.h5"))) == {"block1_conv1.weight", "block1_conv1.bias"}


def test_the_program_finds_what_this_process_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "only_there.py").write_text("print('\"found\"')")
    (tmp_path / "program.py").write_text("import only_there")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    monkeypatch.setattr(keras, "__file__", str(tmp_path / "program.py"))
    assert refusal(write(tmp_path / "m.h5")) == "found"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit memory so")
def test_the_program_limits_its_memory_and_its_time(
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
        Path(keras.__file__).read_text(),
        "    sys.stdout.write(json.dumps(_table(h5py, path)))\n",
    )
    assert source.count(table) == 1
    program = source.replace(table, probe)
    (tmp_path / "program.py").write_text(program)
    monkeypatch.setattr(keras, "__file__", str(tmp_path / "program.py"))
    assert refusal(write(tmp_path / "m.h5")) == "no more memory, 30 s"


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=4), st.booleans())
@settings(max_examples=8, deadline=None)
def test_flipped_bits_and_cuts_give_arrays_or_an_ordinary_error(
    tmp_path_factory: pytest.TempPathFactory, places: list[float], cut: bool
) -> None:
    # Few, because each is a process; more of them would find faults in HDF5, not here.
    path = write(tmp_path_factory.getbasetemp() / "flipped.h5")
    data = bytearray(path.read_bytes())
    for place in places:
        bit = int(place * 8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
    if cut:
        del data[int(places[0] * len(data)) :]
    path.write_bytes(data)
    try:
        found = read(path)
    except (MemoryError, RecursionError):
        raise
    except Exception:
        return  # the caller makes one line of it
    assert all(array.nbytes <= len(data) for array in found.values())
