"""From pictures, options and a network's file to an objective and a start."""

import dataclasses
import hashlib
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from gramstyle.arrays import Array
from gramstyle.cuda_session import cuda_providers
from gramstyle.device import Device
from gramstyle.engines import open_engine
from gramstyle.errors import ImageError, ModelError, OptionError
from gramstyle.graph_objective import GraphObjective
from gramstyle.images import Picture, Source, fitted_size, read_picture, resize, room_left
from gramstyle.machine import available_threads, check_memory
from gramstyle.model import Model, is_normalised, locate_model, read_model
from gramstyle.network import Network
from gramstyle.objective import ContentTarget, Evaluation, Objective, Weights, style_targets
from gramstyle.options import ALPHA_PIXELS, ALPHA_PIXELS_NORMALISED, STARTS, Options
from gramstyle.session import CPU

# What a run takes for each pixel of the result at the default layers: 1,280 bytes of responses,
# 512 of derivatives, 600 of L-BFGS-B's memory, and what SciPy copies.
BYTES_PER_PIXEL = 2800

# The characters that what a run adds to the settings takes: how it ended, a cell's name.
RESULT = 2000


@dataclass(frozen=True)
class Plan:
    """A transfer's inputs, read and checked; nothing has been computed yet.

    Attributes
    ----------
    photograph, artwork
        At the size of the run; one of them may be None.
    custom
        The picture to start from, where one was given.
    model, network
        The network's file, and the network cut off above the deepest layer in use.
    options
        As given.
    weights
        α, β and w_l.
    settings
        What a record says of it all, ready for JSON.
    """

    photograph: Picture | None
    artwork: Picture | None
    custom: Picture | None
    model: Model
    network: Network
    options: Options
    weights: Weights
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Prepared:
    """A transfer that is ready to run: everything read, checked and in memory.

    Attributes
    ----------
    objective
        Equation 7 for these pictures.
    loss_and_gradient
        What the optimiser calls: the objective's, or another way to compute the same.
    weights
        Its α, β and w_l.
    start
        The first x, float64 (3, H, W), RGB, 0..255; on the GPU where the optimiser is.
    settings
        What a record says of it.
    """

    objective: Objective
    loss_and_gradient: Callable[[Array], Evaluation]
    weights: Weights
    start: Array
    settings: Mapping[str, Any]
    options: Options
    alpha: Array | None


def prepare(
    content: Source | None,
    style: Source | None,
    options: Options | None = None,
    *,
    model: str | os.PathLike[str] | None = None,
    notify: Callable[[str], None] | None = None,
) -> Prepared:
    """Read, check and compute everything that a run needs; takes and raises what `plan` does.

    Raises
    ------
    RuntimeMissingError
        If ONNX Runtime is not installed.
    """
    return build(plan(content, style, options, model=model, notify=notify))


