"""A download over HTTP: connections, retries, and checks of every answer."""

import logging
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
from gramstyle.model.fetch.partial import NUMBER, PartialFile
from gramstyle.model.messages import printable
from gramstyle.model.published import PublicFile

log = logging.getLogger(__name__)

BLOCK = 2**20
# The size limit of a file whose size is not published.
LIMIT = 2**30
# Seconds before a reconnection; doubled after each connection without progress.
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0

# Status codes below 500 that may change on a retry; every 5xx may.
TRANSIENT = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")
# Exceptions of a connection that the server ended.
DISCONNECTED = (
    IncompleteRead,
    ConnectionResetError,
    ConnectionAbortedError,
    BrokenPipeError,
    ssl.SSLEOFError,
)
# Exceptions of an answer that is not valid HTTP; a port out of range overflows.
INVALID_ANSWER = (HTTPException, ValueError, OverflowError)


@dataclass(frozen=True)
class DownloadProgress:
    """The state of a download, as passed to a callback.

    Attributes
    ----------
    done
        Number of bytes received, including those of earlier calls.
    total
        Number of bytes of the whole file, or None if unknown.
    problem
        Why the connection ended, if it is about to be made again; otherwise None.
    """

    done: int
    total: int | None
    problem: str | None = None


class _ConnectionLostError(Exception):
    """The connection ended before the file did; a new connection may bring the rest."""


class _UnavailableError(Exception):
    """An address does not serve the file; another address may."""


class Download:
    """A download in progress.

    Attributes
    ----------
    total
        Number of bytes of the whole file, or None if unknown.
    """

    def __init__(
        self,
        file: PublicFile,
        partial: PartialFile,
        callback: Callable[[DownloadProgress], None] | None,
        timeout: float,
        attempts: int,
    ) -> None:
        self._file, self._partial = file, partial
        self._callback, self._timeout, self._attempts = callback, timeout, attempts
        self._opener = _opener()
        self._limit = file.size or LIMIT
        self.total = file.size

    def run(self) -> None:
        """Complete the partial file from the first address that serves the file."""
        partial = self._partial
        # Already at the size limit: no server can add anything, so check the digest at once.
        if partial.size >= self._limit:
            if partial.is_complete():
                return
            partial.restart()
        problems = []
        for url in self._file.urls:
            log.info("downloading %s from %s", self._file.file_name, url)
            try:
                self._complete(url)
            except _UnavailableError as problem:
                log.info("%s %s", url, problem)
                problems.append(f"{url} {problem}")
            else:
                return
        raise ModelError(
            f"cannot download {self._file.file_name}: {'; '.join(problems)}; "
            f"{partial.resume_hint()}"
        )

    def _complete(self, url: str) -> None:
        """Complete the partial file from one address, over as many connections as needed."""
        partial = self._partial
        # Only bytes beyond the largest size so far count as progress: a server without ranges
        # sends the first ones again and again.
        fruitless, largest = 0, partial.size
        is_restarted = False
        while True:
            try:
                self._receive(url)
            except _ConnectionLostError as problem:
                fruitless = fruitless + 1 if partial.size <= largest else 0
                largest = max(largest, partial.size)
                if fruitless >= self._attempts:
                    raise _UnavailableError(f"{problem} ({fruitless} times in a row)") from None
                self._report(f"{urlsplit(url).hostname} {problem}")
                time.sleep(min(FIRST_WAIT * 2**fruitless, LONGEST_WAIT))
                continue
            if partial.is_complete():
                return
            found, is_joined = partial.hexdigest(), partial.is_joined
            partial.restart()
            if is_restarted or not is_joined:
                raise _UnavailableError(
                    "serves another file than the published one: expected "
                    f"{self._file.digest_text}, found {found}"
                )
            # Bytes of several connections may be of two versions of the file, or damaged on disk.
            is_restarted, fruitless, largest = True, 0, 0

    def _receive(self, url: str) -> None:
        """Append the data of one connection; return when the server has sent the last byte."""
        partial = self._partial
        response = _request(self._opener, url, partial.size, self._timeout)
        if response is None:
            return
        with response:
            self._begin(response)
            for block in _blocks(response):
                partial.append(block[: self._limit - partial.size])
                self._report()
                if partial.size == self._limit:
                    break
        if partial.size < (self.total or 0):
            raise _ConnectionLostError("ended the connection early")

    def _begin(self, response: HTTPResponse) -> None:
        """Check an answer's headers, and discard received bytes that it does not continue."""
        file, partial = self._file, self._partial
        if response.status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            raise _UnavailableError(f"answers {_status_text(response.status)}")
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding.strip().lower() != "identity":
            raise _UnavailableError(
                f"sends the file encoded as {printable(encoding)}, which was not requested"
            )
        start, total = _extent(response)
        if total is not None and not (total == file.size if file.size else total <= LIMIT):
            expected = f"{file.size:,}" if file.size else f"at most {LIMIT:,}"
            raise _UnavailableError(f"has a file of {total:,} bytes, expected {expected}")
        if start == partial.size > 0:
            partial.is_joined = True
        else:
            partial.restart()
            if start != 0:
                raise _ConnectionLostError("sends another part of the file than requested")
        self.total = file.size or total

    def _report(self, problem: str | None = None) -> None:
        if self._callback is not None:
            self._callback(DownloadProgress(self._partial.size, self.total, problem))


