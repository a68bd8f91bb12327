"""Names on the pages of documentation, found there and looked up in the code."""

import importlib
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Row:
    """One row of the equation table: what is in the paper, its derivation, functions and tests."""

    what: str
    derivation: str
    functions: tuple[str, ...]
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """A section of a page: the text from one `##` to the next, without comments."""

    title: str
    text: str


def text_of(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def named_functions(text: str) -> tuple[str, ...]:
    """Every `module.function` and `module.Class.method` in backticks."""
    return tuple(re.findall(r"`([a-z]\w*(?:\.\w+)+)`", text))


def named_tests(text: str) -> tuple[str, ...]:
    """Every `room/test_file.py::test_name` in backticks."""
    return tuple(re.findall(r"`([\w/]+\.py::\w+)`", text))


def rows_of(text: str) -> list[Row]:
    """The rows of the table whose last column names tests."""
    found = re.findall(r"^\|([^|]+)\|([^|]+)\|([^|]+)\|$", text, re.MULTILINE)
    link = re.compile(r"\[(.+)\]\(derivations\.md#(.+)\)")
    return [
        Row(*link.findall(what)[0], named_functions(functions), named_tests(tests))
        for what, functions, tests in found
        if "test_" in tests
    ]


def sections_of(text: str) -> list[Section]:
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)[1:]
    return [Section(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)]


def assert_function_exists(name: str) -> None:
    parts = name.split(".")
    modules = len(parts)
    while not (found := _module(parts[:modules])):  # the longest beginning that is one
        modules -= 1
        assert modules, name
    for attribute in parts[modules:]:
        found = getattr(found, attribute)


def _module(parts: list[str]) -> object | None:
    try:
        return importlib.import_module(".".join(["gramstyle", *parts]))
    except ModuleNotFoundError:
        return None


def assert_test_exists(name: str) -> None:
    file, test = name.split("::")
    assert re.search(rf"^def {test}\(", text_of(f"tests/{file}"), re.MULTILINE), name
