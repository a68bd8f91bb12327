"""The log of a batch: JSON lines, one for each job."""

from gramstyle.batch.outcome import Outcome
from gramstyle.run.log import RunLog


class BatchLog(RunLog):
    """A file with a line for each job, written as soon as the job is finished."""

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
