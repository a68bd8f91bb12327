"""`gramstyle trace CONTENT STYLE [STYLE …]`."""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from gramstyle.analysis.plots import load_matplotlib, trace_images
from gramstyle.analysis.trace import Row, Trace, trace
from gramstyle.cli import arguments as add
from gramstyle.cli.help import Help
from gramstyle.cli.parsing import Commands
from gramstyle.cli.printable import printable
from gramstyle.cli.speaking import Speaker, answer, report
from gramstyle.core.objective import Objective
from gramstyle.core.term import PIXELS
from gramstyle.errors import OptionError
from gramstyle.run.options import STARTS
from gramstyle.run.plan import plan_run
from gramstyle.run.prepare import Prepared, RunResources
from gramstyle.system.files import check_folder, is_same_place, write_atomically
from gramstyle.system.replaceable import check_file

# One evaluation at this size takes less than a second.
SIZE = 256
TABLE = "trace.json"
COLUMNS = (
    "F: responses; seed: derivative of the loss terms at this layer; dF: seed plus derivative from "
    "deeper layers; dZ: dF after the ReLU's mask; open: percentage of values that the mask passes; "
    "ms: milliseconds to add the seed and go through the layer. ‖·‖: norm over all values"
)

# What the first screen of the help shows.
SCREEN = {
    "the output": ["--layer", "--save", "--json"],
    "the image": ["--size", "--init"],
    "the loss": ["--convention", "--alpha", "--style-layers", "--model"],
}

EXAMPLES = """\
examples: gramstyle trace photo.jpg painting.jpg
          gramstyle trace photo.jpg painting.jpg --init noise --save trace/
"""


def add_parser(commands: Commands, summary: str) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "trace",
        help=summary,
        usage="gramstyle trace CONTENT STYLE [STYLE …] [options]",
        description="Evaluate the loss and its gradient once, at the image from which a transfer "
        "would start, and print the norm of the derivative at each layer of the backward pass.",
        epilog=EXAMPLES,
    )
    parser.set_defaults(run=run_command)
    parser.add_argument("content", type=Path, metavar="CONTENT", help="the photograph")
    parser.add_argument("style", type=Path, nargs="+", metavar="STYLE",
        help="the painting, or several")  # fmt: skip

    parser.show_first(SCREEN)
    shown = parser.add_argument_group("the output")
    shown.add_argument("--layer", type=add.names, metavar="LAYER,…",
        help=Help("show only these layers (default: a row for every layer, and images of the "
        "layers of the loss)", short="show only these layers, like conv4_2,conv5_1"))  # fmt: skip
    shown.add_argument("--save", type=Path, metavar="DIR",
        help=Help("also write images (feature maps, Gram matrices, the gradient of each loss term, "
        f"the norms of the backward pass) and {TABLE} (needs matplotlib)",
        short="also write images of every step (needs matplotlib)"))  # fmt: skip
    shown.add_argument("--json", type=Path, metavar="FILE",
        help="also write the table and the losses as JSON")  # fmt: skip

    where = parser.add_argument_group("the image")
    where.add_argument("--size", type=int, metavar="PIXELS",
        help=f"its longer edge (default {SIZE})")  # fmt: skip
    add.add_init(where)
    add.add_seed(where)

    add.add_style(parser)
    add.add_regions(parser, protect=False)
    add.add_loss(parser)
    add.add_machine(parser.add_argument_group("the machine"))


def run_command(arguments: argparse.Namespace) -> None:
    """Trace one backward pass, write the files that the arguments name, and print the tables."""
    # The only engine that can be traced step by step.
    options = add.options_of(arguments, size=SIZE, engine="numpy", scales=1)
    _check_places(arguments)
    say = Speaker()
    plan = plan_run(
        arguments.content, arguments.style, options, model=arguments.model, notify=say.tell
    )
    inputs = [arguments.content, *arguments.style, plan.model]
    if options.start not in STARTS:
        inputs.append(Path(str(options.start)))
    inputs += add.mask_files(options)
    model = plan.inputs.model
    assert model is not None  # noqa: S101 - no engine has taken it yet
    layers = _layers(arguments.layer, model.network.names)
    if arguments.json is not None:
        _check_targets([arguments.json], inputs)

    with RunResources(plan) as resources, resources.prepare(0) as prepared:
        traced = trace(prepared.whole("trace"), prepared.start)
        rows = [row for row in traced.rows if row.layer in (*layers, PIXELS)]
        if arguments.save is not None:
            say.tell("drawing the images; each takes about a second")
        files = _files(arguments, prepared, traced, rows)
        _check_targets(files, inputs)
        _write(files, arguments.save)

    answer(
        _steps(rows),
        COLUMNS,
        "",
        _losses(traced, prepared.objective),
        f"the steps of the backward pass took {traced.seconds:.2f} s",
    )
    if arguments.save is not None:
        report(f"wrote {len(files)} files, the images to {arguments.save}")


