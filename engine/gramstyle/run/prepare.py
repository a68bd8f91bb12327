"""From images, options and a network's file to an objective and a start."""

import dataclasses
import hashlib
import os
import platform
import sys
import weakref
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from gramstyle.cluster.client import open_cluster
from gramstyle.cluster.objective import cluster_objective
from gramstyle.core.arrays import Array
from gramstyle.core.conventions import ALPHA_PIXELS, ALPHA_PIXELS_NORMALISED
from gramstyle.core.network import Network
from gramstyle.core.objective import (
    ContentTarget,
    Evaluation,
    Objective,
    StyleTarget,
    Weights,
    style_targets,
)
from gramstyle.engines.cuda.device import Device
from gramstyle.engines.cuda.session import cuda_providers
from gramstyle.engines.onnx_graph import GraphObjective
from gramstyle.engines.onnx_session import CPU
from gramstyle.engines.registry import Engine, open_engine
from gramstyle.errors import ImageError, ModelError, OptionError
from gramstyle.images import Image, Source, fitted_size, read_image, resize, room_left
from gramstyle.model import Model, is_normalised, locate_model, read_model
from gramstyle.optimise.lbfgsb import Pairs, PairsInMemory, PairsOnDisk
from gramstyle.run.options import STARTS, Options
from gramstyle.system.machine import available_threads, check_memory, physical_memory
from gramstyle.tiling import (
    Shelf,
    TiledObjective,
    Tiling,
    tiled_content_targets,
    tiled_style_targets,
)
from gramstyle.tiling.budget import Fit, fit, on_disk
from gramstyle.tiling.spill import free_space, scratch_folder

# The least that a run takes for each pixel of the result: the images while they are resized, or
# the optimiser's vectors beside tiles.
BYTES_PER_PIXEL = 80

# The share of the machine's memory that a run may take unless it is told otherwise.
SHARE = 0.75

