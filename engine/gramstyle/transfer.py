"""A photograph and a painting in, a styled picture out: the parts composed."""

import dataclasses
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image

from gramstyle.arrays import Array
from gramstyle.errors import ImageError, OptionError
from gramstyle.images import MAX_PIXELS, Picture, Source, fitted_size, read_picture, resize, to_pil
from gramstyle.kernels import Pooling
from gramstyle.machine import available_threads, check_memory
from gramstyle.model import Model, is_normalised, locate_model, read_model
from gramstyle.network import Network
from gramstyle.objective import Evaluation, Objective, Weights, style_targets
from gramstyle.optimise import Iterate, Minimum, minimise
from gramstyle.session import Session
from gramstyle.strips import StripKernels

STYLE_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")

# Differs from Gatys et al. (2015), who start from noise: the default is the content.
STARTS = ("noise", "content", "style")

# The default α times the number of pixels. Differs from Gatys et al. (2015), who keep α/β: their
# content loss is a sum over positions and their style loss is not, so that with one α the style
# fades as pictures grow.
ALPHA_PIXELS = 50.0
# The same for a normalised network, whose responses are about 1: the content loss falls with
# their square, the style loss with their fourth power. Found by eye, as the other was.
ALPHA_PIXELS_NORMALISED = 0.01