def plan(
    content: Source | None,
    style: Source | None,
    options: Options | None = None,
    *,
    model: str | os.PathLike[str] | None = None,
    notify: Callable[[str], None] | None = None,
) -> Plan:
    """Read and check everything that a run needs.

    Parameters
    ----------
    content, style
        As in `transfer`. Without one of them its term is left out, and what is made is a
        reconstruction of the other.
    notify
        Told in one sentence of anything that takes long, such as building the model.

    Raises
    ------
    ImageError, OptionError, ModelError
        If something that was given cannot be used.
    """
    options = Options() if options is None else options
    photograph = None if content is None else _read(content, "content", options)
    artwork = None if style is None else _read(style, "style", options)
    canvas = artwork if photograph is None else photograph
    if canvas is None:
        raise OptionError("there is nothing to compare with; give a photograph or a painting")
    missing = {"content": photograph is None, "style": artwork is None}
    custom = None
    if not _is_named(options.start):
        custom = _read(options.start, "init", options, shape=canvas.pixels.shape)
    elif missing.get(str(options.start), False):
        raise OptionError(f"there is no {options.start} to start from; choose another --init")

    file = read_model(locate_model(model, notify=notify))
    network = file.network.until(_layers_of(photograph, artwork, options)).pooled_by(options.pools)
    for picture, source, role in ((photograph, content, "content"), (artwork, style, "style")):
        if picture is not None:
            _check_size(network, picture, _name(source, role))
    filters = {name: N for name, (N, _, _) in network.shapes(canvas.height, canvas.width).items()}
    weights = Weights(
        alpha=0.0 if photograph is None else _alpha(options, canvas, file),
        beta=0.0 if artwork is None else options.beta,
        w={} if artwork is None else _layer_weights(options, filters),
    )
    settings = {
        "program": f"gramstyle {_version('gramstyle')}",
        **_plain(options),
        "alpha": weights.alpha,
        "beta": weights.beta,
        "style_weights": list(weights.w.values()),
        "threads": _threads(options),
        "content": _described(content, "content", photograph),
        "style": _described(style, "style", artwork),
        "start": _described(options.start, "init", custom),
        "model": {**file.metadata, "sha256": file.sha256},
        "versions": _versions(),
    }
    # A picture carries its settings: better to find out now than when it is made.
    if room_left(settings) < RESULT:
        raise ModelError(
            f"{file.path} says too much of itself for a picture's settings; write it anew with: "
            "gramstyle model export --from ... --to ..."
        )
    return Plan(
        photograph=photograph,
        artwork=artwork,
        custom=custom,
        # Its layers above the deepest in use are not kept.
        model=dataclasses.replace(file, network=network),
        network=network,
        options=options,
        weights=weights,
        settings=settings,
    )


def build(plan: Plan) -> Prepared:
    """Compute the targets of a plan and compose its objective.

    Raises
    ------
    RuntimeMissingError, ModelError
        If ONNX Runtime is not installed, or does not accept the model.
    """
    options, preprocessing = plan.options, plan.model.preprocessing
    layers = _layers_of(plan.photograph, plan.artwork, options)
    threads = _threads(options)
    start, photograph, artwork = _start(plan), plan.photograph, plan.artwork
    weights, settings = plan.weights, plan.settings
    engine = open_engine(
        options.runs_on,
        plan.model,
        plan.network,
        layers,
        pooling=options.pools,
        threads=threads,
        device=options.device,
        tf32=options.tf32,
    )
    # The engine has its own form of the weights: unless somebody else keeps the plan, those in it
    # and the model's file are not in memory any more when the first responses are.
    del plan
    forward, kernels = engine.forward, engine.kernels
    style, content = {}, None
    if artwork is not None:
        responses = forward(preprocessing.forward(_as_pixels(artwork)))
        style = style_targets(responses, options.style_layers, kernels=kernels)
    if photograph is not None:
        responses = forward(preprocessing.forward(_as_pixels(photograph)))
        layer = options.content_layer
        # Copied as it lies in memory: engines differ in that.
        content = ContentTarget(layer, responses[layer].copy(order="K"))
    objective = Objective(
        network=engine.network,
        preprocessing=preprocessing,
        content=content,
        style=style,
        weights=weights,
        convention=options.formulas,
        forward=forward,
        kernels=kernels,
        backward=engine.backward,
    )
    loss_and_gradient = objective.loss_and_gradient
    if options.runs_on == "onnx":
        providers = (CPU,) if engine.device is None else cuda_providers(engine.device)
        loss_and_gradient = GraphObjective(
            objective, *start.shape[1:], threads=threads, providers=providers
        ).loss_and_gradient
    elif engine.device is not None and options.minimises_by == "lbfgsb":
        loss_and_gradient = partial(_from_host, objective, engine.device)
    elif engine.device is not None:
        start = engine.device.to_device(start)
    return Prepared(
        objective=objective,
        loss_and_gradient=loss_and_gradient,
        weights=weights,
        start=start,
        settings=settings,
        options=options,
        alpha=None if photograph is None else photograph.alpha,
    )


