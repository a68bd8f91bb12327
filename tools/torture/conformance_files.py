"""Files that `gramstyle conformance run` reads: sets of cases, baselines, answers of programs."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gramstyle.conformance import Case, cases
from gramstyle.conformance.adapters.numpy_plain import value_and_grad
from gramstyle.conformance.files import read_cases, write_cases
from gramstyle.conformance.programs import ProgramSubject
from gramstyle.conformance.programs import subject as subjects
from gramstyle.conformance.reports.baseline import changes_since, lines_of, read_baseline
from gramstyle.conformance.reports.page import as_html
from gramstyle.conformance.reports.reporting import as_json, as_junit, failure, notes, table
from gramstyle.conformance.running import Report, check
from gramstyle.errors import ModelError

from .sample import Files, Parts, Sample

DTYPE = "float64"
MANIFEST = "manifest.json"
# A content term and no pooling; two style layers and a pooling; regions; another statistic.
SETS = ("relu", "style-of-another-size", "style-regions", "style-mean-std", "total-variation")
ANSWERED = "relu"


class ImpossibleCaseError(Exception):
    """A case that is not in the files, or an answer that is not the program's."""


def a_set(path: Path) -> None:
    """Read a set of cases, compare its arrays with NumPy's reader, and test an adapter on it."""
    for case in read_cases(path.parent):
        with np.load(path.with_name(f"{case.name}.npz"), allow_pickle=False) as arrays:
            _equal(arrays["x"], case.x)
            _equal(arrays["gradient"], case.truth.gradient)
            for layer in case.layers:
                if hasattr(layer, "W"):
                    _equal(arrays[f"{layer.name}.W"], layer.W)
        _report(Report(dtype=DTYPE, results=(_checked(value_and_grad, case),)))


def a_baseline(path: Path) -> None:
    """Read a baseline, and compare a report with it."""
    before = read_baseline(path, dtype=DTYPE)
    changes = changes_since(before, _reports())
    as_html(_reports(), subject="an adapter", changes=changes)
    as_json(_reports(), adapter="an adapter", changes=changes)
    if not all(line.isprintable() for line in lines_of(changes)):
        raise ImpossibleCaseError("lines that cannot be printed")


def an_answer(path: Path) -> None:
    """Read the answer of a program to the protocol's messages, and compare it with the truth."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        subject = ProgramSubject(["program"], Path(folder), timeout=1.0)
        vars(subjects)["LineProgram"] = lambda *_, **__: _Replayed(path.parent)
        subject.start()
        result = _checked(subject, _case(ANSWERED))
    _report(Report(dtype=DTYPE, results=(result,)))
    if result.problem:
        # The table of the report names the case and the problem.
        raise ModelError(f"{path.name}: {result.problem}")


class _Replayed:
    """A program whose answers are in files, in the place of `LineProgram`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def exchange(self, line: bytes, **_: float) -> bytes:
        message = json.loads(line)
        if message["message"] == "greeting":
            return self._line("hello.json")
        for path in self._folder.iterdir():
            if path.suffix in (".npy", ".f64"):
                shutil.copy(path, message["folder"])
        return self._line("answer.json")

    def kill(self) -> str:
        return ""

    def end(self) -> None:
        pass

    def _line(self, name: str) -> bytes:
        return (self._folder / name).read_bytes().split(b"\n")[0]


def samples(folder: Path) -> dict[str, list[Sample]]:
    """Return the samples of each reader; sets are written to a new folder, which is removed."""
    return {
        "conformance set": [_set_sample(folder / "set", name) for name in SETS],
        "conformance baseline": [
            Sample(name, {"baseline.json": as_json(report, adapter="an adapter")})
            for name, report in (
                ("baseline", _reports()),
                ("a case that failed", replace(_reports(), results=_reports().results[1:2])),
            )
        ],
        "conformance answer": [_answer_sample(kind) for kind in ("npy", "raw")],
    }


