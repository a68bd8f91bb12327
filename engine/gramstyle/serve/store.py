"""The jobs and uploads of a service in SQLite: a change is on disk when its method returns."""

import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gramstyle.errors import GramstyleError
from gramstyle.serve.job import Job, Request, Standing, State, Upload
from gramstyle.serve.turns import Served, Waiting, in_turn

# The version of the tables. A file of a newer version is refused.
VERSION = 1

_TABLES = """
CREATE TABLE uploads (
    id TEXT PRIMARY KEY, width INTEGER NOT NULL, height INTEGER NOT NULL, bytes INTEGER NOT NULL,
    name TEXT NOT NULL, used REAL NOT NULL
);
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, client TEXT NOT NULL,
    request TEXT NOT NULL, state TEXT NOT NULL, created REAL NOT NULL, started REAL, ended REAL,
    turn INTEGER, attempts INTEGER NOT NULL DEFAULT 0, standing TEXT NOT NULL,
    has_image INTEGER NOT NULL DEFAULT 0, reason TEXT, problem TEXT
);
CREATE INDEX jobs_by_state ON jobs (state, number);
CREATE INDEX jobs_by_end ON jobs (ended);
CREATE TABLE job_uploads (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    upload TEXT NOT NULL REFERENCES uploads (id), PRIMARY KEY (job, upload)
);
CREATE INDEX job_uploads_by_upload ON job_uploads (upload);
"""


class StoreError(GramstyleError):
    """The file of jobs cannot be used."""


