"""Plain values as TOML, which Python reads but does not write."""

import json
from collections.abc import Iterable, Mapping
from typing import Any


def toml_text(table: Mapping[str, Any], *, comments: Iterable[str] = ()) -> str:
    """Return a table as a TOML document of one line for each key.

    Parameters
    ----------
    table
        Texts, numbers, true and false, lists and tables of these. The keys are names of options.
    comments
        Lines that begin the document as comments; control codes in them are escaped.
    """
    lines = [f"# {_one_line(comment)}" for comment in comments]
    return "".join(f"{line}\n" for line in [*lines, *_entries(table)])


def is_text(value: str) -> bool:
    """Return whether TOML can hold a text: a file's name may have bytes that are not UTF-8."""
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in value)


def _entries(table: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {_value(value)}" for name, value in table.items()]


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(_entries({_text(k): v for k, v in value.items()}))} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    return _text(str(value))


def _text(text: str) -> str:
    # JSON escapes what TOML does, except DEL. Its escapes of other characters may be surrogates.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _one_line(comment: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in comment)
