"""Write a set of cases: ONNX models with inputs and outputs, arrays, and a manifest."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from gramstyle.conformance.cases import Case
from gramstyle.conformance.files.archive import pack
from gramstyle.conformance.files.folder import check_replaceable, replace_folder, resolved
from gramstyle.conformance.files.graphs import loss_graph
from gramstyle.conformance.files.manifest import (
    MANIFEST,
    SCHEMA,
    VERSION,
    arrays_of,
    describe,
    file_names,
    manifest,
)
from gramstyle.conformance.files.reading import SCHEMA_FILE, read_entries, read_manifest
from gramstyle.errors import ModelError
from gramstyle.model.onnx_file.loss import IMAGE, LOSS, tensor_file


@dataclass(frozen=True)
class Written:
    """What `write_cases` wrote: the number of cases and bytes, and the version of the numbers."""

    cases: int
    bytes: int
    version: int


def write_cases(folder: Path, cases: Sequence[Case]) -> Written:
    """Write a set of cases into a folder of its own, completely or not at all.

    The same cases give the same bytes. An older set in the folder is replaced.

    Raises
    ------
    OptionError
        If the folder exists and contains anything else than a set.
    ModelError
        If a case has an invalid name or a convention without a name, or if the folder cannot be
        written.
    """
    folder = resolved(folder)
    check_replaceable(folder, _known(folder).__contains__, "a set of cases")
    files = _files(cases)
    replace_folder(folder, files)
    return Written(len(cases), sum(map(len, files.values())), VERSION)


def _files(cases: Sequence[Case]) -> dict[str, bytes]:
    """Return the contents of every file of a set by its path."""
    files: dict[str, bytes] = {}
    entries = []
    for case in cases:
        own = _files_of(case)
        hashes = {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in own.items()
        }
        entries.append({**describe(case, case.truth), "files": hashes})
        files |= own
    files |= {SCHEMA: SCHEMA_FILE.read_bytes(), MANIFEST: manifest(entries)}
    read_entries(files[MANIFEST])
    return files


def _files_of(case: Case) -> dict[str, bytes]:
    contents = [
        pack(arrays_of(case, case.truth, case.responses)),
        loss_graph(case),
        tensor_file(IMAGE, case.x[None]),
        tensor_file(LOSS, np.asarray(case.truth.loss)),
        *(tensor_file(name, case.responses[name][None]) for name in case.network.names),
    ]
    return dict(zip(file_names(case.name, len(case.network.layers)), contents, strict=True))


def _known(folder: Path) -> set[str]:
    """Return the paths that may be replaced: the files and folders of the set in a folder."""
    try:
        names = [name for entry in read_manifest(folder) for name in entry["files"]]
    except ModelError:
        return set()
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    return {MANIFEST, SCHEMA, *names, *folders}
