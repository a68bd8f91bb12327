"""A job as bytes, for machines that share no disk with this one, and its image as bytes back.

Here `pack` and `accept`, there `run_remote`. A parcel is a zip archive: JSON that says what is in
it, and files of images. The network does not travel in it: the other machine has it already, and
knows it by its hash.
"""

import dataclasses
import io
import json
import tempfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gramstyle.batch.attempt import Outcome, attempt, failed
from gramstyle.batch.jobs import Job
from gramstyle.batch.values import options_from
from gramstyle.cluster.client import still_wanted
from gramstyle.cluster.worker import (
    check_version,
    find_model,
    installed_version,
    own_name,
    own_threads,
)
from gramstyle.errors import GramstyleError, ImageError, ModelError, OptionError
from gramstyle.run.transfer import Progress
from gramstyle.system.files import write_atomically

_LETTER, _IMAGE = "letter.json", "image"


def pack(job: Job, *, network: str) -> bytes:
    """Return a job with its images.

    Parameters
    ----------
    job
        The job.
    network
        The SHA-256 of the model, as `Model.sha256` has it.

    Raises
    ------
    ImageError
        If an image cannot be read.
    """
    # The engine that a job has here, not the one that another installation would choose.
    given = {**dataclasses.asdict(job.options), "engine": job.options.runs_on}
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
        "version": installed_version(),
    }
    parcel = {_LETTER: json.dumps(letter).encode()}
    for role, path in files.items():
        try:
            parcel[role] = path.read_bytes()
        except OSError as error:
            raise ImageError(f"cannot read {path}: {error.strerror}; check the path") from None
    return _zipped(parcel)


def run_remote(parcel: bytes) -> bytes:
    """Do a packed job in a passing folder, and return what became of it for `accept`.

    Parameters
    ----------
    parcel
        From `pack`. The job takes the threads that it says, or those that this process may use.

    Returns
    -------
    bytes
        The outcome, and the image's file if there is one. What goes wrong is an outcome too; or
        the bytes say why this machine can do no job.
    """
    began = time.monotonic()
    parts = _unzipped(parcel)
    letter: dict[str, Any] = json.loads(parts[_LETTER])
    try:
        check_version(letter["version"])
        model = _find_network(letter["network"])
    except GramstyleError as error:
        return _zipped({_LETTER: json.dumps({"refused": str(error)}).encode()})
    try:
        with tempfile.TemporaryDirectory(prefix="gramstyle-") as folder:
            told, image = _attempted(parts, letter, model, Path(folder))
    except OSError as error:
        reason = f"{error.strerror} ({tempfile.gettempdir()}); make room, or set TMPDIR there"
        seconds = round(time.monotonic() - began, 3)
        told, image = {"state": "failed", "seconds": seconds, "reason": reason}, {}
    if told["state"] == "failed":
        told["reason"] = f"worker {own_name()}: {told['reason']}"
    return _zipped({_LETTER: json.dumps(told).encode(), **image})


def accept(job: Job, answer: bytes) -> Outcome:
    """Write the image that came back for a job, and return the job's outcome.

    Raises
    ------
    OptionError
        If the other machine can do no job at all, for want of the network or of this version.
    """
    began = time.monotonic()
    parts = _unzipped(answer)
    told = json.loads(parts[_LETTER])
    if "refused" in told:
        raise OptionError(told["refused"])
    outcome = Outcome(job, **told)
    if outcome.state == "made":
        try:
            write_atomically(job.output.resolve(), parts[_IMAGE], error=ImageError)
        except ImageError as error:
            return failed(job, str(error), began)
    return outcome


def _find_network(sha256: str) -> Path:
    path = find_model(sha256)
    if path is None:
        raise ModelError(
            f"worker {own_name()} has not been given the model {sha256[:12]}…; name its file by "
            "GRAMSTYLE_MODEL there"
        )
    return path


def _check_wanted(_progress: Progress) -> None:
    if not still_wanted():
        raise GramstyleError("nobody waits for it any more")


def _attempted(
    parts: Mapping[str, bytes], letter: Mapping[str, Any], model: Path, folder: Path
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Do a job in a folder; return what to tell of it, and the image if there is one."""
    job = _laid_out(parts, letter, folder).with_threads(own_threads())
    outcome = attempt(job, model=model, callback=_check_wanted)
    reason = outcome.reason
    for role, original in letter["files"].items():  # their names where they come from
        reason = reason.replace(str(_place(folder, role, original)), original)
    told = {
        "state": outcome.state,
        "seconds": outcome.seconds,
        "reason": reason,
        "loss": outcome.loss,
    }
    made = outcome.state == "made"
    return told, {_IMAGE: job.output.read_bytes()} if made else {}


def _laid_out(parts: Mapping[str, bytes], letter: Mapping[str, Any], folder: Path) -> Job:
    """Lay a packed job out in a folder; images keep their names, which a record tells."""
    files = {role: _place(folder, role, path) for role, path in letter["files"].items()}
    for role, path in files.items():
        path.parent.mkdir()
        path.write_bytes(parts[role])
    start = {"init": str(files["init"])} if "init" in files else {}
    return Job(
        table=letter["table"],
        name=letter["name"],
        content=files["content"],
        style=files["style"],
        output=folder / Path(letter["output"]).name,
        options=options_from({**letter["options"], **start}),
    )


def _place(folder: Path, role: str, original: str) -> Path:
    return folder / role / Path(original).name


def _zipped(parts: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:  # stored: images are compressed already
        for name, part in parts.items():
            archive.writestr(name, part)
    return data.getvalue()


def _unzipped(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