def _request(
    opener: request.OpenerDirector, url: str, start: int, timeout: float
) -> HTTPResponse | None:
    """Request a file from byte `start` on; return None if the server has no bytes there."""
    headers = {"Range": f"bytes={start}-"} if start else {}
    try:
        # The opener supports http and https only.
        message = request.Request(url, headers=headers)  # noqa: S310
        response: HTTPResponse = opener.open(message, timeout=timeout)
    except HTTPError as error:
        error.close()
        if start and error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return None
        if error.code < HTTPStatus.BAD_REQUEST:
            raise _UnavailableError("redirects to an address that is not followed") from None
        problem = f"answers {_status_text(error.code)}"
        if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR or error.code in TRANSIENT:
            raise _ConnectionLostError(problem) from None
        raise _UnavailableError(problem) from None
    except (OSError, *INVALID_ANSWER) as error:
        _raise_network_error(error)
    return response


def _extent(response: HTTPResponse) -> tuple[int | None, int | None]:
    """Return the offset of an answer's first byte in the file, and the size of the file."""
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


def _blocks(response: HTTPResponse) -> Iterator[bytes]:
    """Yield the body as it arrives, so that a lost connection loses no received bytes."""
    while True:
        try:
            block = response.read1(BLOCK)
        except (OSError, *INVALID_ANSWER) as error:
            _raise_network_error(error)
        if not block:
            return
        yield block


def _raise_network_error(error: Exception) -> Never:
    """Raise a network failure as a lost connection or an unavailable address."""
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        raise _UnavailableError(
            f"has a certificate that is not trusted here ({printable(reason.verify_message)})"
        ) from None
    if isinstance(reason, TimeoutError):
        raise _ConnectionLostError("stopped sending data") from None
    if isinstance(reason, DISCONNECTED):
        raise _ConnectionLostError("ended the connection early") from None
    if isinstance(reason, INVALID_ANSWER):
        raise _ConnectionLostError(f"does not answer in HTTP ({type(reason).__name__})") from None
    text = getattr(reason, "strerror", None) or str(reason)
    raise _ConnectionLostError(f"cannot be reached ({printable(text)})") from None


def _opener() -> request.OpenerDirector:
    """Return an opener for http and https with the environment's proxies.

    The default opener of urllib would also open local files and FTP.
    """
    opener = request.OpenerDirector()
    opener.addheaders = [("User-Agent", f"gramstyle/{version('gramstyle')}")]
    for handler in (
        request.ProxyHandler(),
        request.HTTPHandler(),
        request.HTTPSHandler(),
        request.UnknownHandler(),
        _RedirectHandler(),
        request.HTTPErrorProcessor(),
        request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener


class _RedirectHandler(request.HTTPRedirectHandler):
    """Follows redirects, but never from https to http.

    The digest reveals most changes made on the way, but an MD5 or eight digits are no proof.
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
        """Return the request for the new address."""
        # Closed before urllib reads its body, which may be endless.
        fp.close()
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new not in {"https", old}:
            raise _UnavailableError(
                f"redirects from {old} to {printable(new)}, which is not followed"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _status_text(status: int) -> str:
    """Return a status code with its standard phrase, not the server's own phrase."""
    try:
        return f"{status} ({HTTPStatus(status).phrase})"
    except ValueError:
        return str(status)
