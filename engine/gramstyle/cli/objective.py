"""`gramstyle objective export`: the loss and its gradient as one ONNX graph."""

import argparse
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gramstyle.cli import arguments as add
from gramstyle.cli.parsing import Commands
from gramstyle.cli.progress import Speaker
from gramstyle.core.network import Convolution
from gramstyle.core.objective import ContentTarget, Objective, StyleTarget
from gramstyle.engines.onnx_graph import objective_graph, targets_graph
from gramstyle.errors import OptionError
from gramstyle.images import read_image, resize
from gramstyle.model.precision import lossless
from gramstyle.model.pretrained import lasting
from gramstyle.run.options import Options
from gramstyle.run.prepare import Plan, build, plan
from gramstyle.system.files import check_folder, write_atomically

# What stands for an image of any size while options are checked.
ANY_EDGE = 64

SETTINGS = (
    "alpha",
    "beta",
    "content_layer",
    "style_layers",
    "style_weights",
    "convention",
    "pooling",
    "content",
    "style",
)

DESCRIPTION = """\
Write the loss and its gradient as one graph of standard ONNX operators: an image in, loss and
gradient out. It runs wherever ONNX Runtime does, without Python.
"""

EXAMPLES = """\
examples:
  gramstyle objective export --size 512x384 --content photo.jpg --style painting.jpg \\
    -o objective.onnx
  gramstyle objective export --targets inputs --alpha 2e-4 -o objective.onnx \\
    --targets-model targets.onnx
"""


