"""The messages of the protocol follow its schema, and the page about it."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance_cases import CASES
from documented import text_of
from gramstyle.conformance.files.schema import check
from gramstyle.conformance.programs.messages import (
    PROTOCOL,
    SCHEMA_FILE,
    case_message,
    greeting,
    line_of,
)
from gramstyle.errors import ModelError

SCHEMA = json.loads(SCHEMA_FILE.read_text("utf-8"))
PAGE = text_of("docs/conformance-programs.md")
RAW = {".f16": "<f2", ".f32": "<f4", ".f64": "<f8"}


def is_message(message: Any, kind: str) -> None:
    check(message, {"$ref": f"#/$defs/{kind}", "$defs": SCHEMA["$defs"]})
    check(message, SCHEMA)


def read(folder: Path, described: dict[str, Any]) -> np.ndarray:
    """An array as a program reads it, by the page alone."""
    path = folder / described["file"]
    if path.suffix == ".npy":
        array = np.load(path, allow_pickle=False)
        assert list(array.shape) == described["shape"]
    else:
        array = np.fromfile(path, RAW[path.suffix]).reshape(described["shape"])
    assert array.dtype.name == described["dtype"]
    return array


def test_the_greeting_follows_the_schema_and_is_one_line() -> None:
    is_message(greeting(), "greeting")
    assert SCHEMA["$defs"]["greeting"]["properties"]["protocol"]["const"] == PROTOCOL
    assert b"\n" not in line_of(greeting())


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("files", "dtype"), [("raw", "float32"), ("npy", "float64")])
def test_the_message_of_a_case_follows_the_schema_and_names_every_array(
    name: str, files: str, dtype: str, tmp_path: Path
) -> None:
    case = CASES[name]
    message = case_message(case, case.x.astype(dtype), 5, tmp_path, files)
    is_message(json.loads(line_of(message)), "case")
    assert (message["case"], message["name"], message["dtype"]) == (5, name, dtype)
    np.testing.assert_array_equal(read(tmp_path, message["image"]), case.x.astype(dtype))
    for said, layer in zip(message["layers"], case.layers, strict=True):
        assert said["name"] == layer.name
        if said["kind"] == "convolution":
            assert said["padding"] == layer.padding  # type: ignore[union-attr]
            np.testing.assert_array_equal(
                read(tmp_path, said["W"]),
                layer.W.astype(dtype),  # type: ignore[union-attr]
            )
    terms = [*message["style"], *message["regions"], *message["statistics"]]
    layers = [*case.style, *(n for n, found in case.regions.items() for _ in found)]
    assert [each["layer"] for each in terms] == [*layers, *case.statistics]
    for each in message["style"]:
        np.testing.assert_array_equal(
            read(tmp_path, each["A"]), case.style[each["layer"]].A.astype(dtype)
        )
    assert (message["content"] is None) == (case.content is None)
    assert len(list(tmp_path.iterdir())) == json.dumps(message).count('"file"')


def test_targets_are_float32_where_the_image_is_float16(tmp_path: Path) -> None:
    case = CASES["objective"]
    message = case_message(case, case.x.astype("f2"), 1, tmp_path, "raw")
    is_message(message, "case")
    assert message["image"]["dtype"] == message["layers"][0]["W"]["dtype"] == "float16"
    assert message["content"]["P"]["dtype"] == message["style"][0]["A"]["dtype"] == "float32"
    assert read(tmp_path, message["image"]).dtype == np.float16


def test_the_page_shows_a_message_of_each_kind_that_follows_the_schema() -> None:
    (block,) = re.findall(r"```json\n(\{\"message\".*?)```", PAGE, re.DOTALL)
    messages = [json.loads(each) for each in block.strip().split("\n\n")]
    kinds = [message["message"] for message in messages]
    assert kinds == ["greeting", "hello", "case", "answer", "error"]
    for message in messages:
        is_message(message, message["message"])


def test_the_page_contains_the_schema() -> None:
    (block,) = re.findall(r"```json\n(\{\n  \"\$schema\".*?)```", PAGE, re.DOTALL)
    assert json.loads(block) == SCHEMA


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("answer", {"loss": True}),
        ("answer", {"gradient": "a/b.f32"}),
        ("answer", {"gradient": ".f32"}),
        ("answer", {"dF": {"conv1_1": 5}}),
        ("answer", {"case": 0}),
        ("answer", {"seconds": -1}),
        ("hello", {"dtypes": []}),
        ("hello", {"files": "csv"}),
        ("hello", {"name": ""}),
        ("error", {"text": "two\nlines"}),
    ],
)
def test_the_schema_refuses(kind: str, changes: dict[str, Any]) -> None:
    right: dict[str, Any] = {
        "answer": {"message": "answer", "case": 1, "loss": 1.5, "gradient": "g.f32"},
        "hello": {"message": "hello", "protocol": 1, "name": "x", "version": "1",
                  "dtypes": ["float32"], "files": "raw"},
        "error": {"message": "error", "case": 1, "text": "why"},
    }[kind]  # fmt: skip
    is_message(right, kind)
    with pytest.raises(ModelError):
        is_message({**right, **changes}, kind)
