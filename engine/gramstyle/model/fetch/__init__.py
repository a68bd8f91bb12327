"""Fetch a published file of weights: resumed where it stopped, believed only by its digest.

A file grows as TARGET.part beside its place and gets its name once its digest is right. There is
no record of which version on the server a part was begun from (ETag, If-Range): whatever the
server did in between, a part that was completed wrongly shows in the digest, and is fetched
afresh once.
"""

from collections.abc import Callable
from pathlib import Path

from gramstyle.errors import ModelError
from gramstyle.model.fetch.download import Download, Received
from gramstyle.model.fetch.part import Part, alone, beside, is_there, on_disk
from gramstyle.model.published import PublicFile
from gramstyle.system.files import check_folder

__all__ = ["Received", "fetch"]


def fetch(
    file: PublicFile,
    target: Path,
    *,
    callback: Callable[[Received], None] | None = None,
    patience: float = 30.0,
    attempts: int = 5,
) -> Path:
    """Download a file, going on with what an earlier call has left in TARGET.part.

    Where the file is there already, nothing is downloaded. Whatever stops the download, Ctrl-C
    too, leaves what has arrived for the next call. The environment's proxies are used, and the
    system's certificates.

    Parameters
    ----------
    file
        What to fetch.
    target
        Where to put it.
    callback
        Told of everything that arrives, and of every connection that is made again.
    patience
        Seconds without a byte after which a connection is given up.
    attempts
        How many connections in a row may bring nothing before an address is given up.

    Returns
    -------
    Path
        The target.

    Raises
    ------
    ModelError
        If the file cannot be had or cannot be written, is not the one that was published, or
        another one is in its place.
    """
    with on_disk(target):
        check_folder(target, error=ModelError)
    if is_there(file, target):
        return target
    with alone(target):
        # The process that was here before may just have finished it.
        if not is_there(file, target):
            path = beside(target, ".part")
            with Part(path, file) as part:
                Download(file, part, callback, patience, attempts).run()
            is_there(file, target)  # refuses to overwrite what has come there meanwhile
            with on_disk(target):
                path.replace(target)
    return target
