"""`gramstyle objective export`: the loss and its gradient as one ONNX graph."""

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gramstyle.browser import (
    Defaults,
    check_web_folder,
    fetch_runtime,
    read_runtime,
    site_files,
    write_web_folder,
)
from gramstyle.cli import arguments as add
from gramstyle.cli.help import Help
from gramstyle.cli.parsing import Commands
from gramstyle.cli.printable import printable
from gramstyle.cli.speaking import Speaker, report
from gramstyle.core.network import Convolution
from gramstyle.core.objective import Objective
from gramstyle.engines.onnx_graph import objective_graph, targets_graph
from gramstyle.errors import OptionError
from gramstyle.images import read_original
from gramstyle.model.onnx_file.terms import weight_name
from gramstyle.model.precision import Precision, lossless
from gramstyle.model.pretrained import provenance
from gramstyle.run.options import Options
from gramstyle.run.options.masks import mask_sources
from gramstyle.run.plan import RunPlan, plan_run
from gramstyle.run.prepare import RunResources
from gramstyle.run.settings import RunSettings
from gramstyle.system.files import is_same_place, write_atomically
from gramstyle.system.replaceable import check_file
from gramstyle.system.temporary import temporary_directory

# The size with which options are checked if the graph takes images of any size.
ANY_EDGE = 64

# The options of the style images, which the targets depend on.
STYLE_OPTIONS = ("style_blend", "style_scale", "style_size", "colours")

# The options of the regions, whose masks the graph contains.
REGION_OPTIONS = ("style_regions", "content_labels", "style_labels")

# The options that the graph depends on.
OPTIONS = (
    "alpha", "beta", "content_layers", "content_weights", "style_loss", "style_layers",
    "style_weights", *STYLE_OPTIONS, *REGION_OPTIONS, "tv", "convention", "pooling", "padding",
)  # fmt: skip

# The options of a graph for one size or for certain images; a folder for the web takes any.
NOT_WEB = {
    "exact": "--size: the page asks for the size",
    "content": "--content: the page asks for the images",
    "style": "--style: the page asks for the images",
    "targets_model": "--targets-model: the folder contains targets.onnx",
}

# What the first screen of the help shows.
SCREEN = {
    "what to write": ["--output", "--web"],
    "the images": ["--size", "--content", "--style", "--targets", "--targets-model"],
    "the loss": ["--alpha", "--model"],
}

EXAMPLES = """\
examples:
  gramstyle objective export --size 512x384 --content photo.jpg \\
    --style painting.jpg -o objective.onnx
  gramstyle objective export --targets inputs --alpha 2e-4 -o objective.onnx \\
    --targets-model targets.onnx
  gramstyle objective export --web public
"""


def add_parser(commands: Commands, summary: str) -> None:
    """Describe the command."""
    parser = commands.add_parser("objective", help=summary)
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    export = actions.add_parser(
        "export",
        help="write the loss and its gradient as one ONNX graph",
        usage="gramstyle objective export (-o FILE | --web DIR) [options]",
        description="Write the loss and its gradient as one graph of standard ONNX operators: an "
        "image in, loss and gradient out. It runs wherever ONNX Runtime does, without Python.",
        epilog=EXAMPLES,
    )
    export.set_defaults(run=run_export)
    export.show_first(SCREEN)
    output = export.add_mutually_exclusive_group(required=True)
    output.add_argument("-o", "--output", type=Path, metavar="FILE",
        help="the graph to write")  # fmt: skip
    output.add_argument("--web", type=Path, metavar="DIR",
        help=Help("the folder to write, for any web server: a page that transfers styles inside "
        "the browser, both graphs, and ONNX Runtime, which npm fetches; an earlier folder of this "
        "command is replaced",
        short="a folder with a web page that transfers styles"))  # fmt: skip
    export.add_argument("--runtime", type=Path, metavar="TGZ",
        help="with --web: the package of ONNX Runtime for browsers, instead of fetching it by "
        "npm")  # fmt: skip

    images = export.add_argument_group("the images")
    images.add_argument("--size", dest="exact", type=add.width_and_height, metavar="WxH",
        help=Help("the exact size of the image that the graph takes; the photograph is resized to "
        "it (default without a photograph: any size)",
        short="the size of the image that the graph takes"))  # fmt: skip
    images.add_argument("--content", type=Path, metavar="PHOTO",
        help=Help("the content image; without it, the loss has no content term",
        short="the content image; needs --size"))  # fmt: skip
    images.add_argument("--style", type=Path, nargs="+", metavar="PAINTING",
        help=Help("the style image, or several; without it, the loss has no style terms",
        short="the style image, or several"))  # fmt: skip
    images.add_argument("--targets", choices=("stored", "inputs"),
        help=Help("stored: the file contains the targets, P and the Gram matrices of these "
        "images; inputs: the graph takes them as inputs; leave --content and --style out "
        "(default stored)", short="inputs: one graph for all images, which takes their "
        "responses and Gram matrices (default stored)"))  # fmt: skip
    images.add_argument("--targets-model", type=Path, metavar="FILE",
        help=Help("with --targets inputs: also write the graph that computes the targets from "
        "an image", short="also write the graph that computes these inputs"))  # fmt: skip

    add.add_style(export)
    add.add_regions(export, protect=False)
    add.add_loss(export)
    add.add_machine(export.add_argument_group("the machine"))