# What a run takes for each pixel of the result at the default layers: 1,280 bytes of responses,
# 512 of derivatives, 600 of L-BFGS-B's memory, and what SciPy copies.
BYTES_PER_PIXEL = 2800


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a transfer is done. All defaults of the program stand here and nowhere else.

    Attributes
    ----------
    size
        The longer edge of the result, in pixels; the shorter one follows from the content.
    iterations
        How many iterations of L-BFGS-B at the most.
    alpha, beta
        The weights α and β of equation 7; None for α gives 50 / (width · height) of the result
        (0.01 / (width · height) for a normalised network), which looks alike at every size.
    content_layer
        Where content is compared.
    style_layers
        Where style is compared.
    style_weights
        One w_l for each style layer; None gives each 1 / (number of layers), as in the paper.
    init
        The start: "content", "style", "noise" (white noise, from `seed`), or a picture.
    seed
        Of the noise.
    pooling
        "avg", which the paper prefers, or "max", as the network was trained.
    tolerance
        End early once the loss has fallen by less than this share in ten iterations; 0 never.
    memory
        How many past steps L-BFGS-B learns from.
    threads
        How many processor cores to use; None takes all that this process may run on.
    max_pixels
        Larger pictures are refused before they are decoded.
    """

    size: int = 512
    iterations: int = 100
    alpha: float | None = None
    beta: float = 1.0
    content_layer: str = "conv4_2"
    style_layers: tuple[str, ...] = STYLE_LAYERS
    style_weights: tuple[float, ...] | None = None
    init: Source = "content"
    seed: int = 0
    pooling: Pooling = "avg"
    tolerance: float = 0.0
    memory: int = 10
    threads: int | None = None
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        """Check what can be checked without pictures and network; raises OptionError."""
        for name in ("size", "iterations", "memory", "max_pixels"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.threads is not None and self.threads < 1:
            raise OptionError(f"threads must be at least 1, not {self.threads}")
        if self.seed < 0:
            raise OptionError(f"seed must not be negative, as {self.seed} is")
        weights = self.w.values()
        for name in ("alpha", "beta", "tolerance"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value >= 0):
                raise OptionError(f"{name} must be a number from 0 upwards, not {value}")
        if not self.style_layers or len(set(self.style_layers)) != len(self.style_layers):
            raise OptionError("style_layers must name at least one layer, and none twice")
        if self.style_weights is not None and len(self.style_weights) != len(self.style_layers):
            raise OptionError(
                f"there are {len(self.style_weights)} style_weights for "
                f"{len(self.style_layers)} style_layers; give one each"
            )
        if not all(np.isfinite(weight) and weight >= 0 for weight in weights):
            raise OptionError("each of style_weights must be a number from 0 upwards")
        if self.pooling not in ("max", "avg"):
            raise OptionError(f"pooling must be max or avg, not {self.pooling!r}")

    @property
    def w(self) -> dict[str, float]:
        """The weight w_l of each style layer."""
        share = 1.0 / max(1, len(self.style_layers))
        weights = self.style_weights or (share,) * len(self.style_layers)
        return dict(zip(self.style_layers, weights, strict=False))


@dataclass(frozen=True)
class Losses:
    """The objective after one iteration (iteration 0: at the start).

    Attributes
    ----------
    iteration, evaluations
        How many iterations, and how many evaluations of the objective, so far.
    seconds
        Since the first evaluation began.
    loss, content
        L_total and L_content.
    style
        E_l by layer.
    style_loss
        L_style = Σ w_l E_l.
    """

    iteration: int
    evaluations: int
    seconds: float
    loss: float
    content: float
    style: Mapping[str, float]
    style_loss: float


@dataclass(frozen=True)
class Progress:
    """What a callback is told after each iteration.

    Attributes
    ----------
    losses
        The objective at this iterate.
    iterations
        How many there will be at the most.
    x
        The iterate, float64 (3, H, W), RGB, 0..255.
    """

    losses: Losses
    iterations: int
    x: Array = field(repr=False)
    _alpha: Array | None = field(repr=False)

    def picture(self) -> PIL.Image.Image:
        """Return the iterate as a picture."""
        return to_pil(_as_picture(self.x, self._alpha))


@dataclass(frozen=True)
class Record:
    """What was done, on what, and how it went; `settings` and `summary` are ready for JSON.

    Attributes
    ----------
    settings
        Options, names and sizes of the pictures, the model's hash, versions.
    losses
        One entry an iteration, from the start on.
    best
        The iteration whose picture was returned.
    seconds
        From the first evaluation to the last.
    reason
        Why the run ended.
    """

    settings: Mapping[str, Any]
    losses: tuple[Losses, ...]
    best: int
    seconds: float
    reason: str

    @property
    def summary(self) -> dict[str, Any]:
        """How the run went, in a few numbers."""
        return {
            "iterations": self.losses[-1].iteration,
            "evaluations": self.losses[-1].evaluations,
            "best": self.best,
            "loss": self.losses[self.best].loss,
            "seconds": round(self.seconds, 3),
            "reason": self.reason,
        }


class Result(NamedTuple):
    """The picture and the record of the run."""

    picture: PIL.Image.Image
    record: Record


@dataclass(frozen=True)
class Prepared:
    """A transfer that is ready to run: everything read, checked and in memory.

    Attributes
    ----------
    objective
        Equation 7 for these pictures.
    weights
        Its α, β and w_l.
    start
        The first x, float64 (3, H, W), RGB, 0..255.
    settings
        What a record says of it.
    """

    objective: Objective
    weights: Weights
    start: Array
    settings: Mapping[str, Any]
    options: Options
    alpha: Array | None


def transfer(
    content: Source,
    style: Source,
    options: Options | None = None,
    *,
    model: str | os.PathLike[str] | None = None,
    callback: Callable[[Progress], bool | None] | None = None,
) -> Result:
    """Render a photograph in the style of a painting.

    Parameters
    ----------
    content, style
        The photograph and the painting: a path, a Pillow image, or an array (H, W), (H, W, 3)
        or (H, W, 4) of uint8, uint16 or float in 0..1.
    options
        How to do it.
    model
        The network's file; see `gramstyle.model.locate_model` for what None finds.
    callback
        Called after every iteration; the run ends when it returns True.

    Returns
    -------
    Result
        The picture of the best iterate, as large as the options say, with the content's
        transparency if it has any; and the record of the run.

    Raises
    ------
    ImageError, OptionError, ModelError, RuntimeMissingError
        If something that was given cannot be used.
    NonFiniteError
        If the objective becomes NaN or infinite; `callback` has seen the iterates before.

    Notes
    -----
    "A Neural Algorithm of Artistic Style", Gatys, Ecker, Bethge, arXiv 1508.06576.
    """
    prepared = prepare(content, style, options, model=model)
    return run(prepared, callback=callback)


def prepare(
    content: Source,
    style: Source,
    options: Options | None = None,
    *,
    model: str | os.PathLike[str] | None = None,
    notify: Callable[[str], None] | None = None,
) -> Prepared:
    """Read and check everything that a transfer needs; takes and raises what `transfer` does.

    Parameters
    ----------
    notify
        Told in one sentence of anything that takes long, such as building the model.
    """
    options = Options() if options is None else options
    photograph = _read(content, "content", options)
    artwork = _read(style, "style", options)
    custom = None
    if not (isinstance(options.init, str) and options.init in STARTS):
        custom = _read(options.init, "init", options, shape=photograph.pixels.shape)

    file = read_model(locate_model(model, notify=notify))
    needed = (options.content_layer, *options.style_layers)
    network = file.network.until(needed).pooled_by(options.pooling)
    for picture, source, role in ((photograph, content, "content"), (artwork, style, "style")):
        _check_size(network, picture, _name(source, role))
    threads = options.threads or available_threads()
    forward = Session(file.runnable(needed, options.pooling), network.shapes, threads=threads)
    kernels = StripKernels(threads)

    p, a = _as_pixels(photograph), _as_pixels(artwork)
    preprocess = file.preprocessing.forward
    targets = style_targets(forward(preprocess(a)), options.style_layers, kernels=kernels)
    P = forward(preprocess(p))[options.content_layer].copy()
    weights = Weights(_alpha(options, photograph, file), options.beta, options.w)
    return Prepared(
        weights=weights,
        objective=Objective(
            network,
            file.preprocessing,
            content_layer=options.content_layer,
            P=P,
            style=targets,
            weights=weights,
            forward=forward,
            kernels=kernels,
        ),
        start=_start(options, photograph, artwork, custom),
        settings={
            "program": f"gramstyle {_version('gramstyle')}",
            **_plain(options),
            "alpha": weights.alpha,
            "threads": threads,
            "content": _described(content, "content", photograph),
            "style": _described(style, "style", artwork),
            "model": {"sha256": file.sha256, **file.metadata},
            "versions": _versions(),
        },
        options=options,
        alpha=photograph.alpha,
    )


def run(prepared: Prepared, *, callback: Callable[[Progress], bool | None] | None = None) -> Result:
    """Optimise a prepared transfer; takes, returns and raises what `transfer` does."""
    options = prepared.options
    began = time.perf_counter()
    history: list[Losses] = []

    def evaluate(x: Array) -> Evaluation:
        evaluation = prepared.objective.loss_and_gradient(x)
        if not history:
            history.append(losses(0, 1, evaluation))
        return evaluation

    def losses(iteration: int, evaluations: int, at: Evaluation) -> Losses:
        return Losses(
            iteration=iteration,
            evaluations=evaluations,
            seconds=time.perf_counter() - began,
            loss=at.loss,
            content=at.content,
            style=at.style,
            style_loss=at.style_loss,
        )

    def after_iteration(iterate: Iterate[Evaluation]) -> bool | None:
        history.append(losses(iterate.iteration, iterate.evaluations, iterate.evaluation))
        if callback is None:
            return None
        return callback(Progress(history[-1], options.iterations, iterate.x, prepared.alpha))

    minimum: Minimum[Evaluation] = minimise(
        evaluate,
        prepared.start,
        iterations=options.iterations,
        tolerance=options.tolerance,
        memory=options.memory,
        callback=after_iteration,
    )
    record = Record(
        settings=prepared.settings,
        losses=tuple(history),
        best=minimum.best.iteration,
        seconds=time.perf_counter() - began,
        reason=minimum.reason,
    )
    return Result(to_pil(_as_picture(minimum.best.x, prepared.alpha)), record)


def _read(
    source: Source, role: str, options: Options, *, shape: tuple[int, ...] | None = None
) -> Picture:
    """Read a picture and bring it to size: its own aspect ratio, or the shape (H, W, 3) given."""
    picture = read_picture(source, name=role, max_pixels=options.max_pixels)
    if shape is not None:
        return resize(picture, shape[1], shape[0])
    width, height = fitted_size(picture.width, picture.height, options.size)
    check_memory(width, height, bytes_per_pixel=BYTES_PER_PIXEL)
    return resize(picture, width, height)


def _check_size(network: Network, picture: Picture, name: str) -> None:
    try:
        network.shapes(picture.height, picture.width)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None


def _alpha(options: Options, photograph: Picture, model: Model) -> float:
    if options.alpha is not None:
        return options.alpha
    share = ALPHA_PIXELS_NORMALISED if is_normalised(model.metadata) else ALPHA_PIXELS
    return share / (photograph.width * photograph.height)


def _start(
    options: Options, photograph: Picture, artwork: Picture, custom: Picture | None
) -> Array:
    """Return the first x (3, H, W) in float64."""
    height, width, _ = photograph.pixels.shape
    if custom is not None:
        return _as_pixels(custom)
    if options.init == "content":
        return _as_pixels(photograph)
    if options.init == "style":
        return _as_pixels(resize(artwork, width, height))
    return np.random.default_rng(options.seed).uniform(0.0, 255.0, (3, height, width))


def _as_pixels(picture: Picture) -> Array:
    """Return a picture's pixels as x: float64 (3, H, W)."""
    return np.ascontiguousarray(picture.pixels.transpose(2, 0, 1), np.float64)


def _as_picture(x: Array, alpha: Array | None) -> Picture:
    return Picture(pixels=x.transpose(1, 2, 0).astype(np.float32), alpha=alpha)


def _name(source: Source, role: str) -> str:
    """Return what to call a picture in a record: a file's name without its folders."""
    return Path(source).name if isinstance(source, str | os.PathLike) else f"({role})"


def _described(source: Source, role: str, picture: Picture) -> dict[str, Any]:
    return {"name": _name(source, role), "width": picture.width, "height": picture.height}


def _plain(options: Options) -> dict[str, Any]:
    """Return the options as JSON knows them."""
    values = {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}
    if not (isinstance(options.init, str) and options.init in STARTS):
        values["init"] = _name(options.init, "init")
    return {**values, "style_weights": list(options.w.values())}


def _versions() -> dict[str, str]:
    names = ("numpy", "scipy", "onnx", "onnxruntime", "onnxruntime-gpu", "pillow")
    found = {name: _version(name) for name in names}
    return {"python": platform.python_version(), **{n: v for n, v in found.items() if v}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
