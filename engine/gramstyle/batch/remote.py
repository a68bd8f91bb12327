"""A job as bytes, for machines that share no disk with this one, and its picture as bytes back.

Here `pack` and `accept`, there `run_remote`. A parcel is a zip archive: JSON that says what is in
it, and files of pictures. The network does not travel: the other machine has its own, known by its
hash.
"""

import dataclasses
import io
import json
import os
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

from gramstyle.batch.doing import Outcome, attempt, failed
from gramstyle.batch.jobs import Job
from gramstyle.batch.values import options_from
from gramstyle.errors import GramstyleError, ImageError, ModelError
from gramstyle.files import write_atomically
from gramstyle.model import locate_model, read_model

_LETTER, _PICTURE = "letter.json", "picture"


def pack(job: Job, *, network: str) -> bytes:
    """Return a job with its pictures.

    Parameters
    ----------
    job
        The job.
    network
        The SHA-256 of the model, as `Model.sha256` has it.

    Raises
    ------
    ImageError
        If a picture cannot be read.
    """
    given = dataclasses.asdict(job.options)
    files = dict(zip(("content", "style", "init"), job.inputs, strict=False))
    if "init" in files:
        given["init"] = str(files["init"])
    letter = {
        "table": job.table,
        "name": job.name,
        "output": job.output.name,
        "options": {name: value for name, value in given.items() if value is not None},
        "files": {role: str(path) for role, path in files.items()},
        "network": network,
    }
    parcel = {_LETTER: json.dumps(letter).encode()}
    for role, path in files.items():
        try:
            parcel[role] = path.read_bytes()
        except OSError as error:
            raise ImageError(f"cannot read {path}: {error.strerror}; check the path") from None
    return _zipped(parcel)


def run_remote(parcel: bytes, *, model: str | os.PathLike[str] | None = None) -> bytes:
    """Do a packed job in a passing folder, and return what became of it for `accept`.

    Parameters
    ----------
    parcel
        From `pack`.
    model
        This machine's network, as for `transfer`.

    Returns
    -------
    bytes
        The outcome, and the picture's file if there is one. What goes wrong is an outcome too.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gramstyle-") as folder:
        job, letter = _unpacked(parcel, Path(folder))
        try:
            network = locate_model(model)
            _check_network(network, letter["network"])
            outcome = attempt(job, model=network)
        except GramstyleError as error:
            outcome = failed(job, str(error), began)
        reason = outcome.reason
        for role, original in letter["files"].items():  # their names where they come from
            reason = reason.replace(str(_place(Path(folder), role, original)), original)
        told = {
            "state": outcome.state,
            "seconds": outcome.seconds,
            "reason": reason,
            "loss": outcome.loss,
        }
        answer = {_LETTER: json.dumps(told).encode()}
        if outcome.state == "made":
            answer[_PICTURE] = job.output.read_bytes()
    return _zipped(answer)


def accept(job: Job, answer: bytes) -> Outcome:
    """Write the picture that came back for a job, and return the job's outcome."""
    began = time.monotonic()
    parts = _unzipped(answer)
    outcome = Outcome(job, **json.loads(parts[_LETTER]))
    if outcome.state == "made":
        try:
            write_atomically(job.output, parts[_PICTURE], error=ImageError)
        except ImageError as error:
            return failed(job, str(error), began)
    return outcome


def _unpacked(parcel: bytes, folder: Path) -> tuple[Job, dict[str, Any]]:
    """Lay a packed job out in a folder; pictures keep their names, which a record tells."""
    parts = _unzipped(parcel)
    letter: dict[str, Any] = json.loads(parts[_LETTER])
    files = {role: _place(folder, role, path) for role, path in letter["files"].items()}
    for role, path in files.items():
        path.parent.mkdir()
        path.write_bytes(parts[role])
    given = letter["options"]
    if "init" in files:
        given["init"] = str(files["init"])
    job = Job(
        table=letter["table"],
        name=letter["name"],
        content=files["content"],
        style=files["style"],
        output=folder / Path(letter["output"]).name,
        options=options_from(given),
    )
    return job, letter


def _place(folder: Path, role: str, original: str) -> Path:
    return folder / role / Path(original).name


def _check_network(path: Path, wanted: str) -> None:
    found = read_model(path).sha256
    if found != wanted:
        raise ModelError(
            f"{path} is another network (sha256 {found[:12]}… instead of {wanted[:12]}…); put the "
            "same file on every machine"
        )


def _zipped(parts: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:  # stored: pictures are compressed already
        for name, part in parts.items():
            archive.writestr(name, part)
    return data.getvalue()


def _unzipped(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
