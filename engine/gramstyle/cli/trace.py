"""`gramstyle trace CONTENT STYLE`."""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from gramstyle.analysis.plots import load_matplotlib, trace_images
from gramstyle.analysis.trace import PIXELS, Row, Trace, trace
from gramstyle.cli import arguments as add
from gramstyle.cli.parsing import Commands
from gramstyle.cli.progress import Speaker
from gramstyle.core.objective import Objective
from gramstyle.errors import OptionError
from gramstyle.run.options import STARTS
from gramstyle.run.prepare import Prepared, build, plan
from gramstyle.system.files import check_folder, write_atomically

# A pass takes less than a second.
SIZE = 256
TABLE = "trace.json"
COLUMNS = (
    "F: the responses; seed: the derivative of the loss terms that look at the layer; dF: what "
    "has arrived from above, and the seed; dZ: what the ReLU lets through, open: where it does "
    "(%); ms: to add the seed and cross the layer. ‖·‖: the length over all values"
)


def add_parser(commands: Commands) -> None:
    """Describe the command and its options."""
    parser = commands.add_parser(
        "trace",
        help="show one backward pass, step by step",
        description="Evaluate the loss and its gradient once, where a transfer would start, and "
        "print how long the derivative is at every layer on its way down to the pixels.",
        epilog="example: gramstyle trace photo.jpg painting.jpg --init noise --save trace/",
    )
    parser.set_defaults(run=run_command)
    parser.add_argument("content", type=Path, metavar="CONTENT", help="the photograph")
    parser.add_argument("style", type=Path, metavar="STYLE", help="the painting")

    shown = parser.add_argument_group("what is shown")
    shown.add_argument("--layer", type=add.names, metavar="LAYER,…",
        help="show these layers alone (default: a row for every layer, and images of those "
        "that the loss looks at)")  # fmt: skip
    shown.add_argument("--save", type=Path, metavar="DIR",
        help="also write images: feature maps, Gram matrices, what each term wants changed, "
        f"the pass; and {TABLE} (needs gramstyle[plots])")  # fmt: skip
    shown.add_argument("--json", type=Path, metavar="FILE",
        help="also write the table and the losses as JSON")  # fmt: skip

    where = parser.add_argument_group("the image that is looked at")
    where.add_argument("--size", type=int, metavar="PIXELS",
        help=f"its longer edge (default {SIZE})")  # fmt: skip
    add.add_start(where)
    where.add_argument("--seed", type=int, metavar="N",
        help=f"of the noise (default {add.DEFAULTS.seed})")  # fmt: skip

    add.add_loss(parser)
    add.add_machine(parser.add_argument_group("the network and the machine"))


def run_command(arguments: argparse.Namespace) -> None:
    """Trace one pass, write what was asked for, and print it."""
    # The one engine whose pass can be looked at step by step.
    options = add.options_of(arguments, size=SIZE, engine="numpy")
    _check_places(arguments)
    say = Speaker(quiet=False)
    planned = plan(
        arguments.content,
        arguments.style,
        options,
        model=arguments.model,
        notify=say.tell,
    )
    inputs = [arguments.content, arguments.style, planned.model.path]
    if options.start not in STARTS:
        inputs.append(Path(str(options.start)))
    layers = _layers(arguments.layer, planned.network.names)
    if arguments.json is not None:
        _check_targets([arguments.json], inputs)

    prepared = build(planned)
    traced = trace(prepared.whole("trace"), prepared.start)
    rows = [row for row in traced.rows if row.layer in (*layers, PIXELS)]
    if arguments.save is not None:
        say.tell("drawing, which takes about a second an image")
    files = _files(arguments, prepared, traced, rows)
    _check_targets(files, inputs)
    _write(files, arguments.save)

    console = Console(highlight=False, soft_wrap=True)
    console.print(_steps(rows), COLUMNS, "", _losses(traced, prepared.objective), sep="\n")
    console.print(f"the steps of the whole pass took {traced.seconds:.2f} s")
    if arguments.save is not None:
        console.print(f"wrote {len(files)} files, the images to {arguments.save}", markup=False)


def _check_places(arguments: argparse.Namespace) -> None:
    """Refuse to start on what could not be drawn or written in the end."""
    if arguments.save is not None:
        load_matplotlib()
        check_folder(arguments.save, error=OptionError)
        if arguments.save.exists() and not arguments.save.is_dir():
            raise OptionError(f"--save {arguments.save} is no folder; choose another name")
    if arguments.json is not None:
        check_folder(arguments.json, error=OptionError)


def _check_targets(targets: Iterable[Path], inputs: Sequence[Path]) -> None:
    """Refuse to overwrite what was read, and what is not a file."""
    read = {path.resolve() for path in inputs}
    for target in targets:
        if target.resolve() in read:
            raise OptionError(f"{target} would overwrite what was read; choose another name")
        if target.exists() and not target.is_file():
            raise OptionError(f"cannot write {target}: it is there and is not a file")


def _layers(wanted: tuple[str, ...] | None, there: Sequence[str]) -> tuple[str, ...]:
    """Return the layers to show: all, or those that were named."""
    if wanted is None:
        return tuple(there)
    for name in wanted:
        if name not in there:
            raise OptionError(
                f"--layer {name!r} is not in the pass, whose layers are {', '.join(there)}"
            )
    if not wanted:
        raise OptionError("--layer names no layer")
    return wanted


def _files(
    arguments: argparse.Namespace, prepared: Prepared, traced: Trace, rows: Sequence[Row]
) -> dict[Path, bytes]:
    """Return everything to write, by where."""
    text = json.dumps(_plain(prepared, traced, rows), indent=1, allow_nan=False).encode()
    files = {} if arguments.json is None else {arguments.json: text}
    if arguments.save is not None:
        layers = arguments.layer or prepared.objective.layers
        images = trace_images(prepared.objective, prepared.start, rows, layers)
        files |= {arguments.save / name: data for name, data in images.items()}
        files[arguments.save / TABLE] = text
    return files


def _plain(prepared: Prepared, traced: Trace, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the table and the losses as JSON knows them."""
    at = traced.evaluation
    return {
        "settings": dict(prepared.settings),
        "loss": at.loss,
        "content": at.content,
        "style": dict(at.style),
        "style_loss": at.style_loss,
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
            row.layer,
            "×".join(map(str, row.shape)),
            *(_number(value) for value in (row.response, row.seed, row.before, row.after)),
            "" if row.open is None else f"{100 * row.open:.1f}",
            "" if row.seconds is None else f"{1000 * row.seconds:.1f}",
        )
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2e}"


def _losses(traced: Trace, objective: Objective) -> Table:
    """Show the losses, and what they are multiplied by on their way into the whole."""
    at, weights = traced.evaluation, objective.weights
    table = Table("loss", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("value", "weight", "value · weight"):
        table.add_column(title, justify="right", no_wrap=True)
    lines = {"L_content": (at.content, weights.alpha)}
    lines |= {f"E of {name}": (E, weights.beta * weights.w[name]) for name, E in at.style.items()}
    lines |= {"L_style": (at.style_loss, weights.beta), "L_total": (at.loss, 1.0)}
    for name, (loss, weight) in lines.items():
        table.add_row(name, f"{loss:.4e}", f"{weight:.4g}", f"{loss * weight:.4e}")
    return table
