"""Errors as RFC 9457 problems in JSON, with the sentences of the command line."""

import errno
import json
import logging
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route

from gramstyle.errors import GramstyleError, ImageError, ModelError, OptionError
from gramstyle.serve.folder import FolderError, StorageError
from gramstyle.serve.service import FullError, InUseError, UnknownError
from gramstyle.serve.store import StoreError

_log = logging.getLogger(__name__)

BUG = "this is a bug in gramstyle; the log of the server has the details"
# How errors become status codes; the first class that fits decides.
_STATUS: Mapping[type[GramstyleError], int] = {
    UnknownError: 404,
    InUseError: 409,
    FullError: 429,
    StorageError: 507,
    FolderError: 507,
    StoreError: 507,
    ImageError: 400,
    OptionError: 400,
    ModelError: 500,
}
# Errors whose sentences name files of the server, and what it says instead.
_OF_FILES = (FolderError, StoreError)
_NO_ROOM = "the disk of this server has no room left; try again later"


class Problem(BaseModel):
    """A problem, as RFC 9457 describes it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


class BodyError(Exception):
    """The body of a request is too large or too slow; the answer says which."""

    def __init__(self, answer: Response) -> None:
        super().__init__()
        self.answer = answer


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response that says what is wrong."""
    body = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail).model_dump()
    return Response(
        json.dumps(body),  # ASCII, since a client's text may have half of a surrogate pair
        status_code=status,
        media_type="application/problem+json",
        headers=None if headers is None else dict(headers),
    )


def add_handlers(app: FastAPI) -> None:
    """Let an application answer with problems."""

    @app.exception_handler(GramstyleError)
    async def of_gramstyle(_request: Request, error: GramstyleError) -> Response:
        status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 400)
        sentence = " ".join(str(error).split())
        if isinstance(error, _OF_FILES):
            _log.error("%s", sentence)
            sentence = _NO_ROOM
        headers = {"Retry-After": str(error.retry_after)} if isinstance(error, FullError) else None
        return problem(status, sentence, headers)

    @app.exception_handler(OSError)
    async def of_disk(_request: Request, error: OSError) -> Response:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise error
        _log.error("%s", error)
        return problem(507, _NO_ROOM)

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> Response:
        detail = _SENTENCES.get(error.status_code, str(error.detail))
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_methods(app, request))
        return problem(error.status_code, detail, headers)

    @app.exception_handler(BodyError)
    async def of_body(_request: Request, error: BodyError) -> Response:
        return error.answer

    @app.exception_handler(ClientDisconnect)
    async def of_end(_request: Request, _error: ClientDisconnect) -> Response:
        return problem(400, "the request has ended too early")  # whose client has gone

    @app.exception_handler(RequestValidationError)
    async def of_validation(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        if first["loc"][0] == "path":
            return problem(404, _SENTENCES[404])
        where = ".".join(str(part) for part in first["loc"][1:])
        return problem(400, f"{where}: {first['msg']}".removeprefix(": "))

    @app.exception_handler(Exception)
    async def of_bug(_request: Request, error: Exception) -> Response:
        _log.error("a request failed", exc_info=error)
        return problem(500, BUG)


def _methods(app: FastAPI, request: Request) -> list[str]:
    """Return the methods that an address takes; each of them may have a route of its own."""
    found = {
        method
        for route in app.routes
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods or ()
    }
    found = found or {"GET"}  # of static files
    return sorted(found | {"HEAD"} if "GET" in found else found)


_SENTENCES = {
    404: "there is nothing at this address",
    405: "this address does not take this method",
}
