"""A job as bytes, for machines that share no disk with this one, and its image as bytes back.

`pack` and `accept` run here, `run_remote` on the other machine. A payload is a zip archive with
image files and a header in JSON. It does not contain the network: the other machine has the file
already, and finds it by its hash.
"""

import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gramstyle.batch.job import Job
from gramstyle.batch.outcome import Outcome, attempt, failed
from gramstyle.batch.remote import network_here, unzipped, zipped
from gramstyle.batch.render import Progress
from gramstyle.batch.reuse import own_settings
from gramstyle.cluster.dask import still_wanted
from gramstyle.cluster.worker import (
    check_version,
    installed_version,
    own_name,
    own_threads,
)
from gramstyle.errors import GramstyleError, ImageError, OptionError
from gramstyle.run.open_model import OpenModel
from gramstyle.run.options import MOST_STYLES
from gramstyle.run.options.masks import mask_values
from gramstyle.run.options.values import options_from
from gramstyle.run.settings import style_roles
from gramstyle.system.files import write_atomically
from gramstyle.system.temporary import temporary_directory, temporary_folder

_HEADER, _IMAGE = "header.json", "image"


def pack(job: Job, *, network: str) -> bytes:
    """Return a job of a batch with its images.

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
    files = {role: str(path) for role, path in job.inputs.items()}
    # The engine is chosen here: another installation could choose another one.
    options = {**dataclasses.asdict(job.options), "engine": job.options.runs_on}
    options |= {"init": files["init"]} if "init" in files else {}
    options |= mask_values(files)
    header = {
        "label": job.label,
        "name": job.name,
        "output": job.output.name,
        "options": {name: value for name, value in options.items() if value is not None},
        "files": files,
        "network": network,
        "version": installed_version(),
    }
    parts = {_HEADER: json.dumps(header).encode()}
    for role, path in job.inputs.items():
        try:
            parts[role] = path.read_bytes()
        except OSError as error:
            raise ImageError(f"cannot read {path}: {error.strerror}; check the path") from None
    return zipped(parts)


def run_remote(payload: bytes) -> bytes:
    """Run a packed job in a temporary folder, and return its outcome for `accept`.

    Parameters
    ----------
    payload
        From `pack`. The job uses the threads of its options, or else those of this process.

    Returns
    -------
    bytes
        The outcome, and the image file if there is one; errors become outcomes too. If this
        machine lacks the network or has another version of gramstyle, a refusal.
    """
    began = time.monotonic()
    parts = unzipped(payload)
    header: dict[str, Any] = json.loads(parts[_HEADER])
    try:
        check_version(header["version"])
        model = network_here(header["network"])
    except GramstyleError as error:
        return zipped({_HEADER: json.dumps({"refused": str(error)}).encode()})
    try:
        with temporary_directory() as folder:
            answer, image = _attempted(parts, header, model, folder)
    except (GramstyleError, OSError) as error:
        reason = str(error)
        if isinstance(error, OSError):
            reason = f"{error.strerror} ({temporary_folder()}); make room, or set TMPDIR there"
        seconds = round(time.monotonic() - began, 3)
        answer, image = {"state": "failed", "seconds": seconds, "reason": reason}, {}
    if answer["state"] == "failed":
        answer["reason"] = f"worker {own_name()}: {answer['reason']}"
    return zipped({_HEADER: json.dumps(answer).encode(), **image})


def accept(job: Job, answer: bytes) -> Outcome:
    """Write the image that came back for a job, and return the job's outcome.

    Raises
    ------
    OptionError
        If the other machine refuses all jobs: it lacks the network, or has another version.
    """
    began = time.monotonic()
    parts = unzipped(answer)
    header = json.loads(parts[_HEADER])
    if "refused" in header:
        raise OptionError(header["refused"])
    outcome = Outcome(job, **header)
    if outcome.state == "failed":
        return dataclasses.replace(outcome, error=GramstyleError(outcome.reason))
    try:
        own_settings(job)  # another file may have appeared there meanwhile
        write_atomically(job.output, parts[_IMAGE], error=ImageError)
    except GramstyleError as error:
        return failed(job, error, began)
    return outcome


def _check_wanted(_progress: Progress) -> None:
    if not still_wanted():
        raise GramstyleError("the batch was stopped")


def _attempted(
    parts: Mapping[str, bytes], header: Mapping[str, Any], model: OpenModel, folder: Path
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Run a job in a folder; return the fields of its outcome, and the image if there is one."""
    # Images keep their names, which the settings of the result mention.
    files = {role: folder / role / Path(path).name for role, path in header["files"].items()}
    for role, path in files.items():
        path.parent.mkdir()
        path.write_bytes(parts[role])
    start = {"init": str(files["init"])} if "init" in files else {}
    masks = mask_values({role: str(path) for role, path in files.items()})
    job = Job(
        label=header["label"],
        name=header["name"],
        content=files["content"],
        style=tuple(files[role] for role in style_roles(MOST_STYLES) if role in files),
        output=folder / Path(header["output"]).name,
        options=options_from({**header["options"], **start, **masks}),
    ).with_threads(own_threads())
    outcome = attempt(job, model=model, callback=_check_wanted)
    reason = outcome.reason
    for role, original in header["files"].items():  # paths that the sender knows
        reason = reason.replace(str(files[role]), original)
    answer = {
        "state": outcome.state,
        "seconds": outcome.seconds,
        "reason": reason,
        "loss": outcome.loss,
    }
    return answer, {_IMAGE: job.output.read_bytes()} if outcome.state == "done" else {}
