"""A job on a machine that shares no disk with the server: one slice of time after the other.

`pack` and `accept` run on the server, `run_slice` on the other machine. After a slice, the
checkpoint of the job comes back, so that it survives the server and the other machine.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from gramstyle.batch.remote import network_here, unzipped, zipped
from gramstyle.cluster.dask import announce, is_flagged, still_wanted
from gramstyle.cluster.worker import check_version, installed_version, own_name, own_threads
from gramstyle.errors import GramstyleError, OptionError
from gramstyle.serve.folder import JobFiles
from gramstyle.serve.job import Request, Standing
from gramstyle.serve.options import uploads_of, with_files
from gramstyle.serve.rendering import Ended, InterruptedJobError, Order, already_ended, run_job
from gramstyle.serve.reporting import Preview, Report, Stop
from gramstyle.system.files import sync_folder, temporary_path
from gramstyle.system.temporary import temporary_directory

# How often a task asks whether it shall end, and the least time between previews that travel over
# the scheduler, in seconds.
_LOOK, _BETWEEN_PREVIEWS = 1.0, 2.0
_HEADER, _IMAGE, _CHECKPOINT = "header.json", "image", "checkpoint"


def pack(order: Order, *, network: str, topic: str, flag: str, seconds: float) -> bytes:
    """Return a slice of a job, with its images and its checkpoint.

    Parameters
    ----------
    order
        The job.
    network
        The SHA-256 of the model.
    topic, flag
        Where the task announces how far it is, and the flag that cancels it.
    seconds
        The time of the slice.

    Raises
    ------
    OSError
        If a file of the job cannot be read.
    """
    names = {
        path: f"{_IMAGE}-{n}" for n, path in enumerate(dict.fromkeys(uploads_of(order.request)))
    }
    header = {
        "request": asdict(with_files(order.request, names)),
        "machine": {k: v for k, v in order.machine.items() if k not in ("threads", "memory")},
        "seconds": order.seconds,
        "network": network,
        "topic": topic,
        "flag": flag,
        "slice": seconds,
        "version": installed_version(),
    }
    parts = {name: Path(path).read_bytes() for path, name in names.items()}
    parts |= _files_in(JobFiles(order.folder).checkpoint, _CHECKPOINT)
    return zipped({_HEADER: json.dumps(header).encode(), **parts})


def run_slice(payload: bytes) -> bytes:
    """Run a slice of a job in a temporary folder; return what `accept` stores on the server."""
    parts = unzipped(payload)
    header: dict[str, Any] = json.loads(parts.pop(_HEADER))
    try:
        check_version(header["version"])
        model = network_here(header["network"])
        with temporary_directory() as folder:
            _write(folder, parts)
            job = folder / "job"
            if (folder / _CHECKPOINT).exists():
                job.mkdir()
                (folder / _CHECKPOINT).rename(JobFiles(job).checkpoint)
            order = _order(header, folder, job)
            clock = _Clock(header["slice"], header["flag"])
            try:
                ended = run_job(order, model=model, tell=_announcer(header), stop=clock.stop)
            except InterruptedJobError:
                files = _files_in(JobFiles(job).checkpoint, _CHECKPOINT)
                return zipped({_HEADER: b"{}", **files})
            return zipped({_HEADER: json.dumps({"ended": asdict(ended)}).encode(), **_results(job)})
    except (GramstyleError, OSError) as error:
        # The text of an OSError has the name of a file.
        sentence = " ".join(str(getattr(error, "strerror", None) or error).split())
        reason = f"worker {own_name()}: {sentence}"
        return zipped({_HEADER: json.dumps({"refused": reason}).encode()})


def accept(order: Order, answer: bytes) -> Ended | None:
    """Store what a slice has returned; return how the job ended, or None if it goes on."""
    parts = unzipped(answer)
    header: dict[str, Any] = json.loads(parts.pop(_HEADER))
    files = JobFiles(order.folder)
    files.folder.mkdir(exist_ok=True)
    if "refused" in header:
        return Ended(Standing(), has_image=False, problem=header["refused"])
    if "ended" in header:
        ended = {**header["ended"], "standing": Standing(**header["ended"]["standing"])}
        last = parts.pop(files.ended.name, None)
        _write(files.folder, parts)
        if last is not None:
            _write(files.folder, {files.ended.name: last})
        shutil.rmtree(files.checkpoint, ignore_errors=True)
        return Ended(**ended)
    part = temporary_path(files.folder)
    _write(part, parts)
    shutil.rmtree(files.checkpoint, ignore_errors=True)
    (part / _CHECKPOINT).rename(files.checkpoint)
    sync_folder(files.folder)
    shutil.rmtree(part, ignore_errors=True)
    return already_ended(files)


def message_of(message: Mapping[str, Any]) -> Report | Preview:
    """Return what a task has announced."""
    if "webp" in message:
        return Preview(**{name: message[name] for name in Preview.__dataclass_fields__})
    points = tuple((int(n), loss, dict(terms)) for n, loss, terms in message["points"])
    return Report(Standing(**message["standing"]), points)


def _announcer(header: Mapping[str, Any]) -> Callable[[Report | Preview], None]:
    last = -_BETWEEN_PREVIEWS

    def tell(message: Report | Preview) -> None:
        nonlocal last
        if isinstance(message, Preview):
            if time.monotonic() - last < _BETWEEN_PREVIEWS:
                return
            last = time.monotonic()
        announce(header["topic"], {**asdict(message), "flag": header["flag"]})

    return tell


class _Clock:
    """Says when a slice ends: its time is up, its job is cancelled, or its client has gone."""

    def __init__(self, seconds: float, flag: str) -> None:
        self._until, self._flag = time.monotonic() + seconds, flag
        self._looked, self._cancelled = -_LOOK, False

    def stop(self) -> Stop | None:
        """Return why the run shall end now, if it shall."""
        now = time.monotonic()
        if now - self._looked >= _LOOK:
            self._looked = now
            self._cancelled = is_flagged(self._flag)
            if not still_wanted():
                return "shutdown"
        if self._cancelled:
            return "cancel"
        return "shutdown" if now >= self._until else None


def _order(header: Mapping[str, Any], folder: Path, job: Path) -> Order:
    request = Request(**{**header["request"], "styles": tuple(header["request"]["styles"])})
    names = {name: str(folder / name) for name in uploads_of(request)}
    threads = own_threads()
    machine = {**header["machine"], **({} if threads is None else {"threads": threads})}
    return Order(
        folder=job,
        request=with_files(request, names),
        machine=machine,
        seconds=header["seconds"],
        saving=header["seconds"],  # a slice saves at its end only
    )


def _results(job: Path) -> dict[str, bytes]:
    files = JobFiles(job)
    found = (files.image, files.log, files.ended)
    return {path.name: path.read_bytes() for path in found if path.exists()}


def _files_in(folder: Path, name: str) -> dict[str, bytes]:
    """Return the files in a folder by their paths from it, below a name."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        f"{name}/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in found
        if not path.name.startswith(".")
    }


def _write(folder: Path, parts: Mapping[str, bytes]) -> None:
    """Write files into a folder and nowhere else."""
    for name, data in parts.items():
        if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
            raise OptionError("a worker has sent a file with a strange name")
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