# On a cluster: the edge of a tile, and how many bytes a worker keeps of what pass 1 leaves.
CLUSTER_TILE, WORKER_SHELF = 1024, 2 * 10**9

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
        The image to start from, where one was given.
    model, network
        The network's file, and the network cut off above the deepest layer in use.
    options
        As given, with the tiles, the optimiser and its history as they were chosen.
    fit
        How it is laid out in memory.
    weights
        α, β and w_l.
    settings
        What a record says of it all, ready for JSON.
    """

    photograph: Image | None
    artwork: Image | None
    custom: Image | None
    model: Model
    network: Network
    options: Options
    fit: Fit
    weights: Weights
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Prepared:
    """A transfer that is ready to run: everything read, checked and in memory.

    Attributes
    ----------
    objective
        Equation 7 for these images. In tiles its content target has no positions.
    loss_and_gradient
        What the optimiser calls: the objective's, or another way to compute the same.
    weights
        Its α, β and w_l.
    read_start
        Returns `start`.
    pairs
        Makes what L-BFGS-B's history is kept in.
    settings
        What a record says of it.
    """

    objective: Objective
    loss_and_gradient: Callable[[Array], Evaluation]
    weights: Weights
    read_start: Callable[[], Array]
    pairs: Callable[[], Pairs]
    settings: Mapping[str, Any]
    options: Options
    alpha: Array | None

    @property
    def start(self) -> Array:
        """The first x (3, H, W), RGB, 0..255, on the GPU where the optimiser is.

        Float64; in tiles float32, and a new array each time, which nobody else keeps.
        """
        return self.read_start()

    def whole(self, purpose: str) -> Objective:
        """Return the objective of a whole image, for a purpose that tiles do not serve.

        Raises
        ------
        OptionError
            If it is computed in tiles.
        """
        if self.options.tile is not None or self.options.on_cluster:
            raise OptionError(f"{purpose} takes the image whole; choose a smaller --size")
        return self.objective


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
    for image, source, role in ((photograph, content, "content"), (artwork, style, "style")):
        if image is not None:
            _check_size(network, image, _name(source, role))
    options, fitted = _fitted(network, canvas, options)
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
    # An image carries its settings: better to find out now than when it is made.
    if room_left(settings) < RESULT:
        raise ModelError(
            f"{file.path} says too much of itself for an image's settings; write it anew with: "
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
        fit=fitted,
        weights=weights,
        settings=settings,
    )


def build(plan: Plan) -> Prepared:
    """Compute the targets of a plan and compose its objective.

    Raises
    ------
    RuntimeMissingError, ModelError, OptionError
        If ONNX Runtime is not installed, or does not accept the model; if there is no room on
        disk for what does not fit into memory; if there is no cluster.
    """
    if plan.options.on_cluster:
        return _on_cluster(plan)
    engine = _open_engine(plan)
    # The engine has its own form of the weights: unless somebody else keeps the plan, those in it
    # and the model's file are not in memory any more when the first responses are.
    model = dataclasses.replace(plan.model, network=engine.network)
    plan = dataclasses.replace(plan, model=model, network=engine.network)
    return _whole(plan, engine) if plan.fit.edge is None else _in_tiles(plan, engine)


def _whole(plan: Plan, engine: Engine) -> Prepared:
    options, preprocessing = plan.options, plan.model.preprocessing
    start, photograph, artwork = _start(plan), plan.photograph, plan.artwork
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
    objective = _objective(engine, plan, content, style)
    loss_and_gradient = objective.loss_and_gradient
    if options.runs_on == "onnx":
        providers = (CPU,) if engine.device is None else cuda_providers(engine.device)
        loss_and_gradient = GraphObjective(
            objective, *start.shape[1:], threads=_threads(options), providers=providers
        ).loss_and_gradient
    elif engine.device is not None and options.minimises_by == "lbfgsb":
        loss_and_gradient = partial(_from_host, objective, engine.device)
    elif engine.device is not None:
        start = engine.device.to_device(start)
    return Prepared(
        objective=objective,
        loss_and_gradient=loss_and_gradient,
        weights=plan.weights,
        read_start=lambda: start,
        pairs=partial(PairsInMemory, options.history),
        settings=plan.settings,
        options=options,
        alpha=None if photograph is None else photograph.alpha,
    )


def _in_tiles(plan: Plan, engine: Engine) -> Prepared:
    """Do the same tile by tile; what does not fit into memory goes to files."""
    options, preprocessing, fitted = plan.options, plan.model.preprocessing, plan.fit
    photograph, artwork, forward = plan.photograph, plan.artwork, engine.forward
    edge, folder = fitted.edge, scratch_folder()
    assert edge is not None  # noqa: S101 - asked for
    canvas = _canvas(plan)
    tiling = Tiling(plan.network, canvas.height, canvas.width, edge)
    shelf = Shelf(memory=fitted.shelf, folder=folder)

    style, content, targets = {}, None, None
    if artwork is not None:
        a = artwork.pixels.transpose(2, 0, 1)
        tiles = Tiling(plan.network, a.shape[1], a.shape[2], edge)
        names = options.style_layers
        style = tiled_style_targets(forward, engine.kernels, preprocessing, names, a, tiles)
    if photograph is not None:
        layer, p = options.content_layer, photograph.pixels.transpose(2, 0, 1)
        targets = tiled_content_targets(forward, preprocessing, layer, p, tiling, shelf)
        N = plan.network.shapes(canvas.height, canvas.width)[layer][0]
        content = ContentTarget(layer, np.empty((N, 0, 0), np.float32))

    objective = _objective(engine, plan, content, style)
    aside = on_disk(fitted, tiling, recalls=engine.recall is not None)
    tiled = TiledObjective(
        objective=objective,
        tiling=tiling,
        targets=targets,
        # Without room for what pass 1 leaves, pass 2 computes it again.
        recall=engine.recall if aside <= free_space(folder) else None,
        shelf=shelf,
    )

    return _tiled(plan, objective, tiled.loss_and_gradient, shelf)


def _on_cluster(plan: Plan) -> Prepared:
    """Do the same on a cluster, which is closed when what is returned is let go."""
    options = plan.options
    assert plan.fit.edge is not None  # noqa: S101 - a cluster has tiles
    pixels = [
        None if image is None else image.pixels.transpose(2, 0, 1)
        for image in (plan.photograph, plan.artwork)
    ]
    with ExitStack() as stack:
        cluster = stack.enter_context(
            open_cluster(
                scheduler=options.scheduler, workers=options.workers, threads=options.threads
            )
        )
        there = cluster_objective(
            cluster,
            file=plan.model,
            engine=options.runs_on,
            pooling=options.pools,
            content_layer=options.content_layer,
            style_layers=options.style_layers,
            photograph=pixels[0],
            artwork=pixels[1],
            weights=plan.weights,
            convention=options.convention,
            edge=plan.fit.edge,
            shelf=WORKER_SHELF,
        )
        stack.callback(there.close)
        shelf = Shelf(memory=plan.fit.shelf, folder=scratch_folder())
        prepared = _tiled(plan, there.objective, there.loss_and_gradient, shelf)
        weakref.finalize(prepared, stack.pop_all().close)
    return prepared


def _tiled(
    plan: Plan,
    objective: Objective,
    loss_and_gradient: Callable[[Array], Evaluation],
    shelf: Shelf,
) -> Prepared:
    """Return what tiles have in common: the start and the history where there is room for them."""
    options, start = plan.options, _start(plan, np.float32)
    shape = start.shape
    shelf.put("start", [start])
    del start

    def read_start() -> Array:
        start: Array = np.empty(shape, np.float32)
        shelf.take("start", [start])
        return start

    on_file = partial(PairsOnDisk, options.history, folder=scratch_folder())
    in_memory = partial(PairsInMemory, options.history)
    return Prepared(
        objective=objective,
        loss_and_gradient=loss_and_gradient,
        weights=plan.weights,
        read_start=read_start,
        pairs=in_memory if plan.fit.pairs_in_memory else on_file,
        settings=plan.settings,
        options=options,
        alpha=None if plan.photograph is None else plan.photograph.alpha,
    )


def _canvas(plan: Plan) -> Image:
    """Return the image whose size the result has."""
    canvas = plan.artwork if plan.photograph is None else plan.photograph
    assert canvas is not None  # noqa: S101 - a plan has at least one image
    return canvas


def _open_engine(plan: Plan) -> Engine:
    options = plan.options
    return open_engine(
        options.runs_on,
        plan.model,
        plan.network,
        _layers_of(plan.photograph, plan.artwork, options),
        pooling=options.pools,
        threads=_threads(options),
        device=options.device,
        tf32=options.tf32,
    )


def _objective(
    engine: Engine,
    plan: Plan,
    content: ContentTarget | None,
    style: Mapping[str, StyleTarget],
) -> Objective:
    return Objective(
        network=engine.network,
        preprocessing=plan.model.preprocessing,
        content=content,
        style=style,
        weights=plan.weights,
        convention=plan.options.formulas,
        forward=engine.forward,
        kernels=engine.kernels,
        backward=engine.backward,
    )


def _fitted(network: Network, canvas: Image, options: Options) -> tuple[Options, Fit]:
    """Return how an image fits into the memory, and the options with what follows from that."""
    there = physical_memory()
    memory = options.memory or (sys.maxsize if there is None else int(SHARE * there))
    fitted = fit(
        network,
        canvas.height,
        canvas.width,
        engine=options.runs_on,
        memory=memory,
        history=options.history,
        disk=free_space(scratch_folder()),
        edge=options.tile or (CLUSTER_TILE if options.on_cluster else None),
        scheduler=options.workers is not None,
    )
    if fitted.edge is None:
        return options, fitted
    optimiser = options.optimiser or "lbfgsb-device"
    needed = (2 * options.history + 5) * 3 * 8 * canvas.height * canvas.width
    if optimiser == "lbfgsb" and needed > memory:
        raise OptionError(
            f"SciPy's L-BFGS-B takes {needed / 1e9:.1f} GB at {canvas.width}×{canvas.height} "
            "pixels; leave --optimiser out"
        )
    options = dataclasses.replace(
        options, tile=fitted.edge, optimiser=optimiser, history=fitted.history
    )
    return options, fitted


def _from_host(objective: Objective, device: Device, x: Array) -> Evaluation:
    """Evaluate on a GPU for an optimiser that is not there."""
    evaluation = objective.loss_and_gradient(device.to_device(x))
    return dataclasses.replace(evaluation, gradient=device.to_host(evaluation.gradient))


def _read(
    source: Source, role: str, options: Options, *, shape: tuple[int, ...] | None = None
) -> Image:
    """Read an image and bring it to size: its own aspect ratio, or the shape (H, W, 3) given."""
    image = read_image(source, name=role, max_pixels=options.max_pixels)
    if shape is not None:
        return resize(image, shape[1], shape[0])
    width, height = fitted_size(image.width, image.height, options.size)
    check_memory(width, height, bytes_per_pixel=BYTES_PER_PIXEL)
    return resize(image, width, height)


def _check_size(network: Network, image: Image, name: str) -> None:
    try:
        network.shapes(image.height, image.width)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None


def _layers_of(
    photograph: Image | None, artwork: Image | None, options: Options
) -> tuple[str, ...]:
    """Return the layers that a loss term looks at."""
    content = () if photograph is None else (options.content_layer,)
    return (*content, *(() if artwork is None else options.style_layers))


def _threads(options: Options) -> int:
    return options.threads or available_threads()


def _alpha(options: Options, canvas: Image, model: Model) -> float:
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


def _start(plan: Plan, dtype: type = np.float64) -> Array:
    """Return the first x (3, H, W)."""
    canvas = _canvas(plan)
    if plan.custom is not None:
        return _as_pixels(plan.custom, dtype)
    if plan.options.start == "content":
        return _as_pixels(canvas, dtype)
    if plan.options.start == "style":
        assert plan.artwork is not None  # noqa: S101 - checked when planning
        return _as_pixels(resize(plan.artwork, canvas.width, canvas.height), dtype)
    noise = np.random.default_rng(plan.options.seed)
    x: Array = np.empty((3, canvas.height, canvas.width), dtype)
    for channel in x:
        channel[...] = noise.uniform(0.0, 255.0, channel.shape)
    return x


def _is_named(start: Source) -> bool:
    return isinstance(start, str) and start in STARTS


def _as_pixels(image: Image, dtype: type = np.float64) -> Array:
    """Return an image's pixels as x (3, H, W)."""
    return np.ascontiguousarray(image.pixels.transpose(2, 0, 1), dtype)


def _name(source: Source | None, role: str) -> str:
    """Return what to call an image in a record: a file's name without its folders."""
    return Path(source).name if isinstance(source, str | os.PathLike) else f"({role})"


def _described(source: Source | None, role: str, image: Image | None) -> dict[str, Any] | None:
    if image is None:
        return None
    return {
        "name": _name(source, role),
        "width": image.width,
        "height": image.height,
        "pixels": _digest(image),
    }


def _digest(image: Image) -> str:
    """Return the SHA-256 of the pixels as float32, and of the transparency behind them."""
    alpha = b"" if image.alpha is None else image.alpha.tobytes()
    return hashlib.sha256(image.pixels.tobytes() + alpha).hexdigest()


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
