"""Plan a run: read and check all inputs, and compute nothing yet."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from gramstyle.core.network import Network
from gramstyle.engines import registry
from gramstyle.engines.spec import ObjectiveSpec
from gramstyle.errors import ImageError, ModelError, OptionError
from gramstyle.images import Encoding, Image, Source, room_left
from gramstyle.model import Model
from gramstyle.run.colours import CHROMA, check_colours
from gramstyle.run.inputs import (
    Canvas,
    RunInputs,
    ScaleImages,
    Styles,
    check_samples,
    memory_budget,
    notify_of_enlarged,
    notify_of_invisible,
    notify_of_lost_bits,
    read_originals,
    scaled_to,
    shorter_edge,
    style_sources,
)
from gramstyle.run.masks import check_guides, notify_of_resized
from gramstyle.run.open_model import ModelSource, opened
from gramstyle.run.options import Options, is_named_start, options_or_default
from gramstyle.run.options.masks import (
    check_masks,
    mask_sources,
    mask_values,
)
from gramstyle.run.plan.encoding import encoding_of, profile_hash
from gramstyle.run.plan.loss import loss_of
from gramstyle.run.plan.scales import Scale, scales_of
from gramstyle.run.settings import (
    ImageSettings,
    LossSettings,
    RunSettings,
    given_values,
    name_of,
    program,
    style_roles,
    versions,
)
from gramstyle.system.machine import available_threads
from gramstyle.tiling.budget import FIXED, Layout, choose_layout
from gramstyle.tiling.spill import scratch_space

# On a cluster: a tile's edge in pixels, and the bytes of pass 1's results in a worker's memory.
CLUSTER_TILE, WORKER_SPILL = 1024, 2 * 10**9

# Room for the characters that a run adds to the settings: how it ended, a cell's name.
RESULT = 2000


@dataclass(frozen=True, kw_only=True)
class ScalePlan:
    """One scale of a run.

    Attributes
    ----------
    number
        The number of the scale, from 0.
    iterations
        The maximum number of iterations.
    spec
        The description of the objective.
    layout
        The layout of the scale in memory.
    options
        The run's options, with the choices for this scale filled in.
    """

    number: int
    iterations: int
    spec: ObjectiveSpec
    layout: Layout
    options: Options

    @property
    def width(self) -> int:
        """The width of the image, in pixels."""
        return self.spec.width

    @property
    def height(self) -> int:
        """The height of the image, in pixels."""
        return self.spec.height


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """The plan of a run. The run releases its inputs, so that a plan can be executed once.

    Attributes
    ----------
    content, styles, model
        The images, as given, and the path of the model file.
    options
        The options, as given.
    scales
        The scales, the smallest first.
    inputs
        The decoded images and the model.
    settings
        The settings that a record names.
    encoding
        How a file stores the result.
    """

    content: Source | None
    styles: tuple[Source, ...]
    model: Path
    options: Options
    scales: tuple[ScalePlan, ...]
    inputs: RunInputs
    settings: RunSettings
    encoding: Encoding

    @property
    def last(self) -> ScalePlan:
        """The last scale, which has the size of the result."""
        return self.scales[-1]

    def ahead(self, number: int) -> float:
        """Return how long all later scales take, in iterations of this scale."""
        pixels = self.scales[number].width * self.scales[number].height
        return sum(
            scale.iterations * scale.width * scale.height / pixels
            for scale in self.scales[number + 1 :]
        )


def plan_run(
    content: Source | None,
    style: Styles | None,
    options: Options | None = None,
    *,
    model: ModelSource | None = None,
    notify: Callable[[str], None] | None = None,
    canvas: Canvas | None = None,
) -> RunPlan:
    """Read and check everything that a run needs. Each image is decoded once.

    Parameters
    ----------
    content, style
        As in `transfer`. If one of them is None, its loss is left out, and the result is a
        reconstruction of the other.
    options, model
        As in `transfer`.
    notify
        Called with one sentence before each long step, such as building the model, for an image
        that is transparent everywhere or not read in full, for a colour profile that cannot be
        kept, and if the connection to the scheduler is not secure.
    canvas
        The size of a result without a content image, a texture, whose longer edge is
        `Options.size`; None is the aspect ratio of the first style image.

    Raises
    ------
    ImageError, OptionError, ModelError
        If an image, an option or the model cannot be used.
    """
    options = options_or_default(options)
    if options.scheduler is not None and notify is not None:
        from gramstyle.cluster.remote import exposure  # the cluster, for runs on one only

        warning = exposure(options.scheduler)
        if warning is not None:
            notify(warning)
    styles = style_sources(style)
    options.style_shares(len(styles))  # refuses another number of styles
    check_masks(options, content=content is not None, styles=len(styles))
    check_colours(options, content=content is not None, style=bool(styles))
    originals = read_originals(content, styles, options)
    scales = scales_of(
        options.size,
        iterations=options.iterations,
        scales=options.scales,
        first=options.formulas.first_scale,
        shorter=shorter_edge(originals, options, canvas),
    )
    check_samples(originals, [scale.edge for scale in scales], options)
    final = scaled_to(originals, options.size, options, canvas)  # first, it may be too large
    if notify is not None:
        notify_of_lost_bits(originals, content, styles, options.start, notify)
        notify_of_invisible(final, content, styles, options.start, notify)
        notify_of_enlarged(originals, final, styles, options, notify)
        if originals.masks is not None:
            notify_of_resized(originals.masks, final.canvas, originals.sizes(), notify)
    described = {} if originals.masks is None else originals.masks.described()
    images = [
        scaled_to(
            originals, scale.edge, options, canvas and canvas.fitted(scale.edge, options.multiple)
        )
        for scale in scales[:-1]
    ]
    images.append(final)
    encoding = encoding_of(originals.content, name_of(content, "content"), options, notify)
    del originals
    network_file, cache = opened(model, notify=notify, check=partial(check_packages, options))
    given, options = options, options.with_layers_of(network_file.network)
    deepest = _network(network_file, options, final)
    if final.content is not None:
        _check_size(deepest, final.content, name_of(content, "content"))
    roles = style_roles(len(styles))
    for sample in final.styles:
        name = name_of(styles[sample.number], roles[sample.number])
        _check_size(deepest, sample.image, name)
    for each in images:
        if each.masks is not None:
            several = len(images) > 1
            check_guides(each.masks, deepest, options.style_layers or (), several=several)
    plans = tuple(
        _scale_plan(number, scale, each, network_file, options)
        for number, (scale, each) in enumerate(zip(scales, images, strict=True))
    )
    settings = RunSettings(
        program=program(),
        options=_plain(plans[-1], options, len(styles)),
        given=given_values(given),
        loss=_loss_settings(plans[-1].spec),
        content=_described(content, "content", final.content),
        styles=tuple(map(ImageSettings.of, styles, roles, final.largest_styles)),
        start=_described(options.start, "init", final.custom),
        masks=described,
        model=network_file.metadata,
        sha256=network_file.sha256,
        versions=versions(),
        scale_edges=tuple(scale.edge for scale in scales) if len(scales) > 1 else (),
        icc_profile=profile_hash(encoding),
    )
    # The image's metadata contain the settings: a run must not fail at its end for lack of room.
    if room_left(settings.to_json()) < RESULT:
        raise ModelError(
            f"the metadata of {network_file.path} are too long for an image's settings; write the "
            "model again with: gramstyle model export --from ... --to ..."
        )
    return RunPlan(
        content=content,
        styles=styles,
        model=network_file.path,
        options=given,
        scales=plans,
        # The layers above the deepest one in use are released.
        inputs=RunInputs(replace(network_file, network=deepest), list(images), cache),
        settings=settings,
        encoding=encoding,
    )


def check_packages(*runs: Options) -> None:
    """Check that the packages for runs with these options can be imported on this machine.

    Raises
    ------
    RuntimeMissingError
        If one is not installed or cannot be imported.
    """
    for options in runs:
        if options.on_cluster:
            from gramstyle.cluster.dask import load_distributed

            load_distributed()
        if options.scheduler is None:
            registry.check_packages(options.runs_on, options.device)


def _scale_plan(
    number: int, scale: Scale, images: ScaleImages, model: Model, options: Options
) -> ScalePlan:
    canvas, network = images.canvas, _network(model, options, images)
    masks = 0 if images.masks is None else images.masks.bytes()
    options = replace(options, iterations=scale.iterations)
    layout, options = _laid_out(network, canvas, options, masks)
    terms, weights = loss_of(model, network, images, options)
    spec = ObjectiveSpec(
        model=model.sha256,
        pooling=options.pools,
        padding=options.pads,
        terms=terms,
        weights=weights,
        height=canvas.height,
        width=canvas.width,
        engine=options.runs_on,
        device=options.device,
        tf32=options.tf32,
        threads=options.threads,
        edge=layout.edge,
        spill_memory=WORKER_SPILL if options.on_cluster else layout.spill_memory,
    )
    return ScalePlan(
        number=number, iterations=scale.iterations, spec=spec, layout=layout, options=options
    )


def _network(model: Model, options: Options, images: ScaleImages) -> Network:
    """Return the network up to the deepest layer that a term uses."""
    content = () if images.content is None else options.content_layers or ()
    style = options.style_layers or () if images.styles else ()
    network = model.network.until((*content, *style))
    return network.pooled_by(options.pools).padded_by(options.pads)


def _laid_out(
    network: Network, canvas: Canvas, options: Options, masks: int
) -> tuple[Layout, Options]:
    """Return the layout of an image in the memory budget, and the options that follow from it.

    The masks take so many bytes.
    """
    memory = memory_budget(options)
    if options.colours == "content":
        memory -= CHROMA * canvas.width * canvas.height
    layout = choose_layout(
        network,
        canvas.height,
        canvas.width,
        engine=options.runs_on,
        memory=memory,
        history=options.history,
        scipy=options.minimises_by == "scipy",
        disk=scratch_space(),
        edge=options.tile or (CLUSTER_TILE if options.on_cluster else None),
        scheduler=options.workers is not None,
        masks=masks,
    )
    if layout.edge is None:
        return layout, options
    needed = FIXED + (2 * options.history + 5) * 3 * 8 * canvas.height * canvas.width
    if options.minimises_by == "scipy" and needed > memory:
        raise OptionError(
            f"SciPy's L-BFGS-B takes {needed / 1e9:.1f} GB at {canvas.width}×{canvas.height} "
            "pixels; leave --optimiser out"
        )
    chosen = replace(options, tile=layout.edge, history=layout.history)
    return layout, chosen


def _check_size(network: Network, image: Image, name: str) -> None:
    try:
        network.shapes(image.height, image.width)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None


def _described(source: Source | None, role: str, image: Image | None) -> ImageSettings | None:
    return None if image is None or source is None else ImageSettings.of(source, role, image)


def _loss_settings(spec: ObjectiveSpec) -> Mapping[str, LossSettings]:
    return {
        name: LossSettings(weight, {t.layer: t.weight for t in spec.terms if t.name == name})
        for name, weight in spec.weights.items()
    }


def _plain(last: ScalePlan, given: Options, styles: int) -> dict[str, Any]:
    """Return the options as JSON types, with the choices filled in."""
    options, loss = last.options, _loss_settings(last.spec)
    values = {each.name: getattr(options, each.name) for each in fields(options)}
    del values["content_layer"]
    start = options.start
    masks = mask_values({role: name_of(each, role) for role, each in mask_sources(options).items()})
    return {
        **values,
        **{name: list(each) if isinstance(each, tuple) else each for name, each in masks.items()},
        "iterations": given.iterations,
        "init": start if is_named_start(start) else name_of(start, "init"),
        "pooling": options.pools,
        "padding": options.pads,
        "engine": options.runs_on,
        "optimiser": options.minimises_by,
        "threads": options.threads or available_threads(),
        "alpha": loss["content"].weight if "content" in loss else 0.0,
        "beta": loss["style"].weight if "style" in loss else 0.0,
        "content_weights": list(loss["content"].layers.values()) if "content" in loss else [],
        "style_weights": list(loss["style"].layers.values()) if "style" in loss else [],
        "style_blend": list(options.style_shares(styles)),
        "style_scale": list(options.style_scales),
    }
