"""Write a set of cases: ONNX models with inputs and outputs, arrays, and a manifest."""

import hashlib
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from gramstyle.conformance.cases import Case
from gramstyle.conformance.files.archive import pack
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
from gramstyle.errors import ModelError, OptionError
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
from gramstyle.system.files import check_folder


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
    folder = _resolved(folder)
    _check_replaceable(folder)
    files = _files(cases)
    try:
        _replace_folder(folder, files)
    except OSError as reason:
        raise ModelError(f"cannot write {folder}: {reason.strerror}; nothing was written") from None
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


def _resolved(folder: Path) -> Path:
    try:
        return folder.resolve()
    except (OSError, RuntimeError):
        raise OptionError(f"{folder} is a broken link; choose another folder") from None


def _check_replaceable(folder: Path) -> None:
    """Raise an error if a folder contains anything else than a set."""
    check_folder(folder, error=OptionError)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OptionError(f"{folder} exists and is not a folder; choose another name")
    known = _known(folder)
    try:
        paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
        # Stop at the first: the folder may be a home directory.
        other = next((path for path in paths if path not in known), None)
    except OSError as reason:
        raise ModelError(f"cannot read {folder}: {reason.strerror}") from None
    if other is not None:
        raise OptionError(
            f"{folder} contains other things than a set of cases, for example {other}; choose an "
            "empty folder"
        )


def _known(folder: Path) -> set[str]:
    """Return the paths that may be replaced: the files and folders of the set in a folder."""
    try:
        names = [name for entry in read_manifest(folder) for name in entry["files"]]
    except ModelError:
        return set()
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    return {MANIFEST, SCHEMA, *names, *folders}


def _replace_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write all files into a temporary folder beside this one, then rename it into place."""
    temporary = folder.with_name(f".gramstyle-{secrets.token_hex(8)}.part")
    old = folder.with_name(f".gramstyle-{secrets.token_hex(8)}.old")
    try:
        for name, data in files.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        if folder.exists():
            folder.rename(old)
        try:
            temporary.rename(folder)
        except BaseException:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