def run_export(arguments: argparse.Namespace) -> None:
    """Write the graph, and the one that computes its targets; or the folder for the web."""
    if arguments.web is not None:
        _export_for_web(arguments)
        return
    if arguments.runtime is not None:
        raise OptionError("--runtime is for --web; leave it out, or name the folder by --web DIR")
    arguments.targets = arguments.targets or "stored"
    targets = [path for path in (arguments.output, arguments.targets_model) if path is not None]
    sources = [path for path in (arguments.content, *(arguments.style or ())) if path is not None]
    sources += _masks(arguments)
    _check_places(targets, sources)
    plan, objective = (_stored if arguments.targets == "stored" else _as_inputs)(arguments)
    _check_places(targets, [*sources, plan.model])

    precision = _precision(objective)
    shape = arguments.exact and arguments.exact[::-1]
    metadata = _metadata(plan.settings, arguments)
    files = {
        arguments.output: objective_graph(
            objective, shape, targets=arguments.targets, precision=precision, metadata=metadata
        )
    }
    if arguments.targets_model is not None:
        files[arguments.targets_model] = targets_graph(
            objective, precision=precision, metadata=_of_network(plan.settings)
        )
    for path, data in files.items():
        write_atomically(path, data, error=OptionError)
        report(f"wrote {path} ({len(data) / 1e6:.1f} MB)")


def _export_for_web(arguments: argparse.Namespace) -> None:
    """Write the folder that any web server can serve."""
    for name, what in NOT_WEB.items():
        if getattr(arguments, name) is not None:
            raise OptionError(f"--web excludes {what}")
    if arguments.targets == "stored":
        raise OptionError("--web excludes --targets stored: the page computes the targets")
    if arguments.padding == "circular":
        raise OptionError("--web excludes --padding circular, which needs multiples of 16 pixels")
    check_web_folder(arguments.web)
    tarball = None if arguments.runtime is None else read_runtime(arguments.runtime)
    arguments.targets = "inputs"
    plan, objective = _as_inputs(arguments)
    if tarball is None:
        with temporary_directory() as folder:
            tarball = fetch_runtime(folder)
    precision = _precision(objective)
    graph = objective_graph(
        objective,
        None,
        targets="inputs",
        precision=precision,
        metadata=_metadata(plan.settings, arguments),
        weights_as="inputs",
    )
    targets = targets_graph(objective, precision=precision, metadata=_of_network(plan.settings))
    files = site_files(graph, targets, _defaults(plan, objective), tarball)
    write_web_folder(arguments.web, files)
    size = sum(map(len, files.values()))
    report(f"wrote {arguments.web} ({len(files)} files, {size / 1e6:.1f} MB)")


def _defaults(plan: RunPlan, objective: Objective) -> Defaults:
    """Return what the page needs to know of a run of any size; the plan is for one size."""
    options, model, spec = plan.options, plan.settings.model, plan.last.spec
    weights: dict[str, float | None] = {
        weight_name(loss): value for loss, value in objective.weights.items()
    }
    alpha_pixels = 0.0
    if options.alpha is None and options.formulas.alpha is None:
        alpha_pixels = objective.weights["content"] * spec.height * spec.width
        weights["alpha"] = None
    return Defaults(
        weights=weights,
        alpha_pixels=alpha_pixels,
        first_scale=options.formulas.first_scale,
        history=options.history,
        tolerance=options.tolerance,
        network=model.get("network", "unknown"),
        attribution=model.get("attribution", ""),
        program=plan.settings.program,
    )


def _precision(objective: Objective) -> Precision:
    """Return the smallest precision that stores the network's weights exactly."""
    layers = objective.network.layers
    return lossless(layer.W for layer in layers if isinstance(layer, Convolution))


