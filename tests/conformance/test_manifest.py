"""Manifests that are damaged or hostile are refused."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from conformance_sets import change, refused, rewrite
from gramstyle.conformance.files.reading import MAX_MANIFEST
from gramstyle.conformance.files.schema import read_json

FIRST = ("cases", 0)
STYLED = ("cases", 1)

BAD_ENTRIES: Mapping[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "an older format": (change("format", to="gramstyle-conformance/2"), "build the set again"),
    "a newer format": (change("format", to="gramstyle-conformance/4"), "update gramstyle"),
    "another program's format": (change("format", to="other/3"), "'gramstyle-conformance/3'"),
    "no version": (change("version", to=...), "version"),
    "a version that is text": (change("version", to="1"), "JSON type integer"),
    "a version that is true": (change("version", to=True), "JSON type integer"),
    "something unknown": (change("extra", to=1), "'extra'"),
    "no cases": (change("cases", to=[]), "1 to 1000 entries"),
    "cases in an object": (change("cases", to={}), "JSON type array"),
    "a case that is a number": (change(*FIRST, to=7), "JSON type object"),
    "a path for a name": (change(*FIRST, "name", to="../relu"), "'../relu'"),
    "an absolute name": (change(*FIRST, "name", to="/etc"), "'/etc'"),
    "a name with a line break": (change(*FIRST, "name", to="relu\n"), r"'relu\n'"),
    "a name in capitals": (change(*FIRST, "name", to="Relu"), "'Relu'"),
    "another case's name": (change(*FIRST, "name", to="style-of-another-size"), "once"),
    "a name without its files": (change(*FIRST, "name", to="other"), "under its name"),
    "control codes": (change(*FIRST, "pins", to="\x1b[2J"), "printable"),
    "half a surrogate": (change(*FIRST, "pins", to="\ud800"), "printable"),
    "a sentence without end": (change(*FIRST, "pins", to="a" * 1001), "1000 characters"),
    "an image without height": (change(*FIRST, "image", to=[0, 7]), "from 1 to 4096"),
    "an image too large": (change(*FIRST, "image", to=[6, 10**9]), "from 1 to 4096"),
    "an image of three edges": (change(*FIRST, "image", to=[6, 7, 3]), "2 to 2 entries"),
    "another image": (change(*FIRST, "image", to=[7, 6]), "stored as gramstyle"),
    "a larger image": (change(*FIRST, "image", to=[4096, 4096]), "bytes of arrays"),
    "many filters": (change(*FIRST, "layers", 0, "filters", to=4096), "bytes of arrays"),
    "no filters": (change(*FIRST, "layers", 0, "filters", to=...), "filters of conv1_1"),
    "a pooling first": (change(*FIRST, "layers", 0, "kind", to="max"), "first layer"),
    "an unknown layer": (change(*FIRST, "layers", 0, "kind", to="relu"), "convolution, max, avg"),
    "a layer with a path": (change(*FIRST, "layers", 0, "name", to="../conv1_1"), "conv|pool"),
    "a layer of that name again": (change(*STYLED, "layers", 2, "name", to="conv1_1"), "once"),
    "a layer without a loss": (change(*STYLED, "style", 1, to=...), "last layer"),
    "a style layer that is none": (change(*STYLED, "style", 1, "layer", to="conv9_1"), "conv9_1"),
    "a style layer again": (change(*STYLED, "style", 0, "layer", to="conv2_1"), "once"),
    "no artwork": (change(*STYLED, "artwork", to=None), "artwork"),
    "an artwork for nothing": (change(*FIRST, "artwork", to=[6, 7]), "artwork"),
    "an image too small": (change(*STYLED, "image", to=[1, 9]), "as large as"),
    "an artwork too small": (change(*STYLED, "artwork", to=[1, 1]), "as large as"),
    "another artwork": (change(*STYLED, "artwork", to=[10, 12]), "stored as gramstyle"),
    "an artwork of as many": (change(*STYLED, "style", 0, "M_artwork", to=121), "follows from"),
    "another M": (change(*STYLED, "style", 0, "M", to=81), "follows from"),
    "another N": (change(*STYLED, "style", 0, "N", to=5), "follows from"),
    "another factor": (change(*STYLED, "style", 0, "factor", to=4.0), "follows from"),
    "another convention": (change(*FIRST, "convention", to="author"), "follows from"),
    "a convention of its own": (change(*FIRST, "convention", to="mine"), "paper, author"),
    "an infinite weight": (change(*FIRST, "alpha", to=10**400), "from 0 to 1e+30"),
    "a negative content weight": (change(*FIRST, "alpha", to=-0.5), "from 0 to 1e+30"),
    "a negative style weight": (change(*STYLED, "style", 0, "w", to=-0.5), "from 0 to 1e+30"),
    "a negative total variation": (change(*FIRST, "tv", to=-1.0), "from 0 to 1e+30"),
    "a weight that is text": (change(*FIRST, "alpha", to="0.5"), "JSON type number"),
    "a weight that is true": (change(*FIRST, "alpha", to=True), "JSON type number"),
    "other channels": (change(*FIRST, "preprocessing", "channels", to="GBR"), "RGB, BGR"),
    "four means": (change(*FIRST, "preprocessing", "mean", to=[0, 0, 0, 0]), "3 to 3 entries"),
    "a pooling with filters": (change(*STYLED, "layers", 1, "filters", to=4), "follows from"),
    "something beyond float16": (change(*FIRST, "beyond_float16", to=["loss"]), "follows from"),
    "a file less": (change(*FIRST, "files", "relu.npz", to=...), "under its name"),
    "a file elsewhere": (
        change(*FIRST, "files", "../relu.npz", to={"bytes": 1, "sha256": "0" * 64}),
        "under its name",
    ),
    "another length": (change(*FIRST, "files", "relu/model.onnx", "bytes", to=1), "model.onnx"),
    "a length too large": (
        change(*FIRST, "files", "relu/model.onnx", "bytes", to=10_000),
        "expected relu/model.onnx",
    ),
    "a huge length": (
        change(*FIRST, "files", "relu/model.onnx", "bytes", to=2**40),
        "from 1 to 67108864",
    ),
    "a hash that is none": (
        change(*FIRST, "files", "relu/model.onnx", "sha256", to="0" * 63),
        "[0-9a-f]{64}",
    ),
    "another hash": (
        change(*FIRST, "files", "relu/model.onnx", "sha256", to="0" * 64),
        "expected relu/model.onnx",
    ),
}


@pytest.mark.parametrize("name", BAD_ENTRIES)
def test_a_manifest_is_refused_because_of(name: str, small_set: Path) -> None:
    edit, why = BAD_ENTRIES[name]
    rewrite(small_set, edit)
    refused(small_set, why)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "expected JSON"),
        (b"\xff\xfe", "expected JSON"),
        (b"{'format': 1}", "expected JSON"),
        (b'{"version": NaN}', "constant NaN"),
        (b'{"version": 1, "version": 1}', "occurs twice"),
        (b'{"version": ' + b"9" * 5000 + b"}", "expected JSON"),
        (b'{"version": 1e999}', "expected"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[]", "JSON type object"),
        (b"null", "JSON type object"),
        (b" " * (MAX_MANIFEST + 1), "at most"),
    ],
    ids=lambda value: ascii(value[:16]) if isinstance(value, bytes) else "",
)
def test_bytes_are_refused_as_a_manifest(text: bytes, why: str, small_set: Path) -> None:
    (small_set / "manifest.json").write_bytes(text)
    refused(small_set, why)


def test_json_values_are_read_as_written() -> None:
    assert read_json('{"a": [1, 2.5, null, "é"]}'.encode()) == {"a": [1, 2.5, None, "é"]}