def _set_sample(folder: Path, name: str) -> Sample:
    write_cases(folder, [_case(name)])
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    shutil.rmtree(folder)
    manifest = found.pop(MANIFEST)
    described = json.loads(manifest)["cases"][0]["files"]

    def assemble(parts: Parts) -> Files:
        text, files = parts[0], dict(zip(found, parts[1:], strict=True))
        for each, old in described.items():
            # As in the text of the manifest, which may be a mutant itself.
            size, digest = f'"bytes": {old["bytes"]},', hashlib.sha256(files[each]).hexdigest()
            if digest != old["sha256"]:
                head, _, tail = text.partition(f'"{each}": '.encode())
                tail = tail.replace(size.encode(), f'"bytes": {len(files[each])},'.encode(), 1)
                tail = tail.replace(old["sha256"].encode(), digest.encode(), 1)
                text = head + f'"{each}": '.encode() + tail
        return {MANIFEST: text, **files}

    # The manifest and the arrays first, which are parsed; most other files are only hashed.
    return Sample(name, {MANIFEST: manifest, **found}, (manifest, *found.values()), assemble)


def _answer_sample(kind: str) -> Sample:
    case = _case(ANSWERED)
    loss, gradient, dF, *_ = value_and_grad(case.x, case)
    suffix = "npy" if kind == "npy" else "f64"
    names = {layer: f"dF_{layer}.{suffix}" for layer in dF}
    answer = {
        "message": "answer",
        "case": 1,
        "loss": float(loss),
        "gradient": f"gradient.{suffix}",
        "dF": names,
        "seconds": 0.25,
    }
    hello = {
        "message": "hello",
        "protocol": 1,
        "name": "replayed",
        "version": "1",
        "dtypes": [DTYPE],
        "files": kind,
    }
    arrays = {f"gradient.{suffix}": gradient, **{names[each]: dF[each] for each in dF}}
    lines = {"answer.json": answer, "hello.json": hello}
    return Sample(
        f"answer in {kind}",
        {name: json.dumps(said).encode() for name, said in lines.items()}
        | {name: _bytes(array, kind) for name, array in arrays.items()},
    )


def _bytes(array: Any, kind: str) -> bytes:
    if kind == "raw":
        return np.asarray(array, "<f8").tobytes()
    with tempfile.TemporaryFile() as file:
        np.save(file, np.asarray(array, "<f8"), allow_pickle=False)
        file.seek(0)
        return file.read()


@cache
def _case(name: str) -> Case:
    return next(case for case in cases() if case.name == name)


@cache
def _reports() -> Report:
    """Return a report in which a case has passed, one has failed, and one has no answer."""

    def wrong(image: Any, case: Case) -> Any:
        loss, gradient, dF = value_and_grad(image, case)[:3]
        return loss, 2 * gradient, dF

    def none(*_: Any) -> Any:
        raise ValueError("no answer")

    adapters = zip((value_and_grad, wrong, none), SETS, strict=False)
    results = (_checked(adapter, _case(name)) for adapter, name in adapters)
    return Report(dtype=DTYPE, results=tuple(results))


def _checked(adapter: Any, case: Case) -> Any:
    # The search for known mistakes takes hundreds of passes; a time is another each time.
    return replace(check(adapter, case, dtype=DTYPE, explained=False), seconds=0.0)


def _report(report: Report) -> None:
    """Write a report in every form; the texts must be printable."""
    as_json(report, adapter="an adapter")
    as_junit(report, adapter="an adapter")
    as_html(report, subject="an adapter")
    for text in _texts(report):
        if not all(line.isprintable() for line in text.splitlines()):
            raise ImpossibleCaseError("a report that cannot be printed")


def _texts(report: Report) -> Iterator[str]:
    yield table(report)
    yield from notes(report)
    yield from (failure(result) for result in report.failed)


def _equal(found: Any, expected: Any) -> None:
    if found.tobytes() != expected.tobytes():
        raise ImpossibleCaseError("other arrays than NumPy reads")


READERS: Mapping[str, Callable[[Path], None]] = {
    "conformance set": a_set,
    "conformance baseline": a_baseline,
    "conformance answer": an_answer,
}
SHARES: Mapping[str, float] = {
    "conformance set": 0.4,
    "conformance baseline": 0.2,
    "conformance answer": 0.4,
}