class Store:
    """The jobs and uploads in one SQLite file; its methods may be called from any thread.

    Parameters
    ----------
    path
        The file, which is created if it is missing.

    Raises
    ------
    StoreError
        If it is not such a file, cannot be written, or is of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._order: list[str] | None = None
        try:
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._database.row_factory = sqlite3.Row
            self._open()
        except sqlite3.Error as error:
            raise StoreError(
                f"cannot use {path}: {error}; name another folder with --data, or move the file "
                "away"
            ) from None

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def _open(self) -> None:
        run = self._database.execute
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA foreign_keys = ON")
        (state,) = run("PRAGMA quick_check(1)").fetchone()
        if state != "ok":
            raise sqlite3.DatabaseError("it is damaged")
        (version,) = run("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise StoreError(
                f"{self._path} is of version {version}, and this gramstyle reads version "
                f"{VERSION}; update gramstyle, or name another folder with --data"
            )
        if version == 0:
            self._database.executescript(
                f"BEGIN; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;"
            )

    @contextmanager
    def together(self) -> Iterator[None]:
        """Keep other threads from changes during the block."""
        with self._lock:
            yield

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """Run the statements of the block as one transaction."""
        with self._lock, self._one_line_errors():
            self._order = None
            with self._database:  # commits at the end, and rolls back after an exception
                self._database.execute("BEGIN IMMEDIATE")
                yield self._database

    def _rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock, self._one_line_errors():
            return self._database.execute(query, values).fetchall()

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:  # the disk may be full
            raise StoreError(f"cannot use {self._path}: {error}; make room on its disk") from None

    # Uploads

    def add_upload(self, upload: Upload) -> None:
        """Add an upload."""
        with self._change() as database:
            database.execute(
                "INSERT INTO uploads VALUES (:id, :width, :height, :bytes, :name, :used)",
                {**asdict(upload), "used": time.time()},
            )

    def upload(self, id_: str) -> Upload | None:
        """Return an upload, or None if there is none with this id."""
        rows = self._rows("SELECT id, width, height, bytes, name FROM uploads WHERE id = ?", id_)
        return Upload(**dict(rows[0])) if rows else None

    def uploads(self) -> set[str]:
        """Return the ids of all uploads."""
        return {row["id"] for row in self._rows("SELECT id FROM uploads")}

    def remove_upload(self, id_: str) -> bool:
        """Remove an upload unless a job that has not ended uses it; return whether it is gone."""
        with self._change() as database:
            used = database.execute(
                "SELECT 1 FROM job_uploads JOIN jobs ON jobs.id = job_uploads.job "
                "WHERE upload = ? AND ended IS NULL",
                (id_,),
            ).fetchone()
            if used:
                return False
            database.execute("DELETE FROM job_uploads WHERE upload = ?", (id_,))
            database.execute("DELETE FROM uploads WHERE id = ?", (id_,))
            return True

    def remove_unused_uploads(self, *, most_bytes: int) -> list[str]:
        """Remove the uploads that no job uses, the oldest first, until the rest is small enough."""
        removed, total = [], 0
        with self._change() as database:
            unused = database.execute(
                "SELECT id, bytes FROM uploads WHERE id NOT IN (SELECT upload FROM job_uploads) "
                "ORDER BY used DESC, rowid DESC"
            ).fetchall()
            for row in unused:
                total += row["bytes"]
                if total > most_bytes:
                    database.execute("DELETE FROM uploads WHERE id = ?", (row["id"],))
                    removed.append(row["id"])
        return removed

    # Jobs

    def add_job(self, job: Job, uploads: Iterable[str]) -> None:
        """Add a job, which uses these uploads.

        Raises
        ------
        KeyError
            If there is no such upload.
        """
        with self._change() as database:
            database.execute(
                "INSERT INTO jobs (id, client, request, state, created, started, standing) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (job.id, job.client, json.dumps(asdict(job.request)), job.state, job.created,
                 job.started, json.dumps(asdict(job.standing))),
            )  # fmt: skip
            for each in set(uploads):
                found = database.execute(
                    "UPDATE uploads SET used = ? WHERE id = ?", (time.time(), each)
                )
                if not found.rowcount:
                    raise KeyError(each)
                database.execute("INSERT INTO job_uploads VALUES (?, ?)", (job.id, each))

    def job(self, id_: str) -> Job | None:
        """Return a job, or None if there is none with this id."""
        rows = self._rows("SELECT * FROM jobs WHERE id = ?", id_)
        return _job(rows[0]) if rows else None

    def jobs(self) -> set[str]:
        """Return the ids of all jobs."""
        return {row["id"] for row in self._rows("SELECT id FROM jobs")}

    def counts(self) -> Mapping[str, int]:
        """Return the number of jobs by state."""
        rows = self._rows("SELECT state, count(*) AS jobs FROM jobs GROUP BY state")
        return {row["state"]: row["jobs"] for row in rows}

    def in_state(self, state: State) -> list[Job]:
        """Return the jobs in a state, the oldest first."""
        rows = self._rows("SELECT * FROM jobs WHERE state = ? ORDER BY number", state)
        return [_job(row) for row in rows]

    def waiting(self) -> list[str]:
        """Return the ids of the waiting jobs in the order in which they start."""
        with self._lock:
            if self._order is None:
                jobs = self._rows(
                    "SELECT id, client, started IS NOT NULL AS interrupted FROM jobs "
                    "WHERE state = 'waiting' ORDER BY number"
                )
                served = self._rows(
                    "SELECT client, sum(state = 'running') AS running, max(turn) AS turn "
                    "FROM jobs WHERE turn IS NOT NULL GROUP BY client"
                )
                self._order = in_turn(
                    [Waiting(row["id"], row["client"], row["interrupted"]) for row in jobs],
                    {row["client"]: Served(row["running"], row["turn"]) for row in served},
                )
            return self._order

    def start_next(self) -> Job | None:
        """Start the waiting job that is next, and return it; None if no job waits."""
        with self._lock:
            order = self.waiting()
            if not order:
                return None
            with self._change() as database:
                database.execute(
                    "UPDATE jobs SET state = 'running', started = coalesce(started, ?), "
                    "turn = (SELECT coalesce(max(turn), 0) + 1 FROM jobs) WHERE id = ?",
                    (time.time(), order[0]),
                )
            return self.job(order[0])

    def wait_again(
        self, id_: str, *, attempts: int | None = None, standing: Standing | None = None
    ) -> None:
        """Return a running job to the waiting ones, with other attempts and standing if given."""
        text = None if standing is None else json.dumps(asdict(standing))
        with self._change() as database:
            database.execute(
                "UPDATE jobs SET state = 'waiting', attempts = coalesce(?, attempts), "
                "standing = coalesce(?, standing) WHERE id = ? AND state = 'running'",
                (attempts, text, id_),
            )

    def end(
        self,
        id_: str,
        state: State,
        *,
        standing: Standing,
        has_image: bool,
        reason: str | None = None,
        problem: str | None = None,
    ) -> bool:
        """End a job that has not ended; return whether there was one."""
        with self._change() as database:
            ended = database.execute(
                "UPDATE jobs SET state = ?, ended = ?, standing = ?, has_image = ?, reason = ?, "
                "problem = ? WHERE id = ? AND ended IS NULL",
                (state, time.time(), json.dumps(asdict(standing)), has_image, reason, problem, id_),
            )
            return bool(ended.rowcount)

    def remove(self, id_: str) -> None:
        """Remove a job, and its uploads that no other job uses."""
        with self._change() as database:
            uploads = database.execute(
                "SELECT upload FROM job_uploads WHERE job = ?", (id_,)
            ).fetchall()
            database.execute("DELETE FROM jobs WHERE id = ?", (id_,))
            database.executemany(
                "DELETE FROM uploads WHERE id = ? AND id NOT IN (SELECT upload FROM job_uploads)",
                uploads,
            )

    def remove_oldest(self, *, most: int) -> list[str]:
        """Remove the jobs that ended first, so that at most this many ended ones are left."""
        with self._change() as database:
            rows = database.execute(
                "SELECT id FROM jobs WHERE ended IS NOT NULL ORDER BY ended DESC, number DESC "
                "LIMIT -1 OFFSET ?",
                (most,),
            ).fetchall()
            for row in rows:
                database.execute("DELETE FROM jobs WHERE id = ?", (row["id"],))
            return [row["id"] for row in rows]

    def mean_seconds(self) -> float | None:
        """Return the mean time of the last finished jobs; None before the first one."""
        rows = self._rows(
            "SELECT avg(ended - started) AS mean FROM (SELECT ended, started FROM jobs "
            "WHERE state = 'finished' ORDER BY ended DESC LIMIT 20)"
        )
        return None if rows[0]["mean"] is None else float(rows[0]["mean"])


def _job(row: sqlite3.Row) -> Job:
    request, standing = json.loads(row["request"]), json.loads(row["standing"])
    return Job(
        id=row["id"],
        client=row["client"],
        request=Request(**{**request, "styles": tuple(request["styles"])}),
        state=row["state"],
        created=row["created"],
        started=row["started"],
        ended=row["ended"],
        attempts=row["attempts"],
        standing=Standing(**standing),
        has_image=bool(row["has_image"]),
        reason=row["reason"],
        problem=row["problem"],
    )
