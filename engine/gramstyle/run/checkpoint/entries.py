"""The entries of a manifest's description of a run, with their types and ranges checked."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from gramstyle.run.checkpoint.problems import START_AGAIN, refuse, shown

# Texts that gramstyle writes are shorter: names of layers and files, versions, reasons.
MAX_TEXT = 5000


class Entries:
    """A JSON object of a manifest. Each method raises RefusedError, which names the entry.

    Parameters
    ----------
    value
        The object.
    name
        Its name in messages; empty for the description of the run itself.
    """

    def __init__(self, value: object, name: str = "") -> None:
        self._name = name
        if not isinstance(value, dict):
            refuse(f"{name or 'its run'} is {shown(value)}, not a table; {START_AGAIN}")
        self._values: Mapping[str, Any] = value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def exactly(self, names: tuple[str, ...]) -> "Entries":
        """Refuse the object unless it has these entries and no others; return itself."""
        for name in sorted(self._values.keys() ^ set(names)):
            problem = "unexpected" if name in self._values else "missing"
            refuse(f"its entry {shown(self._path(name))} is {problem}; {START_AGAIN}")
        return self

    def whole(self, name: str, *, most: int, least: int = 0) -> int:
        """Return a whole number in a range."""
        value = self._get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self._refuse(name, f"a whole number from {least} to {most:,}")
        return value

    def number(self, name: str, *, least: float = -1e300, most: float = 1e300) -> float:
        """Return a finite number in a range."""
        value = self._get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._refuse(name, "a number")
        if abs(value) > 1e300 or not math.isfinite(value):
            self._refuse(name, "a finite number")
        if not least <= value <= most:
            self._refuse(name, f"a number from {least:g} to {most:g}")
        return float(value)

    def text(self, name: str) -> str:
        """Return a text without control characters."""
        value = self._get(name)
        if not isinstance(value, str) or len(value) > MAX_TEXT or not _is_plain(value):
            self._refuse(name, "a short text")
        return value

    def optional_text(self, name: str) -> str | None:
        """Return a text or None."""
        return None if self._get(name) is None else self.text(name)

    def texts(self, name: str, *, most: int) -> tuple[str, ...]:
        """Return a list of different texts."""
        items = self._list(name, least=0, most=most)
        texts = tuple(Entries({name: item}, self._name).text(name) for item in items)
        if len(set(texts)) != len(texts):
            self._refuse(name, "a list of different texts")
        return texts

    def numbers(self, name: str, *, most: int) -> tuple[float, ...]:
        """Return a list of finite numbers."""
        items = self._list(name, least=0, most=most)
        return tuple(Entries({name: item}, self._name).number(name) for item in items)

    def table(self, name: str) -> "Entries":
        """Return an object in this one."""
        return Entries(self._get(name), self._path(name))

    def optional_table(self, name: str) -> "Entries | None":
        """Return an object in this one, or None."""
        return None if self._get(name) is None else self.table(name)

    def tables(self, name: str, *, most: int) -> tuple["Entries", ...]:
        """Return a list of at least one object."""
        items = self._list(name, least=1, most=most)
        return tuple(
            Entries(item, f"{self._path(name)}[{number}]") for number, item in enumerate(items)
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the entries, unchecked."""
        return dict(self._values)

    def _list(self, name: str, *, least: int, most: int) -> list[Any]:
        value = self._get(name)
        if not isinstance(value, list) or not least <= len(value) <= most:
            self._refuse(name, f"a list of {least} to {most:,} entries")
        return value

    def _get(self, name: str) -> Any:
        if name not in self._values:
            refuse(f"it has no entry {self._path(name)}; {START_AGAIN}")
        return self._values[name]

    def _path(self, name: str) -> str:
        return f"{self._name}.{name}" if self._name else name

    def _refuse(self, name: str, expected: str) -> NoReturn:
        path = ascii(self._path(name))[1:-1][:100]
        refuse(f"{path} is {shown(self._values[name])}, not {expected}; {START_AGAIN}")


def _is_plain(text: str) -> bool:
    """Return whether a text has no control characters. File names may have lone surrogates."""
    return not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text)
