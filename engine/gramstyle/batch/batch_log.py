"""The log of a batch: JSON lines, one for each job."""

from gramstyle.batch.outcome import Outcome
from gramstyle.run.records.log import RunLog


class BatchLog(RunLog):
    """A file with a line for each job, written as soon as the job is finished.

    Examples
    --------
    >>> from pathlib import Path
    >>> from gramstyle import Options
    >>> from gramstyle.batch import BatchLog, Job, one_by_one
    >>> from gramstyle.model import locate_model
    >>> paths = {"content": Path("photo.jpg"), "style": Path("painting.jpg")}
    >>> options = Options(size=32, iterations=1)
    >>> names = {"label": "job 1", "name": "log.png", "output": Path("log.png")}
    >>> job = Job(**names, **paths, options=options)
    >>> with BatchLog(Path("batch.jsonl")) as log:
    ...     for outcome in one_by_one([job], model=locate_model()):
    ...         log.job(outcome)
    ...
    >>> Path("batch.jsonl").read_text().count("done")
    2
    """

    def job(self, outcome: Outcome) -> None:
        """Write the outcome of a job."""
        self._write(
            {
                "name": outcome.job.name,
                "output": str(outcome.job.output),
                "state": outcome.state,
                "seconds": outcome.seconds,
                "reason": outcome.reason,
                "loss": outcome.loss,
            }
        )
