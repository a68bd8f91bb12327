"""Run one job. No other module of this room calls the functions of `gramstyle.run`."""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gramstyle.batch.job import Job
from gramstyle.errors import GramstyleError
from gramstyle.run.open_model import OpenModel
from gramstyle.run.plan import plan_run
from gramstyle.run.progress import Progress
from gramstyle.run.records.log import RunLog
from gramstyle.run.transfer import Result, execute

# The model of a job: its file, or the file opened for many jobs.
ModelFile = Path | OpenModel

__all__ = ["ModelFile", "Progress", "planned_settings", "render"]


def planned_settings(job: Job, *, model: ModelFile) -> Mapping[str, Any]:
    """Check the job's images, options and network; return the settings that its image will have.

    Raises what `gramstyle.transfer` raises before its first iteration.
    """
    plan = plan_run(job.content, job.styles or None, job.options, model=model)
    return {**plan.settings.to_json(), **job.mark}


def render(
    job: Job, *, model: ModelFile, callback: Callable[[Progress], None] | None = None
) -> tuple[Result, dict[str, Any]]:
    """Return the job's result and its settings; write the record of the losses if it has one.

    Raises what `gramstyle.transfer` raises, and a GramstyleError if the record cannot be written.
    """
    plan = plan_run(job.content, job.styles or None, job.options, model=model)
    settings = {**plan.settings.to_json(), **job.mark}
    with _log(job.record) as log:
        log.start(settings)

        def after_iteration(progress: Progress) -> None:
            log.iteration(progress.losses, progress.scale, scales=progress.scales)
            if callback is not None:
                callback(progress)

        result = execute(plan, callback=after_iteration)
        summary = result.record.summary
        log.end(summary)
    return result, {**settings, "result": summary}


@contextmanager
def _log(path: Path | None) -> Iterator[RunLog]:
    """Open a log under a temporary name; move it to its path when the run has ended well."""
    if path is None:
        yield RunLog(None)
        return
    # The name is random because a process that was killed may have left its file.
    temporary = path.with_name(f"{path.stem}-{secrets.token_hex(4)}.part.jsonl")
    try:
        with RunLog(temporary) as log:
            yield log
        try:
            temporary.replace(path)
        except OSError as error:
            raise GramstyleError(f"cannot write {path}: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
