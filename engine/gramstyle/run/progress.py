"""The reports of a run: the losses after each iteration, the progress, the record, the result."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import PIL.Image

from gramstyle.core.arrays import Array
from gramstyle.core.evaluation import LossValues
from gramstyle.images import Encoding, Image, to_pil
from gramstyle.run.colours import Finishing
from gramstyle.run.plan import ScalePlan
from gramstyle.run.settings import RunSettings


@dataclass(frozen=True)
class Losses:
    """The losses after one iteration; iteration 0 is the start.

    Attributes
    ----------
    iteration, evaluations
        How many iterations, and how many evaluations of the objective, so far.
    seconds
        The time since the run began, in seconds.
    loss
        L_total.
    terms
        The losses whose weighted sum is L_total, by name, such as L_content and L_style.
    layers
        The values whose weighted sum is each of these losses, by loss and by layer, such as E_l.
    scale
        The number of the scale, from 0. From one scale to the next, the image grows and the losses
        jump. The start of a later scale has no entry.

    Examples
    --------
    >>> from gramstyle import Options, transfer
    >>> record = transfer("photo.jpg", "painting.jpg", Options(size=32, iterations=2)).record
    >>> losses = record.losses[-1]
    >>> losses.iteration, sorted(losses.terms)
    (2, ['content', 'style'])
    >>> list(losses.layers["style"])
    ['conv1_1', 'conv2_1', 'conv3_1', 'conv4_1', 'conv5_1']
    """

    iteration: int
    evaluations: int
    seconds: float
    loss: float
    terms: Mapping[str, float]
    layers: Mapping[str, Mapping[str, float]]
    scale: int = 0


@dataclass(frozen=True)
class ScaleStart:
    """The start of one of the scales of a run.

    Attributes
    ----------
    iteration, evaluations, seconds
        How many iterations, evaluations and seconds the run had taken before this scale.
    history
        How many pairs L-BFGS-B's history has at this scale.
    """

    iteration: int
    evaluations: int
    seconds: float
    history: int


@dataclass(frozen=True)
class Progress:
    """The argument of a callback after each iteration.

    Attributes
    ----------
    losses
        The losses at this iterate.
    iterations
        The maximum number of iterations of all scales.
    x
        The iterate (3, H, W), RGB, 0..255: float64, in tiles float32.
    scale, scales
        The plan of the scale, and the number of scales.
    start
        Where in the run the scale has started.
    ahead
        How long all later scales take, in iterations of this scale.
    seconds_per_iteration
        How many seconds an iteration of this scale takes on average, without what happens once.

    Examples
    --------
    >>> from gramstyle import Options, transfer
    >>> def stop_early(progress):
    ...     return progress.losses.iteration == 2
    ...
    >>> record = transfer("photo.jpg", "painting.jpg", Options(size=32), callback=stop_early).record
    >>> record.losses[-1].iteration
    2
    """

    losses: Losses
    iterations: int
    x: Array = field(repr=False)
    scale: ScalePlan = field(repr=False)
    scales: int
    start: ScaleStart
    ahead: float
    seconds_per_iteration: float
    _finishing: Finishing = field(repr=False)

    def image(self) -> PIL.Image.Image:
        """Return the iterate as a Pillow image of the scale's size, with 8 bits per channel."""
        return to_pil(self.rendered())

    def rendered(self) -> Image:
        """Return the iterate as an image of the scale's size, in floating point."""
        return self._finishing.image(self.x)

    @property
    def seconds_left(self) -> float:
        """The estimated time for the rest of this scale and the later ones, in seconds."""
        here = self.start.iteration + self.scale.iterations - self.losses.iteration
        return self.seconds_per_iteration * (here + self.ahead)


@dataclass(frozen=True)
class Record:
    """The record of a run: its settings, its losses and how it ended.

    Attributes
    ----------
    settings
        The options, the names and sizes of the images, the model's hash, the versions.
    losses
        One entry for each iteration, from the start on.
    best
        The iteration whose image was returned.
    seconds
        The time that the run took, in seconds.
    reason
        Why the run ended.

    Examples
    --------
    >>> from gramstyle import Options, transfer
    >>> record = transfer("photo.jpg", "painting.jpg", Options(size=32, iterations=2)).record
    >>> record.reason, record.summary["iterations"]
    ('all iterations done', 2)
    """

    settings: RunSettings
    losses: tuple[Losses, ...]
    best: int
    seconds: float
    reason: str

    @property
    def summary(self) -> dict[str, Any]:
        """The outcome of the run: a few numbers and the reason, as JSON types."""
        return {
            "iterations": self.losses[-1].iteration,
            "evaluations": self.losses[-1].evaluations,
            "best": self.best,
            "loss": self.losses[self.best].loss,
            "seconds": round(self.seconds, 3),
            "reason": self.reason,
        }


@dataclass(frozen=True, eq=False)
class Result:
    """The image and the record of the run, which ``image, record = result`` unpacks.

    Attributes
    ----------
    rendered
        The image in floating point, sRGB from 0 to 255.
    encoding
        How a file stores it, as the options say: `gramstyle.images.write_image` takes both.
    record
        The record of the run.

    Examples
    --------
    >>> from gramstyle import Options, transfer
    >>> result = transfer("photo.jpg", "painting.jpg", Options(size=32, iterations=2))
    >>> image, record = result
    >>> image.size, image is result.image
    ((32, 24), True)
    >>> from gramstyle.images import write_image
    >>> write_image("result.png", result.rendered, encoding=result.encoding)
    """

    rendered: Image = field(repr=False)
    encoding: Encoding = field(repr=False)
    record: Record

    @cached_property
    def image(self) -> PIL.Image.Image:
        """The image as a Pillow image: sRGB, with 8 bits per channel."""
        return to_pil(self.rendered)

    def __iter__(self) -> Iterator[Any]:
        """Yield the Pillow image and the record."""
        yield self.image
        yield self.record


Callback = Callable[[Progress], bool | None]


class History:
    """The losses of a run so far, and its clock, which a resumed run continues."""

    def __init__(self, losses: Iterable[Losses] = (), *, seconds: float = 0.0) -> None:
        self.losses = list(losses)
        self._began = time.perf_counter() - seconds
        self._warm: Losses | None = None

    @property
    def seconds(self) -> float:
        """The time that the run has taken so far, in seconds."""
        return time.perf_counter() - self._began

    @property
    def iteration(self) -> int:
        """The number of the last iteration; 0 before the first one."""
        return self.losses[-1].iteration if self.losses else 0

    def add(
        self, scale: int, start: ScaleStart, iteration: int, evaluations: int, at: LossValues
    ) -> None:
        """Append the losses at an iterate of a scale."""
        self.losses.append(
            Losses(
                iteration=start.iteration + iteration,
                evaluations=start.evaluations + evaluations,
                seconds=self.seconds,
                loss=at.loss,
                terms=at.terms,
                layers=at.layers,
                scale=scale,
            )
        )
        if self._warm is None or self._warm.scale != scale:
            self._warm = self.losses[-1]

    def seconds_per_iteration(self, start: ScaleStart) -> float:
        """Return how many seconds an iteration of the present scale takes on average.

        The time until the first entry at this scale is left out, because the engine is opened and
        kernels are compiled in it. When there is only that entry, the average time of the
        evaluations at this scale is returned, of which most iterations need one.
        """
        last, warm = self.losses[-1], self._warm
        if warm is None or last.iteration == warm.iteration:
            return (last.seconds - start.seconds) / (last.evaluations - start.evaluations)
        return (last.seconds - warm.seconds) / (last.iteration - warm.iteration)
