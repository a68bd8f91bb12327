"""A download over the network: connections, answers, and which of them to believe."""

import re
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException, HTTPMessage, HTTPResponse, IncompleteRead
from importlib.metadata import version
from typing import IO, Never
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from gramstyle.errors import ModelError
from gramstyle.model.fetch.part import NUMBER, Part, expected_digest
from gramstyle.model.published import PublicFile

BLOCK = 2**20
# The most that is taken of a file whose size is not known.
LIMIT = 2**30
# Seconds before a broken connection is tried again, doubled each time that brought nothing.
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0

# Answers that may be another a little later; so may every 5xx.
PASSING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
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


class _BrokenError(Exception):
    """A connection ended before the file did; another one may bring the rest."""


class _ElsewhereError(Exception):
    """An address does not have the file; another one may."""


class Download:
    """A download under way.

    Attributes
    ----------
    total
        How many bytes the whole file has, as far as that is known.
    """

    def __init__(
        self,
        file: PublicFile,
        part: Part,
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
                    f"{expected_digest(self._file)}, found {found}"
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
