"""Download a published file of weights: resumed where it broke off, whole and checked.

The standard library's urllib goes through the environment's proxies and checks servers by the
system's certificates.
"""

import errno
import hashlib
import os
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage, HTTPResponse
from importlib.metadata import version
from io import SEEK_END, FileIO
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from gramstyle.errors import ModelError
from gramstyle.model.published import PublicFile

CHUNK = 1024 * 1024
# Of a file whose size is not published, more than this is something else.
MAX_BYTES = 1024 * 1024 * 1024
# The wait after the first failure, in seconds; it doubles after each further one, up to eightfold.
WAIT = 1.0

GONE = frozenset({403, 404, 410})
RANGE_ENDS = 416


@dataclass(frozen=True)
class Received:
    """How far a download is: bytes on disk, and how many there will be, if that is known."""

    done: int
    total: int | None


class _BrokenOffError(Exception):
    """A failure after which another attempt makes sense."""


class _GoneError(Exception):
    """The file is not at this address."""


def fetch(
    file: PublicFile,
    target: Path,
    *,
    callback: Callable[[Received], None] | None = None,
    patience: float = 30.0,
    attempts: int = 5,
) -> Path:
    """Download a public file, unless it is there already.

    What has been received lies beside the target, as NAME.part, until it is complete and its
    hash is right; a later call goes on from there.

    Parameters
    ----------
    file
        Which.
    target
        Where to.
    callback
        Told after every block.
    patience
        How many seconds may pass without a byte.
    attempts
        How many failures in a row, without a further byte, end the download.

    Raises
    ------
    ModelError
        If it cannot be had, is not the published file, or cannot be written; one line says what
        to do.
    """
    if not target.parent.is_dir():
        raise ModelError(
            f"cannot write {target}: there is no folder {target.parent}; make it first"
        )
    if _is_there(file, target):
        return target
    part = target.with_name(f"{target.name}.part")
    try:
        with part.open("ab+", buffering=0) as stream:
            _lock(stream, part)
            # Another process may have ended in the meantime.
            if _is_there(file, target):
                return target
            download = _Download(file, stream, part, callback, patience)
            download.run(attempts)
            os.fsync(stream.fileno())
            if sys.platform == "win32":
                stream.close()
            part.replace(target)
    except OSError as error:
        raise ModelError(f"cannot write {part}: {error.strerror or error}") from None
    return target


def _is_there(file: PublicFile, target: Path) -> bool:
    if not target.exists():
        return False
    if not target.is_file():
        raise ModelError(f"cannot write {target}: it is there and is not a file")
    with target.open("rb") as stream:
        digest = hashlib.file_digest(stream, file.algorithm).hexdigest()
    if not file.is_digest(digest):
        raise ModelError(
            f"{target} is there and is not {file.file_name}: expected the {file.algorithm} "
            f"{file.digest}, found {digest}; move it away or choose another --to"
        )
    return True


def _lock(stream: FileIO, part: Path) -> None:
    """Keep others from the same file; the system gives the lock back if the process dies."""
    try:
        if sys.platform == "win32":
            import msvcrt

            stream.seek(MAX_BYTES)  # a byte that no part has, since a locked one cannot be read
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ModelError(f"another process is downloading {part}; wait for it to end") from None


