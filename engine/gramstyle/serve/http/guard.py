"""What a request must meet before the application sees it: sender, token, size; and headers."""

import asyncio
import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from gramstyle.serve.http.problems import BodyError, problem

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "gramstyle-session"
# Names under which a browser on this machine reaches a server that needs no token. With others, a
# page on the internet could point its own name at this machine (DNS rebinding).
LOOPBACK = ("localhost", "127.0.0.1", "::1")
# What needs no token: the page itself shows nothing of anybody.
_OPEN = ("/", "/about", "/session", "/healthz", "/readyz", "/favicon.ico")
_SAFE = ("GET", "HEAD", "OPTIONS")
# How long the body of a request may take: so many seconds, and one more for so many bytes.
_BODY_SECONDS, _BODY_RATE = 30.0, 20_000
# A JSON body is small; images may be large.
_JSON_BYTES = 200_000
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; style-src 'self'; "
    "script-src 'self'; connect-src 'self'; object-src 'none'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'self'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who may use the service.

    Attributes
    ----------
    token
        The token that a client must show; None lets everybody who reaches the address in.
    upload_bytes
        The largest body of an upload, in bytes.
    form_bytes
        The largest body of a form with several images.
    held_bytes
        The most bytes that the bodies of all present requests may have together, beyond the first
        of them: they are in memory.
    """

    token: str | None
    upload_bytes: int
    form_bytes: int
    held_bytes: int = 256_000_000

    @property
    def session(self) -> str:
        """The value of the cookie of a browser that has shown the token."""
        key = (self.token or "").encode()
        return hmac.new(key, b"gramstyle session", hashlib.sha256).hexdigest()

    def is_token(self, given: str) -> bool:
        """Return whether a text is the token, in a time that does not depend on the text."""
        return self.token is None or hmac.compare_digest(given.encode(), self.token.encode())

    def admits(self, headers: Headers) -> bool:
        """Return whether a request shows the token, or the cookie of a session."""
        if self.token is None:
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.casefold() == "bearer":
            return self.is_token(given.strip())
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(
            cookie.value.encode(), self.session.encode()
        )

    def most_bytes(self, path: str, headers: Headers) -> int:
        """Return how large the body of a request may be."""
        if path == "/uploads":
            return self.upload_bytes
        if headers.get("content-type", "").casefold().startswith("multipart/"):
            return self.form_bytes
        return _JSON_BYTES


class Guard:
    """An ASGI application in front of the service, which refuses what must not pass."""

    def __init__(self, app: App, access: Access) -> None:
        self._app, self._access, self._held = app, access, _Held(access.held_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a problem."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, _with_headers(send))
            return
        body = _Body(receive, self._access.most_bytes(scope["path"], headers), self._held)
        if body.is_too_large(headers.get("content-length", "")):
            await _too_large(body.most)(scope, receive, _with_headers(send))
            return
        try:
            await self._app(scope, body.receive, _with_headers(send))
        finally:
            body.release()

    def _refusal(self, scope: Scope, headers: Headers) -> App | None:
        host = headers.get("host", "")
        if self._access.token is None and _host_name(host) not in LOOPBACK:
            return problem(
                421, "this server answers on this machine only; open it as http://localhost"
            )
        if scope["method"] not in _SAFE and not _same_origin(headers, host):
            return problem(403, "the request comes from a page of another site")
        path = scope["path"]
        is_open = path in _OPEN or path.startswith("/static/")
        if not is_open and not self._access.admits(headers):
            return problem(
                401,
                "this server needs its token; send it as Authorization: Bearer TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )
        return None


class _Held:
    """How many bytes the bodies of all present requests have, and how many they may have."""

    def __init__(self, most: int) -> None:
        self.most, self.bytes = most, 0


class _Body:
    """The body of a request, which may have so many bytes."""

    def __init__(self, receive: Receive, most: int, held: _Held) -> None:
        self._receive, self.most, self._held = receive, most, held
        self._seen, self._over = 0, False
        self._began = time.monotonic()

    def is_too_large(self, length: str) -> bool:
        """Return whether a Content-Length is above the limit, or is none."""
        return bool(length) and (not length.isdecimal() or int(length[:20]) > self.most)

    async def receive(self) -> MutableMapping[str, Any]:
        """Return the next part; raises BodyError."""
        if self._over:  # the application waits for the end of the connection
            return await self._receive()
        left = self._began + _BODY_SECONDS + self._seen / _BODY_RATE - time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, left))
        except TimeoutError:
            raise BodyError(problem(408, "the request took too long; send it again")) from None
        self._take(len(message.get("body", b"")))
        self._over = not message.get("more_body", False)
        return message

    def release(self) -> None:
        """Forget the body at the end of its request."""
        self._held.bytes -= self._seen
        self._seen = 0

    def _take(self, count: int) -> None:
        others = self._held.bytes - self._seen
        self._seen += count
        self._held.bytes += count
        if self._seen > self.most:
            raise BodyError(_too_large(self.most))
        if others and others + self._seen > self._held.most:
            raise BodyError(
                problem(
                    429,
                    "too many images arrive at the same time; try again later",
                    {"Retry-After": "5"},
                )
            )


def _too_large(most: int) -> Response:
    return problem(413, f"the request has more than {most:,} bytes, the limit of this server")


def _with_headers(send: Send) -> Send:
    """Add the headers of security to a response."""

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sending


def _same_origin(headers: Headers, host: str) -> bool:
    """Return whether a request comes from a page of this server, or from no page at all."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc.casefold() == host.casefold()
    except ValueError:
        return False


def _host_name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
