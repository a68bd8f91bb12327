"""Write a set of cases: ONNX models with inputs and outputs, arrays, and a manifest."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from gramstyle.conformance.cases import Case
from gramstyle.conformance.files.archive import pack
from gramstyle.conformance.files.folder import check_replaceable, replace_folder, resolved
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
from gramstyle.core.terms import StyleTerm
from gramstyle.errors import ModelError
from gramstyle.model.onnx_file.loss import (
    IMAGE,
    LOSS,
    ContentNodes,
    RegionNodes,
    StatisticNodes,
    StyleNodes,
    loss_model,
    tensor_file,
)


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
        _model(case),
        tensor_file(IMAGE, case.x[None]),
        tensor_file(LOSS, np.asarray(case.truth.loss)),
        *(tensor_file(name, case.responses[name][None]) for name in case.network.names),
    ]
    return dict(zip(file_names(case.name, len(case.network.layers)), contents, strict=True))


def _model(case: Case) -> bytes:
    """Return the case as an ONNX model; the factors of its terms include all weights."""
    shapes = case.network.shapes(*case.x.shape[1:])
    content = None
    if case.content is not None:
        content = ContentNodes(case.content.layer, case.content.P, case.content.factor)
    style: list[StyleNodes | StatisticNodes] = [
        StatisticNodes(name, each.statistic, each.A, each.factor)
        for name, each in case.statistics.items()
    ]
    for name, term in case.style_terms.items():
        if not isinstance(term, StyleTerm):
            continue
        assert term.A is not None  # noqa: S101 - the terms of a case have their targets
        N, H, V = shapes[name]
        factor = case.beta * term.weight * term.convention.style_factor
        M = H * V
        style.append(StyleNodes(name, term.A, M / term.M, factor / (4 * N**2 * M**2)))
    regions = [
        RegionNodes(name, region.T, float(np.sum(region.T**2)), region.A, region.factor)
        for name, of_layer in case.regions.items()
        for region in of_layer
    ]
    size = case.x.shape[1:]
    return loss_model(
        case.network, case.preprocessing, size, content, style, regions=regions, tv=case.tv
    )


def _known(folder: Path) -> set[str]:
    """Return the paths that may be replaced: the files and folders of the set in a folder."""
    try:
        names = [name for entry in read_manifest(folder) for name in entry["files"]]
    except ModelError:
        return set()
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    return {MANIFEST, SCHEMA, *names, *folders}