class _Download:
    """A download under way: what is on disk, and its hash so far."""

    def __init__(
        self,
        file: PublicFile,
        stream: FileIO,
        part: Path,
        callback: Callable[[Received], None] | None,
        patience: float,
    ) -> None:
        self.file = file
        self.stream = stream
        self.part = part
        self.callback = callback
        self.patience = patience
        self.urls = list(file.urls)
        self.opener = build_opener(_Redirects)
        self.limit = MAX_BYTES if file.size is None else file.size
        self.digest = hashlib.new(file.algorithm, usedforsecurity=False)
        self.done = 0
        stream.seek(0)
        while block := stream.read(CHUNK):
            self.digest.update(block)
            self.done += len(block)

    def run(self, attempts: int) -> None:
        """Receive until the file is complete and right."""
        # What an earlier attempt left may come from another version of the file: it is worth one
        # fresh start.
        for is_fresh in (self.done == 0, True):
            self._receive(attempts)
            found = self.digest.hexdigest()
            if self.file.is_digest(found):
                return
            self._start_anew()
            if is_fresh:
                break
        self.part.unlink(missing_ok=True)
        raise ModelError(
            f"what {self._host()} sent is not {self.file.file_name}: expected the "
            f"{self.file.algorithm} {self.file.digest}, found {found}; it was removed"
        )

    def _receive(self, attempts: int) -> None:
        """Ask again and again until all is there, as long as it gets further."""
        best, failures = self.done, 0
        while True:
            try:
                return self._ask()
            except _GoneError as error:
                self.urls.pop(0)
                if not self.urls:
                    raise ModelError(f"cannot download {self.file.file_name}: {error}") from None
            except _BrokenOffError as error:
                failures = 1 if self.done > best else failures + 1
                best = max(best, self.done)
                if failures >= attempts:
                    raise ModelError(
                        f"the download of {self.file.file_name} broke off at {self.done} bytes "
                        f"({error}); the same command goes on from there"
                    ) from None
                time.sleep(WAIT * 2 ** min(failures - 1, 3))

    def _ask(self) -> None:
        """Make one request for what is missing and write what comes."""
        if self.done == self.file.size:
            return
        headers = {
            "User-Agent": f"gramstyle/{version('gramstyle')}",
            "Accept-Encoding": "identity",
        }
        if self.done:
            headers["Range"] = f"bytes={self.done}-"
        try:
            request = Request(self.urls[0], headers=headers)  # noqa: S310 - http and https alone
            with self.opener.open(request, timeout=self.patience) as answer:
                self._take(answer)
        except HTTPError as error:
            self._judge(error)
        except URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise ModelError(
                    f"cannot download {self.file.file_name}: {self._host()} has no certificate "
                    f"that this system trusts ({error.reason.verify_message})"
                ) from None
            raise _BrokenOffError(str(error.reason)) from None
        except TimeoutError:
            raise _BrokenOffError(f"nothing came for {self.patience:g} seconds") from None
        except (HTTPException, ConnectionError, ssl.SSLError) as error:
            raise _BrokenOffError(str(error) or type(error).__name__) from None

    def _judge(self, error: HTTPError) -> None:
        """Decide what an answer that is no file means."""
        if error.code == RANGE_ENDS and self.done:
            # All is there, or what is there is of another file.
            if not self.file.is_digest(self.digest.hexdigest()):
                self._start_anew()
                raise _BrokenOffError("the server has less than was received") from None
        elif error.code in GONE:
            raise _GoneError(f"{self._host()} says {error.code} {error.reason}") from None
        elif error.code == 429 or error.code >= 500:
            raise _BrokenOffError(f"{self._host()} says {error.code} {error.reason}") from None
        else:
            raise ModelError(
                f"cannot download {self.file.file_name}: {self._host()} says {error.code} "
                f"{error.reason}"
            ) from None

    def _take(self, answer: HTTPResponse) -> None:
        if encoding := answer.headers.get("Content-Encoding"):
            raise ModelError(
                f"{self._host()} sends {self.file.file_name} encoded ({encoding}), unasked"
            )
        if self.done and not self._goes_on(answer):
            self._start_anew()
            if answer.status != 200:
                raise _BrokenOffError("the server sent another part than was asked for")
        announced = _number(answer.headers.get("Content-Length"))
        total = None if announced is None else self.done + announced
        while block := answer.read1(CHUNK):
            if self.done + len(block) > self.limit:
                self._start_anew()
                self.part.unlink(missing_ok=True)
                raise ModelError(
                    f"{self._host()} sends more than the {self.limit} bytes that "
                    f"{self.file.file_name} can have; what came was removed"
                )
            self._write(block)
            if self.callback is not None:
                self.callback(Received(self.done, self.file.size or total))
        for expected in (total, self.file.size):
            if expected is not None and self.done < expected:
                raise _BrokenOffError(f"the connection ended before {expected} bytes")

    def _goes_on(self, answer: HTTPResponse) -> bool:
        """Say whether an answer is the part that was asked for."""
        span = answer.headers.get("Content-Range", "")
        return answer.status == 206 and span.startswith(f"bytes {self.done}-")

    def _write(self, block: bytes) -> None:
        view = memoryview(block)
        try:
            while view:
                view = view[self.stream.write(view) :]
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise ModelError(f"cannot write {self.part}: {error.strerror}") from None
            raise ModelError(
                f"there is no space left for {self.part}; make some, and the same command goes on"
            ) from None
        finally:
            written = block[: len(block) - len(view)]
            self.digest.update(written)
            self.done += len(written)

    def _start_anew(self) -> None:
        self.stream.truncate(0)
        self.stream.seek(0, SEEK_END)
        self.digest = hashlib.new(self.file.algorithm, usedforsecurity=False)
        self.done = 0

    def _host(self) -> str:
        return str(urlsplit(self.urls[0]).hostname)


class _Redirects(HTTPRedirectHandler):
    """Follows a server elsewhere, but not to other protocols, nor from a safe one to plain http."""

    def redirect_request(
        self,
        req: Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> Request | None:
        """Return the request to make instead."""
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new not in ("http", "https") or (old, new) == ("https", "http"):
            raise ModelError(f"the server leads from {old} to {new}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None
