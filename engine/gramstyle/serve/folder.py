"""The folder of a service: its jobs in SQLite, the uploads, and a folder for each job.

::

    service.sqlite3          jobs and uploads
    uploads/ID               the bytes of an upload, as they came
    jobs/ID/checkpoint/      the state of a run that was interrupted
    jobs/ID/run.jsonl        settings and losses
    jobs/ID/image.png        the result
    jobs/ID/ended.json       how the run ended; written last
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gramstyle.errors import GramstyleError
from gramstyle.serve.job import Job
from gramstyle.serve.options import uploads_of
from gramstyle.serve.store import Store
from gramstyle.system.files import TEMPORARY_NAME, temporary_path, write_atomically
from gramstyle.system.lock import IN_FOLDER, locked

DATABASE, UPLOADS, JOBS = "service.sqlite3", "uploads", "jobs"


class FolderError(GramstyleError):
    """The folder of the service cannot be used."""


class StorageError(GramstyleError):
    """The files of the service would have more bytes than they may have."""


@dataclass(frozen=True)
class JobFiles:
    """The files of one job."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """The folder of the checkpoint."""
        return self.folder / "checkpoint"

    @property
    def log(self) -> Path:
        """The record of the run, as `gramstyle transfer --log` writes it."""
        return self.folder / "run.jsonl"

    @property
    def image(self) -> Path:
        """The result, without metadata."""
        return self.folder / "image.png"

    @property
    def ended(self) -> Path:
        """How the run ended. If this file exists, the others are complete."""
        return self.folder / "ended.json"


@dataclass(frozen=True)
class DataFolder:
    """The folder, which `opened` has locked; ids must come from the store, never from a client."""

    path: Path
    store: Store

    def size(self) -> int:
        """Return how many bytes all files of the service have."""
        total = 0
        for folder, _, names in os.walk(self.path):
            for name in names:
                with suppress(FileNotFoundError):  # it has been removed in this moment
                    total += Path(folder, name).lstat().st_size
        return total

    def check_room(self, more: int, *, most: int) -> None:
        """Check that all files and so many bytes more are within a bound; raises StorageError."""
        size = self.size() + more
        if size > most:
            raise StorageError(
                f"the files of this server would have {size:,} bytes, and its bound (--storage) is "
                f"{most:,}; delete jobs or uploads, or raise the bound"
            )

    def upload(self, id_: str) -> Path:
        """Return the file of an upload."""
        return self.path / UPLOADS / id_

    def job(self, id_: str) -> JobFiles:
        """Return the files of a job."""
        return JobFiles(self.path / JOBS / id_)

    def write_upload(self, id_: str, data: bytes) -> None:
        """Write the bytes of an upload; raises FolderError if there is no room."""
        write_atomically(self.upload(id_), data, error=FolderError)

    def remove_upload(self, id_: str) -> None:
        """Remove the file of an upload."""
        self.upload(id_).unlink(missing_ok=True)

    def remove_job(self, id_: str) -> None:
        """Remove the files of a job."""
        shutil.rmtree(self.path / JOBS / id_, ignore_errors=True)

    def remove_rest(self, job: Job) -> None:
        """Remove the files of a job that is not in the store, and of its uploads that are not."""
        self.remove_job(job.id)
        for id_ in uploads_of(job.request):
            if self.store.upload(id_) is None:
                self.remove_upload(id_)

    def remove_strays(self) -> None:
        """Remove files of jobs and uploads that the store does not have: a kill can leave them."""
        for id_ in _names(self.path / UPLOADS) - self.store.uploads():
            self.remove_upload(id_)
        for id_ in _names(self.path / JOBS) - self.store.jobs():
            self.remove_job(id_)


@contextmanager
def opened(path: Path) -> Iterator[DataFolder]:
    """Open the folder of a service, which no other process may use meanwhile.

    Raises
    ------
    GramstyleError
        If it cannot be created or written, holds other files, is of a newer version, or another
        service uses it.
    """
    _create(path)
    action = f"serves the jobs in {path}; stop it, or name another folder with --data"
    with locked(path, error=FolderError, action=action):
        store = Store(path / DATABASE)
        try:
            folder = DataFolder(path, store)
            folder.remove_strays()
            yield folder
        finally:
            store.close()


def _create(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        ours = {DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", UPLOADS, JOBS, IN_FOLDER}
        strange = {n for n in _names(path) - ours if not TEMPORARY_NAME.fullmatch(n)}
        if strange and not (path / DATABASE).exists():
            raise FolderError(
                f"{path} contains other files; name an empty or a new folder with --data"
            )
        for name in (UPLOADS, JOBS):
            (path / name).mkdir(exist_ok=True)
        part = temporary_path(path)
        part.touch(exist_ok=False)
        part.unlink()
    except OSError as error:
        raise FolderError(
            f"cannot write to the folder {path}: {error.strerror}; name another one with --data"
        ) from None


def _names(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()}