def _stored(arguments: argparse.Namespace) -> tuple[RunPlan, Objective]:
    """Return the objective for the images that are named."""
    if arguments.targets_model is not None:
        raise OptionError("--targets-model is for --targets inputs; stored targets need none")
    if arguments.content is None and arguments.style is None:
        raise OptionError("name --content, --style or both, or take --targets inputs")
    if arguments.content is not None and arguments.exact is None:
        raise OptionError("add --size WxH: the content image's responses have one size")
    options = _options(arguments)
    if mask_sources(options) and arguments.exact is None:
        raise OptionError("add --size WxH: the masks of regions have one size")
    content = None
    if arguments.content is not None:
        image = read_original(arguments.content, name="content", max_pixels=options.max_pixels)
        content = image.resized(*arguments.exact).pixels / 255
    plan = _plan(content, arguments.style, options, arguments)
    with RunResources(plan) as resources, resources.prepare(0) as prepared:
        return plan, prepared.whole("objective export")


def _as_inputs(arguments: argparse.Namespace) -> tuple[RunPlan, Objective]:
    """Return the objective whose targets are inputs of the graph: its terms have none."""
    if arguments.content is not None or arguments.style is not None:
        raise OptionError("--targets inputs takes no images; leave --content and --style out")
    for name in REGION_OPTIONS:
        if getattr(arguments, name) is not None:
            raise OptionError(
                f"--{name.replace('_', '-')} is for --targets stored, where the graph contains the "
                "masks; leave it out, or name --content and --style"
            )
    for name in STYLE_OPTIONS:
        if getattr(arguments, name) is not None:
            raise OptionError(
                f"--{name.replace('_', '-')} is for --targets stored; with --targets inputs, pass "
                "the targets A/M as the weighted mean of those of the style images"
            )
    options = _options(arguments)
    sized = arguments.exact is not None or arguments.web is not None
    if not sized and options.alpha is None and options.formulas.alpha is None:
        raise OptionError("add --alpha A or --size WxH: without either there is no default alpha")
    width, height = arguments.exact or (ANY_EDGE, ANY_EDGE)
    black = np.zeros((height, width), np.uint8)  # in the place of the images
    plan = _plan(black, black, options, arguments)
    spec, model = plan.last.spec, plan.inputs.take_model()
    return plan, Objective(
        network=spec.network(model),
        preprocessing=model.preprocessing,
        terms=spec.terms,
        weights=spec.weights,
    )


def _masks(arguments: argparse.Namespace) -> list[Path]:
    """Return the files of the masks that are named."""
    labels = [arguments.content_labels] if arguments.content_labels else []
    masks = (*(arguments.style_regions or ()), *labels, *(arguments.style_labels or ()))
    return list(map(Path, masks))


def _options(arguments: argparse.Namespace) -> Options:
    # The engine that the graph's parts come from; the start does not matter.
    options = add.options_of(arguments, init="noise", engine="numpy", scales=1)
    if not arguments.exact:
        return options
    if any(edge % options.multiple for edge in arguments.exact):
        raise OptionError(
            f"with --padding circular, both edges of --size must be multiples of {options.multiple}"
        )
    return replace(options, size=max(arguments.exact))


def _plan(content: Any, style: Any, options: Options, arguments: argparse.Namespace) -> RunPlan:
    say = Speaker()
    return plan_run(content, style, options, model=arguments.model, notify=say.tell)


def _metadata(settings: RunSettings, arguments: argparse.Namespace) -> dict[str, str]:
    """Return the metadata of the graph: those of the network, and how the graph was made."""
    stored = arguments.targets == "stored"
    # With targets as inputs, there are images in the place of those that are not named.
    found = settings.to_json() if stored else {}
    images: dict[str, Any] = {
        "content": _named(found.get("content"), [arguments.content]),
        "style": _named(found.get("style"), arguments.style or []),
    }
    options = {key: settings.options[key] for key in OPTIONS}
    size = "x".join(map(str, arguments.exact)) if arguments.exact else "any"
    return {
        **_of_network(settings),
        "size": size,
        "targets": arguments.targets,
        "objective": json.dumps({**options, **images}, ensure_ascii=False),
    }


def _named(described: Any, paths: Sequence[Path]) -> Any:
    """Return an image's settings, or those of several, with the names of the files."""
    if isinstance(described, list):
        return [_named(each, [path]) for each, path in zip(described, paths, strict=True)]
    return described and {**described, "name": printable(paths[0].name)}


def _of_network(settings: RunSettings) -> dict[str, str]:
    kept = {key: text for key, text in settings.model.items() if key.startswith("preprocessing.")}
    return {
        **provenance(settings.model),
        **kept,
        "program": settings.program,
        "model.sha256": settings.sha256,
        "input": "pixels, 1×3×height×width, red, green, blue, 0 to 255",
    }


def _check_places(targets: Iterable[Path], sources: Iterable[Path]) -> None:
    """Refuse files that could not be written, or that would overwrite an input."""
    taken = list(sources)
    for target in targets:
        check_file(target, error=OptionError)
        if any(is_same_place(target, path) for path in taken):
            raise OptionError(
                f"{target} would overwrite another file of this command; choose another name"
            )
        taken.append(target)
