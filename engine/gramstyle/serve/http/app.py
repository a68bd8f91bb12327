"""The HTTP interface: each route reads its request, calls the service, and answers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi import Path as InPath
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.staticfiles import StaticFiles

from gramstyle.errors import GramstyleError, OptionError
from gramstyle.run.settings import program
from gramstyle.serve import job as jobs
from gramstyle.serve.feed import Watcher
from gramstyle.serve.http.bodies import files_in, form_of, parsed, text_in
from gramstyle.serve.http.events import events_of
from gramstyle.serve.http.guard import COOKIE, Access, App, Guard
from gramstyle.serve.http.head import with_head
from gramstyle.serve.http.metrics import CONTENT_TYPE, Metrics
from gramstyle.serve.http.models import (
    ID,
    About,
    Health,
    JobRequest,
    JobView,
    Look,
    Sample,
    Samples,
    SessionRequest,
    UploadView,
    options,
    presets,
)
from gramstyle.serve.http.problems import Problem, add_handlers, problem
from gramstyle.serve.http.threads import with_image
from gramstyle.serve.service import FullError, Seen, Service
from gramstyle.serve.uploads import LARGE, THUMBNAIL

PAGE = Path(__file__).parents[1] / "page"

DESCRIPTION = "Photographs in the style of paintings, as jobs. Images are uploads; jobs name them."
_Id = Annotated[str, InPath(pattern=ID, description="the id of a job or an upload")]
_WEBP = {"image/webp": {"schema": {"type": "string", "format": "binary"}}}
_IMAGES: dict[str, tuple[str, str]] = {
    "png": (".png", "image/png"),
    "jpg": (".jpg", "image/jpeg"),
    "webp": (".webp", "image/webp"),
}
_ANY_IMAGE = {kind: _WEBP["image/webp"] for _, kind in _IMAGES.values()}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return how OpenAPI describes these problems, and those that every request may have."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    every = {*statuses, 400, 401, 403, 413, 421}
    return {each: {"description": "a problem", "content": content} for each in sorted(every)}


def make_app(service: Service, access: Access) -> App:
    """Return the ASGI application of a service."""
    app = FastAPI(
        title="gramstyle", version=version("gramstyle"), description=DESCRIPTION, docs_url=None,
        redoc_url=None, openapi_url="/openapi.json", redirect_slashes=False,
    )  # fmt: skip
    add_handlers(app)
    metrics = Metrics(service)
    files = StaticFiles(directory=PAGE)
    _add_page(app, service, access, files)
    _add_uploads(app, service)
    _add_jobs(app, service)
    _add_state(app, service, metrics)
    app.mount("/static", files, name="static")
    return Guard(with_head(metrics.measured(app)), access)


def _add_page(app: FastAPI, service: Service, access: Access, files: StaticFiles) -> None:
    async def file(request: Request, name: str) -> Response:
        response = await files.get_response(name, request.scope)  # 304 if the client has it
        response.headers["Cache-Control"] = "no-cache"
        return response

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return await file(request, "index.html")

    @app.get("/docs", include_in_schema=False)
    async def documentation(request: Request) -> Response:
        return await file(request, "docs.html")

    @app.get("/about", responses=_problems())
    def about(request: Request) -> About:
        """Describe the server: its limits, and the presets and options of a job."""
        if not access.admits(request.headers):
            return About(program=program(), locked=True)
        return About(
            program=program(),
            locked=False,
            live=service.live,
            limits=asdict(service.limits),
            presets=presets(),
            options=options(service.limits),
            samples=Samples(content=_samples("content"), style=_samples("style")),
        )

    @app.post(
        "/session", status_code=204, responses=_problems(), openapi_extra=_body(SessionRequest)
    )
    async def log_in(request: Request) -> Response:
        """Exchange the token for a cookie, for a browser."""
        given = parsed(await request.body(), SessionRequest).token
        if not access.is_token(given):
            return problem(401, "this is not the token of this server")
        response = Response(status_code=204)
        response.set_cookie(
            COOKIE, access.session, httponly=True, samesite="strict",
            secure=request.url.scheme == "https",
        )  # fmt: skip
        return response

    @app.delete("/session", status_code=204, responses=_problems())
    def log_out() -> Response:
        """Remove the cookie."""
        response = Response(status_code=204)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response


def _add_uploads(app: FastAPI, service: Service) -> None:
    @app.post(
        "/uploads", status_code=201, responses=_problems(408, 507), response_model=UploadView,
        openapi_extra={"requestBody": {"required": True, "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}},
    )  # fmt: skip
    async def upload(
        request: Request, name: Annotated[str, Query(max_length=1000)] = "image"
    ) -> UploadView:
        """Upload an image: the body is its bytes. The name is for recipes only."""
        data = await request.body()
        return UploadView.of(await with_image(service.upload, data, name))

    @app.get(
        "/uploads/{id}/thumbnail", response_class=Response,
        responses={**_problems(404), 200: {"content": _WEBP}},
    )  # fmt: skip
    async def thumbnail(id: _Id) -> Response:  # noqa: A002 - the name in the path
        """Return a small WebP of an upload."""
        data = await with_image(service.reduced_upload, id, THUMBNAIL)
        return Response(data, media_type="image/webp")

    @app.get(
        "/uploads/{id}/image", response_class=Response,
        responses={**_problems(404), 200: {"content": _WEBP}},
    )  # fmt: skip
    async def large(id: _Id) -> Response:  # noqa: A002 - the name in the path
        """Return an upload as a WebP of at most 1024 pixels, to compare with a result."""
        data = await with_image(service.reduced_upload, id, LARGE)
        return Response(data, media_type="image/webp")

    @app.delete("/uploads/{id}", status_code=204, responses=_problems(404, 409))
    def remove(id: _Id) -> Response:  # noqa: A002 - the name in the path
        """Remove an upload, unless a job that waits or runs uses it."""
        service.remove_upload(id)
        return Response(status_code=204)


def _add_jobs(app: FastAPI, service: Service) -> None:
    def find(id: _Id) -> Seen:  # noqa: A002 - the name in the path
        return service.see(id)

    async def watch(id: _Id) -> AsyncIterator[Watcher]:  # noqa: A002 - the name in the path
        if service.feed.watchers >= service.limits.watchers:
            raise FullError("too many clients watch jobs; ask for the job instead", 5)
        # Not in the stream of events, which ends some time after its client has gone.
        with service.feed.watching(id) as watcher:
            await run_in_threadpool(service.see, id)
            yield watcher

    @app.post(
        "/jobs", status_code=202, responses=_problems(404, 408, 429, 507),
        response_model=JobView, openapi_extra=_job_body(),
    )  # fmt: skip
    async def submit(request: Request, response: Response) -> JobView:
        """Submit a job: JSON with the ids of uploads, or a form with the images themselves."""
        client = request.client.host if request.client else ""
        async with _request_of(request, service) as wanted:
            seen = await run_in_threadpool(service.submit, wanted, client)
        response.headers["Location"] = f"/jobs/{seen.job.id}"
        return JobView.of(seen)

    @app.get("/jobs/{id}", responses=_problems(404))
    def see(seen: Annotated[Seen, Depends(find)]) -> JobView:
        """Return a job and how far it is."""
        return JobView.of(seen)

    @app.get("/jobs/{id}/events", response_class=EventSourceResponse, responses=_problems(404, 429))
    async def events(
        watcher: Annotated[Watcher, Depends(watch)],
        last_event_id: Annotated[str, Header()] = "",
        after: Annotated[str, Query(description="the id of the last event, as Last-Event-ID")] = "",
    ) -> AsyncIterator[ServerSentEvent]:
        """Watch a job: the events job, losses, progress and preview, until it has ended."""
        async for event in events_of(service, watcher, last_event_id or after):
            yield event

    @app.get(
        "/jobs/{id}/image", response_class=Response,
        responses={**_problems(404, 406), 200: {"content": _ANY_IMAGE}},
    )  # fmt: skip
    async def image(
        id: _Id,  # noqa: A002 - the name in the path
        accept: Annotated[str, Header()] = "*/*",
        metadata: bool = False,
        download: bool = False,
    ) -> Response:
        """Return the result as PNG, JPEG or WebP, or the image so far; without metadata."""
        return await _image(service, id, _accepted(accept), metadata=metadata, download=download)

    @app.get(
        "/jobs/{id}/image.{kind}", response_class=Response,
        responses={**_problems(404), 200: {"content": _ANY_IMAGE}},
    )  # fmt: skip
    async def image_file(
        id: _Id,  # noqa: A002 - the name in the path
        kind: Literal["png", "jpg", "webp"],
        metadata: bool = False,
        download: bool = False,
    ) -> Response:
        """Return the result in one format."""
        return await _image(service, id, kind, metadata=metadata, download=download)

    @app.get(
        "/jobs/{id}/recipe", response_class=Response,
        responses={**_problems(404), 200: {"content": {"application/toml": {}}}},
    )  # fmt: skip
    def recipe(id: _Id) -> Response:  # noqa: A002 - the name in the path
        """Return the recipe of a job, which `gramstyle transfer --recipe` reads."""
        headers = {"Content-Disposition": f'attachment; filename="gramstyle-{id[:8]}.toml"'}
        return Response(service.recipe(id), media_type="application/toml", headers=headers)

    @app.post("/jobs/{id}/cancel", status_code=202, responses=_problems(404))
    def cancel(id: _Id) -> JobView:  # noqa: A002 - the name in the path
        """End a job; a running one keeps its image so far."""
        return JobView.of(service.cancel(id))

    @app.delete("/jobs/{id}", status_code=204, responses=_problems(404))
    def remove(id: _Id) -> Response:  # noqa: A002 - the name in the path
        """End a job, and remove it with its files and its uploads that no other job uses."""
        service.remove(id)
        return Response(status_code=204)


def _add_state(app: FastAPI, service: Service, metrics: Metrics) -> None:
    @app.get("/healthz", responses=_problems())
    async def healthy() -> Health:
        """Answer as long as the server runs, and say whether its disk is full."""
        return Health(disk="ok" if service.has_room() else "full")

    @app.get("/readyz", responses={**_problems(), 503: {"description": "no worker is ready"}})
    def ready() -> JSONResponse:
        """Answer 200 if a worker is ready for jobs, else 503."""
        workers = service.workers_ready
        status = "ok" if workers else "no worker is ready"
        return JSONResponse({"status": status, "workers": workers}, 200 if workers else 503)

    @app.get(
        "/metrics", response_class=Response,
        responses={**_problems(), 200: {"content": {"text/plain": {}}}},
    )  # fmt: skip
    def numbers() -> Response:
        """Return metrics for Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    app.openapi_schema = _with_schemas(app.openapi())


