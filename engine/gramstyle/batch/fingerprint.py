"""A hash of all that a job's image comes from, to know it again without decoding images."""

import hashlib
import json
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

from gramstyle.batch.jobs import Job
from gramstyle.cluster.worker import installed_version
from gramstyle.run.options import STARTS
from gramstyle.run.reuse import ASIDE

# Where an image's settings have it.
SETTING = "recipe"


def recipe(job: Job, *, model: Path) -> str | None:
    """Return the SHA-256 of what the job's image is made from.

    That is the bytes of its files, the network's too, all options that its image depends on, as
    they were asked for, and the version of gramstyle, which chooses the others. Two jobs with one
    recipe have one image, but for what a machine chooses (tiles, a history shortened for want
    of disk) and for rounding. Two recipes may have one too: that of a file whose pixels are the
    same and whose bytes are not.

    Parameters
    ----------
    job
        The job.
    model
        The network's file.

    Returns
    -------
    str or None
        None where a file cannot be read.
    """
    start = job.options.start
    options = {name: value for name, value in asdict(job.options).items() if name not in ASIDE}
    options["engine"] = job.options.runs_on
    options["init"] = start if start in STARTS else "an image"
    try:
        files = [_hash(path) for path in (model, *job.inputs)]
    except OSError:
        return None
    told = json.dumps([installed_version(), files, options], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def _hash(path: Path) -> str:
    found = path.stat()
    times = found.st_mtime_ns, found.st_ctime_ns
    return _hash_of(path, found.st_dev, found.st_ino, found.st_size, *times)


# The network and a painting are those of many jobs. A file that was changed has other times.
@lru_cache(maxsize=64)
def _hash_of(path: Path, *_state: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
