"""Many images from one file of jobs: checked first, rendered here or on a cluster, resumable."""

from gramstyle.batch.batch_log import BatchLog
from gramstyle.batch.execute import Change, Execute, one_by_one, run_jobs, side_by_side
from gramstyle.batch.job import Job
from gramstyle.batch.job_checks import (
    check_inputs,
    check_layers,
    check_outputs,
    check_side_by_side,
    check_whole,
)
from gramstyle.batch.jobs_file import read_jobs
from gramstyle.batch.on_cluster import on_workers
from gramstyle.batch.outcome import Outcome, attempt

__all__ = [
    "BatchLog",
    "Change",
    "Execute",
    "Job",
    "Outcome",
    "attempt",
    "check_inputs",
    "check_layers",
    "check_outputs",
    "check_side_by_side",
    "check_whole",
    "on_workers",
    "one_by_one",
    "read_jobs",
    "run_jobs",
    "side_by_side",
]
