"""The results as tables of Markdown."""

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .fuzz import ReaderResult

PACKAGES = ("gramstyle", "numpy", "pillow", "onnx", "h5py", "safetensors", "distributed")


def environment(packages: Sequence[str] = ()) -> dict[str, str]:
    """Return what the results depend on: processor, system and versions, also of more packages."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": f"{len(names)} × {names[0] if names else platform.machine()}",
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in (*PACKAGES, *packages)},
    }


def markdown(found: Mapping[str, Sequence[Any]]) -> str:
    """Return the tables of the campaigns that ran, then their findings."""
    parts = [
        " · ".join(f"{name} {value}" for name, value in environment().items()),
        *(TABLES[name](rows) for name, rows in found.items() if rows),
        "\n".join(_findings(found)) or "Nothing was found.",
    ]
    return "\n\n".join(parts) + "\n"


def _kills(rows: Sequence[Any]) -> str:
    return _table(
        ("killed", "kills", "ended with one line", "the same afterwards", "findings"),
        [(r.name, r.kills, r.refused, r.identical, len(r.findings)) for r in rows],
    )


def _disks(rows: Sequence[Any]) -> str:
    return _table(
        ("command", "disks", "full", "findings"),
        [(r.name, r.disks, r.full, len(r.findings)) for r in rows],
    )


def _mutants(rows: Sequence[ReaderResult]) -> str:
    def row(name: str, group: Sequence[ReaderResult]) -> tuple[Any, ...]:
        return (
            name,
            *(sum(getattr(r, key) for r in group) for key in ("mutants", "accepted", "refused")),
            sum(each.count for r in group for each in r.findings.values()),
            f"{max(r.slowest for r in group):.2f}",
        )

    return _table(
        ("reader", "mutants", "read", "refused in one line", "else", "slowest, s"),
        [*(row(r.reader, [r]) for r in rows), row("all", rows)],
    )


def _findings(found: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    for rows in found.values():
        for row in rows:
            if isinstance(row, ReaderResult):
                yield from (f"- {each.line}" for each in row.findings.values())
            else:
                yield from (f"- {row.name}: {each}" for each in row.findings)


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


TABLES: Mapping[str, Callable[[Sequence[Any]], str]] = {
    "kills": _kills,
    "workers": _kills,
    "disk": _disks,
    "mutants": _mutants,
    "chains": _mutants,
    "conformance": _mutants,
}