@asynccontextmanager
async def _request_of(request: Request, service: Service) -> AsyncIterator[jobs.Request]:
    """Yield the request of a job. The images of a form become uploads, unless the block fails."""
    if not request.headers.get("content-type", "").casefold().startswith("multipart/"):
        yield parsed(await request.body(), JobRequest).request()
        return
    ids: list[str] = []
    try:
        yield await _uploaded(request, service, ids)
    except Exception:
        for each in ids:
            with suppress(GramstyleError):
                await run_in_threadpool(service.remove_upload, each)
        raise


async def _uploaded(request: Request, service: Service, ids: list[str]) -> jobs.Request:
    """Upload the images of a form and append their ids; return the request of the job."""
    form = await form_of(request, service.limits)
    try:
        look = parsed(text_in(form, "job"), Look)
        content, styles = (files_in(form, name, service.limits) for name in ("content", "style"))
        if len(content) != 1 or not styles:
            raise OptionError("the form needs one file content and one or more files style")
        for each in (*content, *styles):
            data = await each.read()
            found = await with_image(service.upload, data, each.filename or "image")
            ids.append(found.id)
    finally:
        await form.close()
    return jobs.Request(
        content=ids[0], styles=tuple(ids[1:]), preset=look.preset, options=look.options
    )


async def _image(
    service: Service, id_: str, kind: str | None, *, metadata: bool, download: bool
) -> Response:
    if kind is None:
        return problem(406, "the image is available as image/png, image/jpeg and image/webp")
    extension, media_type = _IMAGES[kind]
    data = await with_image(service.image, id_, extension, metadata=metadata)
    name = f"gramstyle-{id_[:8]}{extension}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'} if download else None
    return Response(data, media_type=media_type, headers=headers)


