"""What requests and responses contain, as OpenAPI describes it."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from gramstyle.run.presets import PRESETS
from gramstyle.serve.job import Request, State, Upload
from gramstyle.serve.limits import Limits
from gramstyle.serve.options import OptionDescription, described_options
from gramstyle.serve.service import Seen

ID = r"^[A-Za-z0-9_-]{22}$"


class UploadView(BaseModel):
    """An uploaded image."""

    id: str
    width: int
    height: int
    bytes: int

    @classmethod
    def of(cls, upload: Upload) -> Self:
        """Return the view of an upload."""
        return cls(id=upload.id, width=upload.width, height=upload.height, bytes=upload.bytes)


class Look(BaseModel):
    """A preset and options of a job; GET /about describes the options."""

    model_config = ConfigDict(extra="forbid")

    preset: str | None = Field(None, max_length=100)
    options: dict[str, Any] = Field(default_factory=dict)


class JobRequest(Look):
    """A job: the ids of uploads, a preset and options."""

    content: str = Field(pattern=ID)
    styles: list[str] = Field(min_length=1, max_length=64)

    def request(self) -> Request:
        """Return the request."""
        return Request(
            content=self.content,
            styles=tuple(self.styles),
            preset=self.preset,
            options=self.options,
        )


class JobView(BaseModel):
    """A job and how far it is."""

    id: str
    state: State
    position: int | None
    created: datetime
    started: datetime | None
    ended: datetime | None
    content: str
    styles: list[str]
    preset: str | None
    options: dict[str, Any]
    iteration: int
    iterations: int
    loss: float | None
    seconds: float
    seconds_left: float | None
    width: int | None
    height: int | None
    scale: int
    scales: int
    has_image: bool
    reason: str | None
    problem: str | None

    @classmethod
    def of(cls, seen: Seen) -> Self:
        """Return the view of a job."""
        job = seen.job
        return cls(
            id=job.id,
            state=job.state,
            position=seen.position,
            created=_time(job.created),
            started=None if job.started is None else _time(job.started),
            ended=None if job.ended is None else _time(job.ended),
            content=job.request.content,
            styles=list(job.request.styles),
            preset=job.request.preset,
            options=dict(job.request.options),
            **asdict(seen.standing),
            has_image=job.has_image,
            reason=job.reason,
            problem=job.problem,
        )


class Health(BaseModel):
    """The server runs; its disk is full if it has no room for the largest upload."""

    status: Literal["ok"] = "ok"
    disk: Literal["ok", "full"]


class SessionRequest(BaseModel):
    """The token, for a cookie."""

    token: str = Field(max_length=1000)


class Sample(BaseModel):
    """An image that comes with the page."""

    name: str
    file: str


class Samples(BaseModel):
    """The images that come with the page."""

    content: list[Sample] = []
    style: list[Sample] = []


class PresetView(BaseModel):
    """A preset."""

    name: str
    description: str
    values: dict[str, Any]


class About(BaseModel):
    """What the page must know of the server."""

    program: str
    locked: bool
    live: str | None = None
    limits: Mapping[str, int] = {}
    presets: list[PresetView] = []
    options: list[OptionDescription] = []
    samples: Samples = Samples()


def presets() -> list[PresetView]:
    """Return all presets."""
    return [
        PresetView(name=each.name, description=each.description, values=dict(each.values))
        for each in PRESETS.values()
    ]


def options(limits: Limits) -> list[OptionDescription]:
    """Return the options of a job."""
    return list(described_options(limits))


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
