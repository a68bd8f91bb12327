"""Fetch a published file of weights: resumed where it stopped, believed only by its digest.

A file grows as TARGET.part beside its place and gets its name once its digest is right. There is
no record of which version on the server a part was begun from (ETag, If-Range): whatever the
server did in between, a part that was completed wrongly shows in the digest, and is fetched
afresh once.
"""

import hashlib
import os
import re
import ssl
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.client import HTTPException, HTTPMessage, HTTPResponse, IncompleteRead
from importlib.metadata import version
from io import FileIO
from pathlib import Path
from typing import IO, Never, Self
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from gramstyle.errors import ModelError
from gramstyle.model.published import PublicFile

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

BLOCK = 2**20
# The most that is taken of a file whose size is not known.
LIMIT = 2**30
# Seconds before a broken connection is tried again, doubled each time that brought nothing.
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0

# Answers that may be another a little later; so may every 5xx.
PASSING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
NUMBER = re.compile(r"[0-9]{1,18}")
CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")
# How a connection that broke shows itself.
ENDED = (
    IncompleteRead,
    ConnectionResetError,
    ConnectionAbortedError,
    BrokenPipeError,
    ssl.SSLEOFError,
)
# How an answer that makes no sense shows itself; an absurd port is an overflow.
NONSENSE = (HTTPException, ValueError, OverflowError)
# Text from elsewhere is cut to this.
LONGEST_TEXT = 200


@dataclass(frozen=True)
class Received:
    """What a callback is told while a file arrives.

    Attributes
    ----------
    done
        How many bytes of the file are there, those of earlier calls too.
    total
        How many it has, or None while that is not known.
    problem
        Why the connection ended, if it did and will be made again; else None.
    """

    done: int
    total: int | None
    problem: str | None = None


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
    with _on_disk(target):
        has_folder = target.parent.is_dir()
    if not has_folder:
        raise ModelError(
            f"cannot write {target}: there is no folder {target.parent}; make it first"
        )
    if _is_there(file, target):
        return target
    with _alone(target):
        # The process that was here before may just have finished it.
        if not _is_there(file, target):
            path = _beside(target, ".part")
            with _Part(path, file) as part:
                _Download(file, part, callback, patience, attempts).run()
            _is_there(file, target)  # refuses to overwrite what has come there meanwhile
            with _on_disk(target):
                path.replace(target)
    return target


# On disk


def _is_there(file: PublicFile, target: Path) -> bool:
    """Say whether the file is there; raises ModelError if anything else is."""
    if not os.path.lexists(target):
        return False
    with _on_disk(target, "read"):
        is_file = target.is_file()
    if not is_file:
        raise ModelError(f"{target} is there and is not a file; move it away")
    with _on_disk(target, "read"), target.open("rb") as stream:
        found = hashlib.file_digest(stream, _hash_of(file)).hexdigest()
    if not file.is_digest(found):
        raise ModelError(
            f"{target} is there and is not the published file: expected {_expected(file)}, found "
            f"{found}; move it away, or choose another name"
        )
    return True


def _beside(target: Path, suffix: str) -> Path:
    """Return the name of a passing file; raises ModelError where that is not for a plain file."""
    path = target.with_name(target.name + suffix)
    # What a link leads to would be overwritten, and a pipe would be waited for. It is looked at
    # once, because another process may remove it between two looks.
    with _on_disk(path), suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise ModelError(f"{path} is there and is not a plain file; move it away")
    return path


def _hash_of(file: PublicFile) -> "Callable[[], hashlib._Hash]":
    """Return what begins a hash of the kind that is published."""
    return partial(hashlib.new, file.algorithm, usedforsecurity=False)


def _expected(file: PublicFile) -> str:
    """Return the published digest as text, with an ellipsis where not all of it is published."""
    whole = len(file.digest) == 2 * _hash_of(file)().digest_size
    return f"{file.algorithm} {file.digest}{'' if whole else '…'}"