def _check_places(arguments: argparse.Namespace) -> None:
    """Raise before the evaluation if the images could not be drawn or written after it."""
    if arguments.save is not None:
        load_matplotlib()
        check_folder(arguments.save, error=OptionError)
        if arguments.save.exists() and not arguments.save.is_dir():
            raise OptionError(f"--save {arguments.save} is not a folder; choose another name")
    if arguments.json is not None:
        check_file(arguments.json, error=OptionError)


def _check_targets(targets: Iterable[Path], inputs: Sequence[Path]) -> None:
    """Raise if a target is an input, or exists and is not a file."""
    for target in targets:
        if any(is_same_place(target, path) for path in inputs):
            raise OptionError(f"{target} would overwrite an input; choose another name")
        if target.exists() and not target.is_file():
            raise OptionError(f"cannot write {target}: it exists and is not a file")


def _layers(wanted: tuple[str, ...] | None, there: Sequence[str]) -> tuple[str, ...]:
    """Return the layers to show: all of them, or the ones that were named."""
    if wanted is None:
        return tuple(there)
    for name in wanted:
        if name not in there:
            raise OptionError(
                f"--layer {name!r} is not a layer of this pass; its layers are {', '.join(there)}"
            )
    if not wanted:
        raise OptionError("--layer names no layer")
    return wanted


def _files(
    arguments: argparse.Namespace, prepared: Prepared, traced: Trace, rows: Sequence[Row]
) -> dict[Path, bytes]:
    """Return the content of every file to write, by path."""
    text = json.dumps(_plain(prepared, traced, rows), indent=1, allow_nan=False).encode()
    files = {} if arguments.json is None else {arguments.json: text}
    if arguments.save is not None:
        layers = arguments.layer or prepared.objective.layers
        images = trace_images(prepared.objective, prepared.start, rows, layers)
        files |= {arguments.save / name: data for name, data in images.items()}
        files[arguments.save / TABLE] = text
    return files


def _plain(prepared: Prepared, traced: Trace, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the table and the losses as JSON values."""
    at = traced.evaluation
    return {
        "settings": prepared.settings.to_json(),
        "loss": at.loss,
        "terms": dict(at.terms),
        "layers": {name: dict(layers) for name, layers in at.layers.items()},
        "seconds": traced.seconds,
        "rows": [asdict(row) for row in rows],
    }


def _write(files: Mapping[Path, bytes], folder: Path | None) -> None:
    if folder is not None:
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OptionError(f"cannot make {folder}: {error.strerror}") from None
    for path, data in files.items():
        write_atomically(path, data, error=OptionError)


def _steps(rows: Sequence[Row]) -> Table:
    table = Table("layer", "shape", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("‖F‖", "‖seed‖", "‖dF‖", "‖dZ‖", "open", "ms"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            printable(row.layer),
            "×".join(map(str, row.shape)),
            *(_number(value) for value in (row.response, row.seed, row.before, row.after)),
            "" if row.open is None else f"{100 * row.open:.1f}",
            "" if row.seconds is None else f"{1000 * row.seconds:.1f}",
        )
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2e}"


def _losses(traced: Trace, objective: Objective) -> Table:
    """Return a table of the losses, their weights, and the products."""
    at, weights = traced.evaluation, objective.weights
    table = Table("loss", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("value", "weight", "value · weight"):
        table.add_column(title, justify="right", no_wrap=True)
    lines: dict[str, tuple[float, float]] = {}
    for name, layers in at.layers.items():
        terms = objective.terms_of(name)
        if len(layers) > 1:
            lines |= {
                f"{name} at {layer}": (value, weights[name] * terms[layer].weight)
                for layer, value in layers.items()
            }
        lines[f"L_{name}"] = (at.terms[name], weights[name])
    lines["L_total"] = (at.loss, 1.0)
    for name, (loss, weight) in lines.items():
        table.add_row(printable(name), f"{loss:.4e}", f"{weight:.4g}", f"{loss * weight:.4e}")
    return table
