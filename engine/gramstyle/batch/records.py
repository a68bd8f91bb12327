"""The record of a batch: JSON lines, one a job."""

from gramstyle.batch.attempt import Outcome
from gramstyle.run.log import RunLog


class BatchLog(RunLog):
    """A file with a line for each job, on disk as soon as the job is finished."""

    def job(self, outcome: Outcome) -> None:
        """Write what became of a job."""
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