@contextmanager
def _on_disk(path: Path, what: str = "write", then: str = "") -> Iterator[None]:
    """Say in one line what the disk refused, and what then."""
    try:
        yield
    except OSError as error:
        raise ModelError(f"cannot {what} {path}: {error.strerror}{then}") from None


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Keep every other process from fetching the same file meanwhile.

    The lock is the system's, on a file that holds this process's number: it ends with the
    process, however that ends.

    Raises
    ------
    ModelError
        If another process is at it.
    """
    path = _beside(target, ".lock")
    with _on_disk(path):
        stream = path.open("a+b", buffering=0)
    with stream:
        try:
            _lock(stream)
            # One that another process has removed since it was opened keeps nobody away.
            held = os.path.samestat(os.fstat(stream.fileno()), path.stat())
        except (BlockingIOError, PermissionError, FileNotFoundError):
            held = False
        except OSError as error:
            raise ModelError(f"cannot lock {path}: {error.strerror}") from None
        if not held:
            stream.seek(0)
            holder = stream.read(20).decode("ascii", "replace")
            number = f" (number {holder})" if NUMBER.fullmatch(holder) else ""
            raise ModelError(
                f"another process{number} is downloading {target}; wait until it is done, or "
                "choose another name"
            )
        with _on_disk(path):
            stream.truncate(0)
            stream.write(str(os.getpid()).encode())
        try:
            yield
        finally:
            with suppress(OSError):  # Windows does not remove what is open
                path.unlink()


def _lock(stream: FileIO) -> None:
    """Lock a file without waiting; raises BlockingIOError or PermissionError if another has."""
    if sys.platform == "win32":
        # A byte far behind the text, which stays readable so.
        stream.seek(LIMIT)
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


class _Part:
    """What has arrived of a file, on disk, and its hash.

    Attributes
    ----------
    size
        How many bytes are there.
    joined
        Whether they came over more than one connection.
    """

    def __init__(self, path: Path, file: PublicFile) -> None:
        self._path, self._file = path, file
        with _on_disk(path):
            # Without a buffer, what has arrived is with the system however this process ends,
            # and nothing is left to write, and to fail, when the file is closed.
            self._stream = path.open("a+b", buffering=0)
            self._stream.seek(0)
            self._hash = hashlib.file_digest(self._stream, _hash_of(file))
            self.size = self._stream.tell()
        self.joined = self.size > 0

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close the file, and remove it where it holds nothing."""
        self._stream.close()
        if not self.size:
            with suppress(OSError):
                self._path.unlink()

    def append(self, data: bytes) -> None:
        """Write what has arrived."""
        with _on_disk(self._path, then=f"; {self.kept()}"):
            written = 0
            while written < len(data):
                written += self._stream.write(memoryview(data)[written:])
        self._hash.update(data)
        self.size += len(data)

    def restart(self) -> None:
        """Forget everything."""
        with _on_disk(self._path):
            self._stream.truncate(0)
        self._hash, self.size, self.joined = _hash_of(self._file)(), 0, False

    def is_whole(self) -> bool:
        """Say whether the published file is there, and if so see it safely on disk."""
        if not self._file.is_digest(self.hexdigest()):
            return False
        with _on_disk(self._path, then=f"; {self.kept()}"):
            os.fsync(self._stream.fileno())
        return True

    def hexdigest(self) -> str:
        """Return the digest of what is there."""
        return self._hash.hexdigest()

    def kept(self) -> str:
        """Return how far it got, and how to go on."""
        if not self.size:
            return (
                "nothing is kept; try again later, or get it in another way and give it as: "
                "gramstyle model export --from FILE"
            )
        of = f" of {self._file.size:,}" if self._file.size else ""
        return (
            f"{self.size:,}{of} bytes are kept in {self._path}, and the same command goes on "
            "from there"
        )


# Over the network


class _BrokenError(Exception):
    """A connection ended before the file did; another one may bring the rest."""


class _ElsewhereError(Exception):
    """An address does not have the file; another one may."""


class _Download:
    """A download under way.

    Attributes
    ----------
    total
        How many bytes the whole file has, as far as that is known.
    """

    def __init__(
        self,
        file: PublicFile,
        part: _Part,
        callback: Callable[[Received], None] | None,
        patience: float,
        attempts: int,
    ) -> None:
        self._file, self._part = file, part
        self._callback, self._patience, self._attempts = callback, patience, attempts
        self._opener = _opener()
        self._limit = file.size or LIMIT
        self.total = file.size

    def run(self) -> None:
        """Make the part whole, from the first address that has the file."""
        part = self._part
        # No server can add to this much, so it is judged at once.
        if part.size >= self._limit:
            if part.is_whole():
                return
            part.restart()
        problems = []
        for url in self._file.urls:
            try:
                self._complete(url)
            except _ElsewhereError as problem:
                problems.append(f"{url} {problem}")
            else:
                return
        raise ModelError(
            f"cannot download {self._file.file_name}: {'; '.join(problems)}; {part.kept()}"
        )

    def _complete(self, url: str) -> None:
        """Make the part whole from one address, over as many connections as it takes."""
        part = self._part
        # What a server sends once more is no progress.
        fruitless, most = 0, part.size
        afresh = False
        while True:
            try:
                self._receive(url)
            except _BrokenError as problem:
                fruitless = fruitless + 1 if part.size <= most else 0
                most = max(most, part.size)
                if fruitless >= self._attempts:
                    raise _ElsewhereError(f"{problem} ({fruitless} times in a row)") from None
                self._report(f"{urlsplit(url).hostname} {problem}")
                time.sleep(min(FIRST_WAIT * 2**fruitless, LONGEST_WAIT))
                continue
            if part.is_whole():
                return
            found, joined = part.hexdigest(), part.joined
            part.restart()
            if afresh or not joined:
                raise _ElsewhereError(
                    "has another file than the published one: expected "
                    f"{_expected(self._file)}, found {found}"
                )
            # What came over several connections may be two versions of the file, or damaged
            # since.
            afresh, fruitless, most = True, 0, 0

    def _receive(self, url: str) -> None:
        """Append what one connection brings; returns when the server says that this was all."""
        part = self._part
        response = _ask(self._opener, url, part.size, self._patience)
        if response is None:
            return
        with response:
            self._begin(response)
            for piece in _pieces(response):
                part.append(piece[: self._limit - part.size])
                self._report()
                if part.size == self._limit:
                    break
        if part.size < (self.total or 0):
            raise _BrokenError("ended the connection early")

    def _begin(self, response: HTTPResponse) -> None:
        """Judge an answer by its head, and make the part end where it begins."""
        file, part = self._file, self._part
        if response.status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            raise _ElsewhereError(f"answers {_named(response.status)}")
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding.strip().lower() != "identity":
            raise _ElsewhereError(f"sends it encoded as {_printable(encoding)}, unasked")
        start, total = _extent(response)
        if total is not None and not (total == file.size if file.size else total <= LIMIT):
            expected = f"{file.size:,}" if file.size else f"at most {LIMIT:,}"
            raise _ElsewhereError(f"has a file of {total:,} bytes, expected {expected}")
        if start == part.size > 0:
            part.joined = True
        else:
            part.restart()
            if start != 0:
                raise _BrokenError("sends another part of the file than it was asked for")
        self.total = file.size or total

    def _report(self, problem: str | None = None) -> None:
        if self._callback is not None:
            self._callback(Received(self._part.size, self.total, problem))


