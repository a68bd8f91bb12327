"""Many transfers from one file of jobs: read, checked, run here or elsewhere, continued."""

from gramstyle.batch.attempt import Outcome, attempt
from gramstyle.batch.checking import check_layers, check_side_by_side, check_whole
from gramstyle.batch.jobs import Job
from gramstyle.batch.on_cluster import on_workers
from gramstyle.batch.reading import read_jobs
from gramstyle.batch.records import BatchLog
from gramstyle.batch.running import Change, one_by_one, run_jobs, side_by_side

__all__ = [
    "BatchLog",
    "Change",
    "Job",
    "Outcome",
    "attempt",
    "check_layers",
    "check_side_by_side",
    "check_whole",
    "on_workers",
    "one_by_one",
    "read_jobs",
    "run_jobs",
    "side_by_side",
]
