"""`gramstyle figure reconstructions|tradeoff|styles … -o OUT`."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic

from gramstyle.analysis.figures import Figure, Made, draw, reconstructions, styles, tradeoff
from gramstyle.analysis.figures.layouts import RATIOS, RATIOS_NORMALISED
from gramstyle.cli import arguments as add
from gramstyle.cli.parsing import Commands, Parser
from gramstyle.cli.progress import Speaker, counted
from gramstyle.errors import GramstyleError
from gramstyle.images import check_output, from_pil, write_image
from gramstyle.model import is_normalised, locate_model, read_model
from gramstyle.run.options import Options

# The paper's setting, at a size that two cores can do in one sitting.
DEFAULTS = Options(size=256, iterations=150, convention="paper")


def add_parser(commands: Commands) -> None:
    """Describe the commands and their options."""
    parser = commands.add_parser(
        "figure",
        help="draw the figures of the paper with images of your own",
        description="Draw figure 1, 2 or 3 of the paper. Its images are kept one by one with "
        "their records; a figure that was stopped goes on with those that are missing.",
    )
    kinds = parser.add_subparsers(title="figures", required=True, metavar="FIGURE")

    first = kinds.add_parser(
        "reconstructions",
        help="figure 1: what each layer knows of content and of style",
        description="Figure 1: STYLE from the Gram matrices of growing sets of layers, CONTENT "
        "from the responses of single layers, all from noise.",
        epilog="example: gramstyle figure reconstructions photo.jpg painting.jpg -o fig1.png",
    )
    _add_pair(first)
    _add_common(first)
    first.set_defaults(run=run_reconstructions)

    second = kinds.add_parser(
        "styles",
        help="figure 2: one photograph in several styles",
        description="Figure 2: CONTENT in each STYLE, the painting in the image's corner.",
        epilog="example: gramstyle figure styles photo.jpg night.jpg meadow.jpg -o fig2.png",
    )
    second.add_argument("content", type=Path, metavar="CONTENT", help="the photograph")
    second.add_argument("styles", type=Path, nargs="+", metavar="STYLE", help="paintings")
    _add_common(second)
    second.set_defaults(run=run_styles)

    third = kinds.add_parser(
        "tradeoff",
        help="figure 3: content against style, layers against weights",
        description="Figure 3: from row to row one style layer more, from conv1_1 to conv1_1 ... "
        "conv5_1; from column to column a larger alpha/beta, which keeps more of CONTENT.",
        epilog="example: gramstyle figure tradeoff photo.jpg painting.jpg -o fig3.png",
    )
    _add_pair(third)
    shown = ",".join(f"{ratio:.0e}" for ratio in RATIOS)
    normalised = ",".join(f"{ratio:.0e}" for ratio in RATIOS_NORMALISED)
    third.add_argument("--ratios", type=add.numbers, metavar="R,…",
        help=f"alpha/beta of each column (default {shown}; for a normalised network "
        f"{normalised})")  # fmt: skip
    _add_common(third)
    third.set_defaults(run=run_tradeoff)


def _add_pair(parser: Parser) -> None:
    parser.add_argument("content", type=Path, metavar="CONTENT", help="the photograph")
    parser.add_argument("style", type=Path, metavar="STYLE", help="the painting")


def _add_common(parser: Parser) -> None:
    add.add_output(parser)
    parser.add_argument("--cells", type=Path, metavar="DIR",
        help="where the single images and their records are kept; those that are there are "
        "used again, or made anew where other options made them (default: OUT without its "
        "ending, and -cells)")  # fmt: skip
    every = parser.add_argument_group("every image of it")
    add.add_run(every, DEFAULTS, what="each image")
    add.add_pooling(every)
    machine = parser.add_argument_group("the machine")
    add.add_machine(machine)
    add.add_engine(machine)
    machine.add_argument("--jobs", type=int, default=1, metavar="N",
        help="images to make at once, each with its share of the cores, or with --threads "
        "(default %(default)s)")  # fmt: skip
    add.add_quiet(machine)


def run_reconstructions(arguments: argparse.Namespace) -> None:
    """Draw figure 1."""
    figure = reconstructions(arguments.content, arguments.style, _options(arguments))
    _draw(figure, arguments, [arguments.content, arguments.style])


def run_styles(arguments: argparse.Namespace) -> None:
    """Draw figure 2."""
    figure = styles(arguments.content, arguments.styles, _options(arguments))
    _draw(figure, arguments, [arguments.content, *arguments.styles])


def run_tradeoff(arguments: argparse.Namespace) -> None:
    """Draw figure 3."""
    options, ratios = _options(arguments), arguments.ratios
    if ratios is None:
        arguments.model = _model(arguments)
        ratios = RATIOS
        if is_normalised(read_model(arguments.model).metadata):
            ratios = RATIOS_NORMALISED
    figure = tradeoff(arguments.content, arguments.style, ratios, options)
    _draw(figure, arguments, [arguments.content, arguments.style])


def _options(arguments: argparse.Namespace) -> Options:
    defaults = {name: getattr(DEFAULTS, name) for name in ("size", "iterations", "convention")}
    return add.options_of(arguments, **defaults)


def _model(arguments: argparse.Namespace) -> Path:
    return locate_model(arguments.model, notify=Speaker(quiet=arguments.quiet).tell)


def _draw(figure: Figure, arguments: argparse.Namespace, inputs: list[Path]) -> None:
    """Draw the figure, show progress, write it and say so."""
    output: Path = arguments.output
    check_output(output, inputs)
    folder = arguments.cells or output.with_name(f"{output.stem}-cells")
    _check_cells(folder, output, inputs)
    model = _model(arguments)
    began, done = monotonic(), 0
    try:
        with _display(figure, Speaker(quiet=arguments.quiet)) as show:

            def after_cell(made: Made) -> None:
                nonlocal done
                done = made.done
                show(made)

            sheet = draw(figure, folder, model=model, jobs=arguments.jobs, made=after_cell)
    except (GramstyleError, KeyboardInterrupt) as stop:
        kept = f"{done} of {len(figure.cells)} images are in {folder}, to go on from"
        reason = str(stop) or "stopped"
        raise type(stop)(f"{reason} ({kept})" if done else reason) from None
    write_image(output, from_pil(sheet))
    took = timedelta(seconds=round(monotonic() - began))
    if not arguments.quiet:
        print(f"wrote {output} ({sheet.width}×{sheet.height}) after {took}; cells in {folder}")  # noqa: T201


def _check_cells(folder: Path, output: Path, inputs: list[Path]) -> None:
    """Refuse a folder for cells that is none, or holds the images that are read or written."""
    try:
        place = folder.resolve()
    except (OSError, RuntimeError):  # a loop of links
        raise GramstyleError(f"cannot use the folder {folder}; choose other --cells") from None
    if place == output.resolve():
        raise GramstyleError(f"--cells {folder} is the figure itself; choose another name")
    if any(path.resolve().parent == place for path in [output, *inputs]):
        raise GramstyleError(f"--cells {folder} holds other images; choose a folder of its own")


@contextmanager
def _display(figure: Figure, say: Speaker) -> Iterator[Callable[[Made], None]]:
    """Give a function to call after every cell."""
    with counted(say, len(figure.cells), "images") as count:

        def show(made: Made) -> None:
            count(made.done)
            if not say.is_terminal:
                state = "was there" if made.kept else "done"
                say.tell(f"{made.done}/{made.cells} {made.name}: {state}")

        yield show
