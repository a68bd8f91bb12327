"""The jobs and uploads of a service as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

State = Literal["waiting", "running", "finished", "cancelled", "failed"]
STATES: tuple[State, ...] = get_args(State)

# A point of the loss curves: the iteration, the loss, and its terms multiplied by their weights.
Point = tuple[int, float, dict[str, float]]


@dataclass(frozen=True)
class Upload:
    """An uploaded image: its id, its size, and the name of the file that it had."""

    id: str
    width: int
    height: int
    bytes: int
    name: str


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a client asks for.

    Attributes
    ----------
    content, styles
        The ids of uploads.
    preset
        The name of a preset, or None.
    options
        The options as they were given, as JSON types. Images among them are ids of uploads.
    """

    content: str
    styles: tuple[str, ...]
    preset: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far a job is.

    Attributes
    ----------
    iteration, iterations
        The last iteration, and the maximum number of all scales; 0 if it is not known yet.
    loss
        The loss at this iteration.
    seconds, seconds_left
        The time that the job has taken, and the estimated rest.
    width, height
        The size of the present scale.
    scale, scales
        The number of the present scale, from 1, and of all scales.
    """

    iteration: int = 0
    iterations: int = 0
    loss: float | None = None
    seconds: float = 0.0
    seconds_left: float | None = None
    width: int | None = None
    height: int | None = None
    scale: int = 1
    scales: int = 1


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as the store has it.

    Attributes
    ----------
    id, client
        Its id, and the address of the client that submitted it.
    request
        What the client asked for.
    state
        Its state.
    created, started, ended
        Seconds since 1970; None before.
    attempts
        How many workers have died while they ran it, since it last got further.
    standing
        How far it was when it ended, or when a worker died.
    has_image
        Whether there is an image.
    reason, problem
        Why it ended; what went wrong, in one sentence, if it failed.
    """

    id: str
    client: str
    request: Request
    state: State
    created: float
    started: float | None = None
    ended: float | None = None
    attempts: int = 0
    standing: Standing = Standing()
    has_image: bool = False
    reason: str | None = None
    problem: str | None = None

    @property
    def over(self) -> bool:
        """Whether the job has ended."""
        return self.state not in ("waiting", "running")