def _ask(
    opener: request.OpenerDirector, url: str, start: int, patience: float
) -> HTTPResponse | None:
    """Ask for a file from a byte on; None if the server has nothing there."""
    headers = {"Range": f"bytes={start}-"} if start else {}
    try:
        # The opener knows http and https only.
        asked = request.Request(url, headers=headers)  # noqa: S310
        response: HTTPResponse = opener.open(asked, timeout=patience)
    except HTTPError as error:
        error.close()
        if start and error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return None
        if error.code < HTTPStatus.BAD_REQUEST:
            raise _ElsewhereError("redirects to where it is not followed") from None
        problem = f"answers {_named(error.code)}"
        if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR or error.code in PASSING:
            raise _BrokenError(problem) from None
        raise _ElsewhereError(problem) from None
    except (OSError, *NONSENSE) as error:
        _raise_network(error)
    return response


def _extent(response: HTTPResponse) -> tuple[int | None, int | None]:
    """Return with which byte of the file an answer begins and how many bytes the file has."""
    announced = NUMBER.fullmatch(response.headers.get("Content-Length", ""))
    length = int(announced[0]) if announced else None
    if response.status == HTTPStatus.OK:
        return 0, length
    extent = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    if extent is None:
        return None, None
    start = int(extent[1])
    if extent[2] != "*":
        return start, int(extent[2])
    return start, None if length is None else start + length


def _pieces(response: HTTPResponse) -> Iterator[bytes]:
    """Give the body as it arrives; what has arrived before a connection breaks is not lost."""
    while True:
        try:
            piece = response.read1(BLOCK)
        except (OSError, *NONSENSE) as error:
            _raise_network(error)
        if not piece:
            return
        yield piece


def _raise_network(error: Exception) -> Never:
    """Raise what a failure of the network means here."""
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        raise _ElsewhereError(
            f"shows a certificate that is not trusted here ({_printable(reason.verify_message)})"
        ) from None
    if isinstance(reason, TimeoutError):
        raise _BrokenError("sends nothing any more") from None
    if isinstance(reason, ENDED):
        raise _BrokenError("ended the connection early") from None
    if isinstance(reason, NONSENSE):
        raise _BrokenError(f"answers what is not HTTP ({type(reason).__name__})") from None
    text = getattr(reason, "strerror", None) or str(reason)
    raise _BrokenError(f"cannot be reached ({_printable(text)})") from None


def _opener() -> request.OpenerDirector:
    """Return what opens addresses: the environment's proxies, the system's certificates.

    Put together by hand, because urllib's own one opens local files and FTP too.
    """
    opener = request.OpenerDirector()
    opener.addheaders = [("User-Agent", f"gramstyle/{version('gramstyle')}")]
    for handler in (
        request.ProxyHandler(),
        request.HTTPHandler(),
        request.HTTPSHandler(),
        request.UnknownHandler(),
        _Redirects(),
        request.HTTPErrorProcessor(),
        request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener


class _Redirects(request.HTTPRedirectHandler):
    """Follows redirects, but never from https to http.

    The digests would tell most changes on the way, but an MD5 or eight digits are no proof.
    """

    def redirect_request(
        self,
        req: request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> request.Request | None:
        """Return the request to make instead."""
        # Closed before urllib reads its body, which may have no end.
        fp.close()
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new not in {"https", old}:
            raise _ElsewhereError(f"redirects from {old} to {_printable(new)}, unfollowed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _named(status: int) -> str:
    """Return an answer's number and what it means, whatever words the server had for it."""
    try:
        return f"{status} ({HTTPStatus(status).phrase})"
    except ValueError:
        return str(status)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:LONGEST_TEXT])
