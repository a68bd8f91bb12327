"""Small files that would take much memory if they were parsed without bounds.

The libraries that parse them are written in C and Rust, so the memory of a process is measured.
"""

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

from gramstyle.model.sources import h5_table

# What reading one of these files may add to the memory of a process. Without bounds, the nodes
# alone take 680 MB.
MAX_MEGABYTES = 100
MILLIONS = 4_000_000


def varint(value: int) -> bytes:
    head, value = value & 0x7F, value >> 7
    return bytes([head | 0x80]) + varint(value) if value else bytes([head])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


# The fields of ModelProto, GraphProto, NodeProto, AttributeProto and TensorProto.
GRAPH, METADATA, FUNCTION = 7, 14, 25
NODE, INITIALISER, INPUT = 1, 5, 11
OPERATOR, ATTRIBUTE, NODE_INPUT = 4, 5, 1
INTS, TENSOR, SUBGRAPH = 8, 5, 6
DIMS, STRINGS, INT64 = 1, 6, 7


def onnx_file(*fields: bytes) -> bytes:
    return b"\x08\x0a" + b"".join(fields)


def graph(*fields: bytes) -> bytes:
    return onnx_file(field(GRAPH, b"".join(fields)))


def convolution(attribute: bytes) -> bytes:
    return field(NODE, field(OPERATOR, b"Conv") + field(ATTRIBUTE, attribute))


def nested_graphs() -> bytes:
    data = b""
    for _ in range(90):  # protobuf refuses more
        data = field(NODE, field(ATTRIBUTE, field(SUBGRAPH, data)))
    return graph(data)


def tar_headers() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for k in range(20):
            member = tarfile.TarInfo(str(k))
            member.pax_headers = {f"{key:x}": "" for key in range(30_000)}
            archive.addfile(member)
    return stream.getvalue()


EMPTY = field(NODE, b"")
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "nodes.onnx": (lambda: graph(EMPTY * MILLIONS), "fields"),
    "attributes.onnx": (
        lambda: graph(field(NODE, field(ATTRIBUTE, b"") * MILLIONS)),
        "fields",
    ),
    "names.onnx": (lambda: graph(field(NODE, field(NODE_INPUT, b"") * MILLIONS)), "fields"),
    "inputs.onnx": (lambda: graph(field(INPUT, b"") * MILLIONS), "fields"),
    "metadata.onnx": (lambda: onnx_file(field(METADATA, b"") * MILLIONS), "fields"),
    "functions.onnx": (lambda: onnx_file(field(FUNCTION, b"") * MILLIONS), "fields"),
    "strings.onnx": (
        lambda: graph(field(INITIALISER, field(STRINGS, b"") * MILLIONS)),
        "fields",
    ),
    "in attributes.onnx": (
        lambda: graph(convolution(field(TENSOR, field(STRINGS, b"") * MILLIONS))),
        "fields",
    ),
    "integers.onnx": (lambda: graph(convolution(field(INTS, b"\1" * MILLIONS))), "bytes"),
    "shape.onnx": (lambda: graph(field(INITIALISER, field(DIMS, b"\1" * MILLIONS))), "bytes"),
    "long integers.onnx": (
        lambda: graph(field(INITIALISER, field(INT64, b"\1" * MILLIONS))),
        "bytes",
    ),
    "text.onnx": (lambda: graph(field(2, b"a" * MILLIONS)), "bytes"),
    "nested.onnx": (nested_graphs, "graphs nested in graphs"),
    "headers.tar": (tar_headers, "tar headers"),
    "entries.json": (lambda: b'{"weight_map":[' + b"{}," * 690_000 + b"1]}", "weight_map"),
}

PROGRAM = """
import json, resource, sys
from pathlib import Path
from gramstyle.errors import ModelError
from gramstyle.model.onnx_file import read_model
from gramstyle.model.formats import open_weights

def peak():
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / (2**20 if sys.platform == "darwin" else 2**10)

def opened(path):
    with open_weights(path):
        pass

for path in map(Path, sys.argv[1:]):
    for action in (opened, read_model) if path.name == "nodes.onnx" else (opened,):
        before, reason = peak(), None
        try:
            action(path)
        except ModelError as error:
            reason = str(error)
        print(json.dumps([path.name, reason, peak() - before]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the system does not tell the peak of memory")
def test_small_files_that_describe_much_are_refused_with_little_memory(tmp_path: Path) -> None:
    for name, (make, _) in HOSTILE.items():
        (tmp_path / name).write_bytes(make())
    command = [sys.executable, "-c", PROGRAM, *sorted(map(str, tmp_path.iterdir()))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert {name for name, *_ in results} == set(HOSTILE)
    for name, reason, megabytes in results:
        assert HOSTILE[name][1] in reason, (name, reason)
        assert "\n" not in reason
        assert megabytes < MAX_MEGABYTES, (name, megabytes)


def test_a_group_of_many_links_is_refused_by_its_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        group = file["/"]
        for k in range(h5_table.MAX_OBJECTS + 1):
            group.id.links.create_soft(b"%d" % k, b"/g")
    monkeypatch.setattr(h5py.Group, "__iter__", lambda _: pytest.fail("it was listed"))
    size = (tmp_path / "m.h5").stat().st_size
    assert "too many" in h5_table.read_table(h5py, str(tmp_path / "m.h5"), 0, size)