def _accepted(accept: str) -> str | None:
    """Return the format that a client prefers; PNG if it has no preference."""
    best, found = 0.0, None
    for part in accept.split(","):
        kind, *parameters = (each.strip() for each in part.split(";"))
        quality = 1.0
        for each in parameters:
            if each.startswith("q="):
                try:
                    quality = float(each[2:])
                except ValueError:
                    quality = 0.0
        for name, (_, media_type) in _IMAGES.items():
            if kind in (media_type, "image/*", "*/*") and quality > best:
                best, found = quality, name
    return found


def _samples(role: str) -> list[Sample]:
    """Return the images that come with the page, from the names of their files."""
    return [
        Sample(name=path.stem, file=f"/static/samples/{role}/{path.name}")
        for path in sorted((PAGE / "samples" / role).glob("*.jpg"))
    ]


def _body(model: type[Any]) -> dict[str, Any]:
    """Return how OpenAPI describes a JSON body that is parsed here, not by the framework."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _job_body() -> dict[str, Any]:
    body = _body(JobRequest)
    file = {"type": "string", "format": "binary"}
    body["requestBody"]["content"]["multipart/form-data"] = {
        "schema": {
            "type": "object",
            "required": ["content", "style"],
            "properties": {
                "content": file,
                "style": {"type": "array", "items": file},
                "job": {"type": "string", "description": "JSON with preset and options"},
            },
        }
    }
    return body


def _with_schemas(schema: dict[str, Any]) -> dict[str, Any]:
    """Add the models that only bodies and problems have."""
    there = schema["components"]["schemas"]
    for model in (JobRequest, SessionRequest, Problem):
        there[model.__name__] = model.model_json_schema(ref_template="#/components/schemas/{model}")
    for path in schema["paths"].values():  # a fault in a parameter is a 400 here
        for operation in path.values():
            operation["responses"].pop("422", None)
    return schema
