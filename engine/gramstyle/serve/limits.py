"""What one job and all jobs together may take."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of a service.

    Attributes
    ----------
    upload_bytes, pixels
        The size of an uploaded file in bytes, and of its image in pixels.
    size, iterations, styles
        The longer edge of a result in pixels, the option `iterations`, the number of style images.
    seconds
        The time that a job computes, in seconds; it ends then with the image so far.
    queue
        How many jobs may wait.
    results
        How many ended jobs are kept; the oldest are removed.
    uploads
        How many bytes of uploads that no job uses are kept; the oldest are removed.
    storage
        How many bytes all files of the service may have; then uploads and jobs are refused.
    retries
        How often a job starts again after its worker has died, unless it gets further each time.
    watchers
        How many clients may follow the events of jobs at the same time.
    """

    upload_bytes: int = 32_000_000
    pixels: int = 50_000_000
    size: int = 1024
    iterations: int = 1000
    styles: int = 8
    seconds: int = 3600
    queue: int = 500
    results: int = 1000
    uploads: int = 1_000_000_000
    storage: int = 20_000_000_000
    retries: int = 3
    watchers: int = 256