def add_parser(commands: Commands) -> None:
    """Describe the command."""
    parser = commands.add_parser("objective", help="write the loss and its gradient as a graph")
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    export = actions.add_parser(
        "export",
        help="write the loss and its gradient as one ONNX graph",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    export.set_defaults(run=run_export)
    export.add_argument("-o", "--output", type=Path, required=True, metavar="FILE",
        help="the graph to write")  # fmt: skip

    images = export.add_argument_group("the images")
    images.add_argument("--size", dest="exact", type=_size, metavar="WxH",
        help="the image that the graph takes, exactly; the photograph is resized to it "
        "(default without a photograph: any size)")  # fmt: skip
    images.add_argument("--content", type=Path, metavar="PHOTO",
        help="the photograph; without it the content is left out")  # fmt: skip
    images.add_argument("--style", type=Path, metavar="PAINTING",
        help="the painting; without it the style is left out")  # fmt: skip
    images.add_argument("--targets", choices=("stored", "inputs"), default="stored",
        help="stored: what the images are compared with is in the file; inputs: whoever runs "
        "the graph gives it, and no images are named here (default stored)")  # fmt: skip
    images.add_argument("--targets-model", type=Path, metavar="FILE",
        help="with --targets inputs: also write the graph that computes them from "
        "an image")  # fmt: skip

    add.add_loss(export)
    add.add_machine(export.add_argument_group("the network and the machine"))


def run_export(arguments: argparse.Namespace) -> None:
    """Write the graph, and the one that computes its targets."""
    targets = [path for path in (arguments.output, arguments.targets_model) if path is not None]
    sources = [path for path in (arguments.content, arguments.style) if path is not None]
    _check_places(targets, sources)
    planned, objective = _stored(arguments) if arguments.targets == "stored" else _asked(arguments)
    _check_places(targets, [*sources, planned.model.path])

    layers = planned.network.layers
    precision = lossless(layer.W for layer in layers if isinstance(layer, Convolution))
    shape = arguments.exact and arguments.exact[::-1]
    metadata = _metadata(planned, arguments)
    files = {
        arguments.output: objective_graph(
            objective, shape, targets=arguments.targets, precision=precision, metadata=metadata
        )
    }
    if arguments.targets_model is not None:
        files[arguments.targets_model] = targets_graph(
            objective, precision=precision, metadata=_of_network(planned)
        )
    for path, data in files.items():
        write_atomically(path, data, error=OptionError)
        print(f"wrote {path} ({len(data) / 1e6:.1f} MB)")  # noqa: T201


def _stored(arguments: argparse.Namespace) -> tuple[Plan, Objective]:
    """Return the objective for the images named."""
    if arguments.targets_model is not None:
        raise OptionError("--targets-model is for --targets inputs; stored targets need none")
    if arguments.content is None and arguments.style is None:
        raise OptionError("name --content, --style or both, or take --targets inputs")
    if arguments.content is not None and arguments.exact is None:
        raise OptionError("add --size WxH: what the photograph is compared by has one size")
    options = _options(arguments)
    content = None
    if arguments.content is not None:
        photograph = read_image(arguments.content, name="content", max_pixels=options.max_pixels)
        content = resize(photograph, *arguments.exact).pixels / 255
    planned = _plan(content, arguments.style, options, arguments)
    return planned, build(planned).whole("objective export")


def _asked(arguments: argparse.Namespace) -> tuple[Plan, Objective]:
    """Return the objective whose targets are asked for when it runs: it has the layers alone."""
    if arguments.content is not None or arguments.style is not None:
        raise OptionError("--targets inputs takes no images; leave --content and --style out")
    options = _options(arguments)
    if arguments.exact is None and options.alpha is None and options.formulas.alpha is None:
        raise OptionError("add --alpha A or --size WxH: without either there is no default alpha")
    width, height = arguments.exact or (ANY_EDGE, ANY_EDGE)
    black = np.zeros((height, width), np.uint8)  # for the images that are to come
    planned = _plan(black, black, options, arguments)
    nothing = np.empty(0, np.float32)
    return planned, Objective(
        network=planned.network,
        preprocessing=planned.model.preprocessing,
        content=ContentTarget(options.content_layer, nothing),
        style={name: StyleTarget(nothing, 1) for name in options.style_layers},
        weights=planned.weights,
        convention=options.formulas,
    )


def _options(arguments: argparse.Namespace) -> Options:
    # The engine whose parts the graph is made of; no start is looked at.
    options = add.options_of(arguments, init="noise", engine="numpy")
    return replace(options, size=max(arguments.exact)) if arguments.exact else options


def _plan(content: Any, style: Any, options: Options, arguments: argparse.Namespace) -> Plan:
    say = Speaker(quiet=False)
    return plan(content, style, options, model=arguments.model, notify=say.tell)


def _metadata(planned: Plan, arguments: argparse.Namespace) -> dict[str, str]:
    """Return what the graph says of itself: the network's record, and how it was made."""
    stored = arguments.targets == "stored"
    said = {key: planned.settings[key] for key in SETTINGS}
    for role in ("content", "style"):
        path, described = getattr(arguments, role), said[role]
        said[role] = {**described, "name": path.name} if stored and path is not None else None
    size = "x".join(map(str, arguments.exact)) if arguments.exact else "any"
    return {
        **_of_network(planned),
        "size": size,
        "targets": arguments.targets,
        "objective": json.dumps(said, ensure_ascii=False),
    }


def _of_network(planned: Plan) -> dict[str, str]:
    metadata: Mapping[str, str] = planned.model.metadata
    kept = {key: value for key, value in metadata.items() if key.startswith("preprocessing.")}
    return {
        **lasting(metadata),
        **kept,
        "program": planned.settings["program"],
        "model.sha256": planned.model.sha256,
        "input": "pixels, 1×3×height×width, red, green, blue, 0 to 255",
    }


def _check_places(targets: Iterable[Path], sources: Iterable[Path]) -> None:
    """Refuse to start on what could not be written, or would overwrite what it is made from."""
    taken = {source.resolve() for source in sources}
    for target in targets:
        check_folder(target, error=OptionError)
        if target.resolve() in taken:
            raise OptionError(
                f"{target} would overwrite what is read or written besides; choose another name"
            )
        taken.add(target.resolve())


def _size(text: str) -> tuple[int, int]:
    """Return width and height of a size like 640x480."""
    found = re.fullmatch(r"([1-9]\d{0,5})[x×]([1-9]\d{0,5})", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 640x480")
    return int(found[1]), int(found[2])
