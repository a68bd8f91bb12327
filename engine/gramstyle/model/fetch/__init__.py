"""Download a published weights file; resume partial downloads; check the digest.

A download is written to TARGET.part and renamed to TARGET once its digest is right. The server's
version of a partial file (ETag, If-Range) is not recorded: if the file changed on the server in
between, the digest is wrong, and the file is downloaded once more from the start.

The downloads do not go through pooch, which deletes a partial file whenever a download stops, so
it cannot resume, and which limits neither the size of a download nor the redirects it follows.
"""

from collections.abc import Callable
from pathlib import Path

from gramstyle.errors import ModelError
from gramstyle.model.fetch.download import Download, DownloadProgress
from gramstyle.model.fetch.partial import PartialFile, is_downloaded, report_disk_errors, sibling
from gramstyle.model.published import PublicFile
from gramstyle.system.files import check_folder
from gramstyle.system.lock import locked

__all__ = ["DownloadProgress", "fetch"]


def fetch(
    file: PublicFile,
    target: Path,
    *,
    callback: Callable[[DownloadProgress], None] | None = None,
    timeout: float = 30.0,
    attempts: int = 5,
) -> Path:
    """Download a file, or resume the download that an earlier call left in TARGET.part.

    Nothing is downloaded if the target already is the published file. An error or Ctrl-C leaves
    the received bytes for the next call. The download uses the proxies of the environment and
    the certificates of the system.

    Parameters
    ----------
    file
        The file to download.
    target
        The path to write.
    callback
        Called after every block of data and before every reconnection.
    timeout
        Seconds without data after which a connection counts as lost.
    attempts
        Number of consecutive connections without progress after which an address is given up.

    Returns
    -------
    Path
        The target.

    Raises
    ------
    ModelError
        If the file cannot be downloaded or written, if the server's file is not the published
        one, or if another file already has the target's name.
    """
    with report_disk_errors(target):
        check_folder(target, error=ModelError)
    if is_downloaded(file, target):
        return target
    downloading = f"is downloading {target}; wait until it has finished, or choose another name"
    with locked(target, error=ModelError, action=downloading):
        # Another process may have completed the file before it released the lock.
        if not is_downloaded(file, target):
            path = sibling(target, ".part")
            with PartialFile(path, file) as partial:
                Download(file, partial, callback, timeout, attempts).run()
            is_downloaded(file, target)  # raises if another file appeared there meanwhile
            with report_disk_errors(target):
                path.replace(target)
    return target