def _from_host(objective: Objective, device: Device, x: Array) -> Evaluation:
    """Evaluate on a GPU for an optimiser that is not there."""
    evaluation = objective.loss_and_gradient(device.to_device(x))
    return dataclasses.replace(evaluation, gradient=device.to_host(evaluation.gradient))


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


def _layers_of(
    photograph: Picture | None, artwork: Picture | None, options: Options
) -> tuple[str, ...]:
    """Return the layers that a loss term looks at."""
    content = () if photograph is None else (options.content_layer,)
    return (*content, *(() if artwork is None else options.style_layers))


def _threads(options: Options) -> int:
    return options.threads or available_threads()


def _alpha(options: Options, canvas: Picture, model: Model) -> float:
    if options.alpha is not None:
        return options.alpha
    if options.formulas.alpha is not None:
        return options.formulas.alpha
    share = ALPHA_PIXELS_NORMALISED if is_normalised(model.metadata) else ALPHA_PIXELS
    return share / (canvas.width * canvas.height)


def _layer_weights(options: Options, filters: Mapping[str, int]) -> dict[str, float]:
    """Return the weight w_l of each style layer: the one given, or the convention's."""
    names = options.style_layers
    if options.style_weights is not None:
        return dict(zip(names, options.style_weights, strict=True))
    weight = options.formulas.layer_weight
    return {name: weight(filters[name], len(names)) for name in names}


def _start(plan: Plan) -> Array:
    """Return the first x (3, H, W) in float64."""
    canvas = plan.artwork if plan.photograph is None else plan.photograph
    assert canvas is not None  # noqa: S101 - a plan has at least one picture
    if plan.custom is not None:
        return _as_pixels(plan.custom)
    if plan.options.start == "content":
        return _as_pixels(canvas)
    if plan.options.start == "style":
        assert plan.artwork is not None  # noqa: S101 - checked when planning
        return _as_pixels(resize(plan.artwork, canvas.width, canvas.height))
    noise = np.random.default_rng(plan.options.seed)
    return noise.uniform(0.0, 255.0, (3, canvas.height, canvas.width))


def _is_named(start: Source) -> bool:
    return isinstance(start, str) and start in STARTS


def _as_pixels(picture: Picture) -> Array:
    """Return a picture's pixels as x: float64 (3, H, W)."""
    return np.ascontiguousarray(picture.pixels.transpose(2, 0, 1), np.float64)


def _name(source: Source | None, role: str) -> str:
    """Return what to call a picture in a record: a file's name without its folders."""
    return Path(source).name if isinstance(source, str | os.PathLike) else f"({role})"


def _described(source: Source | None, role: str, picture: Picture | None) -> dict[str, Any] | None:
    if picture is None:
        return None
    return {
        "name": _name(source, role),
        "width": picture.width,
        "height": picture.height,
        "pixels": _digest(picture),
    }


def _digest(picture: Picture) -> str:
    """Return the SHA-256 of the pixels as float32, and of the transparency behind them."""
    alpha = b"" if picture.alpha is None else picture.alpha.tobytes()
    return hashlib.sha256(picture.pixels.tobytes() + alpha).hexdigest()


def _plain(options: Options) -> dict[str, Any]:
    """Return the options as JSON knows them, the convention's choices filled in."""
    values = {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}
    start = options.start if _is_named(options.start) else _name(options.start, "init")
    return {
        **values,
        "init": start,
        "pooling": options.pools,
        "engine": options.runs_on,
        "optimiser": options.minimises_by,
    }


def _versions() -> dict[str, str]:
    names = (
        "numpy",
        "scipy",
        "onnx",
        "onnxruntime",
        "onnxruntime-gpu",
        "numba",
        "cupy-cuda12x",
        "cupy-cuda13x",
        "pillow",
    )
    found = {name: _version(name) for name in names}
    return {"python": platform.python_version(), **{n: v for n, v in found.items() if v}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
