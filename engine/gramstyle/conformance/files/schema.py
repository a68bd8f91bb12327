"""A reader for untrusted JSON, and the part of JSON Schema (draft 2020-12) that we use."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from gramstyle.errors import ModelError

Schema = Mapping[str, Any]

MAX_FOUND = 60

TYPES: Mapping[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def read_json(data: bytes) -> Any:
    """Return the value of a JSON document.

    Raises
    ------
    ModelError
        If it is not UTF-8 or not JSON, is nested too deeply, contains a key twice, or contains
        NaN, an infinite value or a number of thousands of digits.
    """
    try:
        return json.loads(
            data.decode(), parse_constant=_refused_constant, object_pairs_hook=_once_each
        )
    except RecursionError:
        raise ModelError("expected JSON, found brackets nested too deeply") from None
    except UnicodeDecodeError:
        raise ModelError("expected JSON in UTF-8, found other bytes") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ModelError(f"expected JSON, found something else at {place}") from None
    except ValueError as error:
        raise ModelError(f"expected JSON, found {shown(str(error))}") from None


def check(value: Any, schema: Schema) -> None:
    """Check a document against a schema, which is trusted.

    Raises
    ------
    ModelError
        Naming the first value that is not as the schema says.
    """
    for problem in _problems(value, schema, schema, "the document"):
        raise ModelError(problem)


def shown(value: Any) -> str:
    """Return a value as one short printable line."""
    text = ascii(value)
    return text if len(text) <= MAX_FOUND else f"{text[:MAX_FOUND]}…"


def _refused_constant(name: str) -> None:
    raise ValueError(f"the constant {name}")


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key that occurs twice")
    return result


def _problems(value: Any, schema: Schema, root: Schema, at: str) -> Iterator[str]:
    """Yield the problems of a value, the outermost first."""
    if "$ref" in schema:
        target: Any = root
        for key in schema["$ref"].removeprefix("#/").split("/"):
            target = target[key]
        yield from _problems(value, target, root, at)
    if "anyOf" in schema:
        found = [list(_problems(value, each, root, at)) for each in schema["anyOf"]]
        if all(found):
            # The earlier alternatives only say that the value must be null.
            yield found[-1][0]
    if "const" in schema and not _equal(value, schema["const"]):
        yield f"expected {schema['const']!r} at {at}, found {shown(value)}"
    if "enum" in schema and not any(_equal(value, each) for each in schema["enum"]):
        yield f"expected one of {', '.join(schema['enum'])} at {at}, found {shown(value)}"
    if "type" in schema and not _is(value, schema["type"]):
        yield f"expected the JSON type {schema['type']} at {at}, found {shown(value)}"
        return
    if isinstance(value, str):
        yield from _of_string(value, schema, at)
    elif _is(value, "number"):
        least, most = schema.get("minimum", value), schema.get("maximum", value)
        if not least <= value <= most:
            yield f"expected a number from {least} to {most} at {at}, found {shown(value)}"
    elif isinstance(value, list):
        yield from _length(value, schema, "Items", at)
        if "items" in schema:
            for place, item in enumerate(value):
                yield from _problems(item, schema["items"], root, f"{at}[{place}]")
    elif isinstance(value, dict):
        yield from _of_object(value, schema, root, at)


def _of_string(value: str, schema: Schema, at: str) -> Iterator[str]:
    yield from _length(value, schema, "Length", at)
    if not value.isprintable():
        yield f"expected printable text at {at}, found {shown(value)}"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        what = schema.get("description", schema["pattern"])
        yield f"expected {what[0].lower()}{what[1:]} at {at}, found {shown(value)}"


def _of_object(value: Mapping[str, Any], schema: Schema, root: Schema, at: str) -> Iterator[str]:
    yield from _length(value, schema, "Properties", at)
    for key in schema.get("required", ()):
        if key not in value:
            yield f"expected {key} at {at}, found none"
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    for key, item in value.items():
        below = properties.get(key, others)
        if below is False:
            yield f"expected no key {shown(key)} at {at}, found it"
        elif below:
            name = key if key in properties else shown(key)
            yield from _problems(item, below, root, f"{at}.{name}")


def _length(value: Any, schema: Schema, of: str, at: str) -> Iterator[str]:
    least, most = schema.get(f"min{of}", 0), schema.get(f"max{of}", len(value))
    if not least <= len(value) <= most:
        what = "characters" if of == "Length" else "entries"
        yield f"expected {least} to {most} {what} at {at}, found {len(value)}"


def _is(value: Any, kind: str) -> bool:
    # In Python True is a number.
    return isinstance(value, TYPES[kind]) and isinstance(value, bool) == (kind == "boolean")


def _equal(value: Any, expected: Any) -> bool:
    return type(value) is type(expected) and bool(value == expected)
