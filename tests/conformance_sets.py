"""Sets of cases as files: what is in them, how to damage them, and that they are refused."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance_cases import CASES
from gramstyle.conformance.files import read_cases
from gramstyle.conformance.files.archive import pack
from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError

# One case with a content image, one with a style image, a pooling and two style layers.
SMALL = [CASES["relu"], CASES["style-of-another-size"]]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by its path below the folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def manifest(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf-8"))
    return document


def arrays_of(folder: Path, name: str) -> dict[str, Array]:
    with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def change(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    """Set one value of a document; ``...`` removes it."""

    def changed(document: Any) -> None:
        *keys, last = path
        for step in keys:
            document = document[step]
        if to is ...:
            del document[last]
        else:
            document[last] = to

    return changed


def refused(folder: Path, why: str) -> None:
    """The set is refused with one printable line that says why."""
    with pytest.raises(ModelError) as caught:
        read_cases(folder)
    line = str(caught.value)
    assert line.startswith(f"the cases in {folder} are refused: ")
    assert line.isprintable()
    assert len(line) < 600
    assert why in line.removeprefix(f"the cases in {folder}")


def rewrite(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    document = manifest(folder)
    edit(document)
    (folder / "manifest.json").write_text(json.dumps(document), "utf-8")


def seal(folder: Path) -> None:
    """Update the manifest for the files as they are."""

    def edit(document: dict[str, Any]) -> None:
        for entry in document["cases"]:
            for name, file in entry["files"].items():
                data = (folder / name).read_bytes()
                file.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    rewrite(folder, edit)


def store(folder: Path, name: str, arrays: Mapping[str, Array]) -> None:
    """Replace the arrays of a case, and update the manifest."""
    (folder / f"{name}.npz").write_bytes(pack(arrays))
    seal(folder)
