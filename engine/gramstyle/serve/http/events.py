"""The events of a job for a client that watches it."""

import asyncio
import base64
import re
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from typing import Any

from fastapi.concurrency import run_in_threadpool
from fastapi.sse import ServerSentEvent

from gramstyle.serve.feed import Live, Watcher
from gramstyle.serve.http.models import JobView
from gramstyle.serve.http.threads import with_image
from gramstyle.serve.reporting import Preview
from gramstyle.serve.service import Seen, Service, UnknownError

# The least time between two sets of events, in seconds.
BETWEEN = 0.25
# How long a watcher waits before it looks at its job again: the queue moves without an event.
_LOOK = 2.0


@dataclass
class _Sent:
    """What a client has got."""

    live: Live | None = None
    points: int = 0
    preview: Preview | None = None
    job: dict[str, Any] = field(default_factory=dict)


async def events_of(
    service: Service, watcher: Watcher, last: str = ""
) -> AsyncIterator[ServerSentEvent]:
    """Yield the events of a job until it has ended or the server stops.

    Parameters
    ----------
    service, watcher
        The service, and who watches which job.
    last
        The id of the last event that the client has got; points up to it are not sent again.

    Yields
    ------
    ServerSentEvent
        "job" (a `JobView`) at once and after each change of state; "losses", all points so far;
        "progress", how far it is, with the points since; "preview", an image as a data URL.
        Events with points have ids.
    """
    id_ = watcher.job
    sent = _sent_until(last, service.feed.live(id_))
    while not service.feed.closed:
        watcher.event.clear()
        over = False
        if watcher.job_changed:
            watcher.job_changed = False
            try:
                seen = await run_in_threadpool(service.see, id_)
            except UnknownError:
                return
            over = seen.job.over
            async for event in _at_change(service, seen, sent):
                yield event
        for event in _news(service, id_, sent):
            yield event
        if over:
            return
        await _something_new(watcher)


def _sent_until(last: str, live: Live | None) -> _Sent:
    """Return what a client has got with an event; nothing if its points are not those of now."""
    name, _, count = last.partition("-")
    if live is None or name != live.id or not re.fullmatch("[0-9]{1,9}", count):
        return _Sent()
    return _Sent(live, int(count)) if int(count) <= len(live.points) else _Sent()


def _id(sent: _Sent) -> str | None:
    """Return the id of an event after which a client has got these points."""
    return None if sent.live is None else f"{sent.live.id}-{sent.points}"


async def _at_change(service: Service, seen: Seen, sent: _Sent) -> AsyncIterator[ServerSentEvent]:
    """Yield the events of a job that has changed its state, or of a new watcher."""
    id_, live = seen.job.id, service.feed.live(seen.job.id)
    view = JobView.of(seen).model_dump(mode="json")
    first = not sent.job
    # A watcher of the moment between the start of a job and its first report sees a change of these
    # without a change of the state.
    if live is not sent.live or (first and live is None):
        points = await run_in_threadpool(service.points, id_)
        sent.live, sent.points = live, len(points)
        yield ServerSentEvent(event="losses", data=points, id=_id(sent))
    if first and seen.job.over:
        image = await with_image(service.last_preview, id_)
        if image is not None:
            webp, (width, height) = image
            last = Preview(seen.standing.iteration, width, height, webp)
            yield _preview_event(last)
    if _lasting(view) != sent.job:
        sent.job = _lasting(view)
        yield ServerSentEvent(event="job", data=view)


def _lasting(view: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a job that changes with its state only."""
    return {name: view[name] for name in ("state", "position", "has_image", "problem", "reason")}


def _news(service: Service, id_: str, sent: _Sent) -> list[ServerSentEvent]:
    """Return the events of a running job since the last ones."""
    live = service.feed.live(id_)
    if live is None or live is not sent.live:
        return []
    events = []
    points = live.points[sent.points :]
    if points:
        sent.points += len(points)
        progress = {**asdict(live.standing), "terms": points[-1][2], "points": points}
        events.append(ServerSentEvent(event="progress", data=progress, id=_id(sent)))
    if live.preview is not None and live.preview is not sent.preview:
        sent.preview = live.preview
        events.append(_preview_event(live.preview))
    return events


def _preview_event(preview: Preview) -> ServerSentEvent:
    url = f"data:image/webp;base64,{base64.b64encode(preview.webp).decode()}"
    data = {
        "iteration": preview.iteration,
        "width": preview.width,
        "height": preview.height,
        "image": url,
    }
    return ServerSentEvent(event="preview", data=data)


async def _something_new(watcher: Watcher) -> None:
    """Wait for something new, but not shorter than the least time between two sets of events."""
    began = time.monotonic()
    try:
        await asyncio.wait_for(watcher.event.wait(), _LOOK)
    except TimeoutError:
        watcher.job_changed = True
    if not watcher.job_changed:
        await asyncio.sleep(max(0.0, BETWEEN - (time.monotonic() - began)))
