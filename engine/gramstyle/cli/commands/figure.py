"""`gramstyle figure reconstructions|tradeoff|styles … -o OUT`."""

import argparse
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from time import monotonic

from gramstyle.analysis.figures import Figure, draw, reconstructions, styles, tradeoff
from gramstyle.analysis.figures.layouts import RATIOS, RATIOS_NORMALISED
from gramstyle.cli import arguments as add
from gramstyle.cli.help import Help
from gramstyle.cli.job_progress import job_progress
from gramstyle.cli.parsing import Commands, Parser
from gramstyle.cli.speaking import Speaker, report
from gramstyle.core.layer_names import default_layers
from gramstyle.errors import GramstyleError
from gramstyle.images import check_output, from_pil, write_image
from gramstyle.model import Model, is_normalised, load_model
from gramstyle.run.options import Options
from gramstyle.run.plan import check_packages

# The paper's settings, at a size that two cores can render in an hour.
DEFAULTS = Options(size=256, iterations=150, convention="paper")


# What the first screen of the help shows, apart from the ratios of figure 3.
SCREEN = {
    "the figure": ["--output", "--cells"],
    "every image": ["--size", "--iterations"],
    "the run": ["--jobs", "--threads", "--memory", "--device"],
}


def add_parser(commands: Commands, summary: str) -> None:
    """Describe the commands and their options."""
    parser = commands.add_parser(
        "figure",
        help=summary,
        description="Draw figure 1, 2 or 3 of the paper. The images of the figure are stored with "
        "their records. If the command is stopped, repeat it to render the missing images.",
    )
    kinds = parser.add_subparsers(title="figures", required=True, metavar="FIGURE")

    first = kinds.add_parser(
        "reconstructions",
        help="figure 1: the content and the style that each layer represents",
        description="Figure 1: STYLE reconstructed from the Gram matrices of growing sets of "
        "layers, CONTENT from the responses of single layers; all start from noise.",
        epilog="example: gramstyle figure reconstructions photo.jpg painting.jpg -o fig1.png",
    )
    _add_common(first, _reconstructions)

    second = kinds.add_parser(
        "styles",
        help="figure 2: one photograph in several styles",
        description="Figure 2: CONTENT in each STYLE, with the painting in a corner.",
        epilog="example: gramstyle figure styles photo.jpg night.jpg meadow.jpg -o fig2.png",
    )
    _add_common(second, _styles, style_images="+")

    third = kinds.add_parser(
        "tradeoff",
        help="figure 3: content against style, layers against weights",
        description="Figure 3: each row adds a style layer, from conv1_1 alone to conv1_1 ... "
        "conv5_1; each column has a larger alpha/beta, which keeps more of CONTENT.",
        epilog="example: gramstyle figure tradeoff photo.jpg painting.jpg -o fig3.png",
    )
    shown = ",".join(f"{ratio:.0e}" for ratio in RATIOS)
    normalised = ",".join(f"{ratio:.0e}" for ratio in RATIOS_NORMALISED)
    third.add_argument("--ratios", type=add.numbers, metavar="R,…",
        help=Help(f"alpha/beta of each column (default {shown}; for a normalised network "
        f"{normalised})", short="alpha/beta of each column"))  # fmt: skip
    _add_common(third, _tradeoff)


def _add_common(
    parser: Parser,
    figure: Callable[[argparse.Namespace, Options], Figure],
    *,
    style_images: int | str = 1,
) -> None:
    parser.set_defaults(run=run_command, figure=figure)
    several = " [STYLE …]" if style_images == "+" else ""
    parser.usage = f"%(prog)s CONTENT STYLE{several} -o OUT [options]"
    parser.add_argument("content", type=Path, metavar="CONTENT", help="the photograph")
    parser.add_argument("style", type=Path, nargs=style_images, metavar="STYLE",
        help="the painting")  # fmt: skip
    add.add_output(parser)
    parser.add_argument("--cells", type=Path, metavar="DIR",
        help=Help("the folder for the single images and their records; images that exist there "
        "are reused if they were rendered with the same options (default: OUT without its "
        "extension, and -cells)",
        short="the folder for the single images (default: OUT-cells)"))  # fmt: skip
    every = parser.add_argument_group("every image")
    add.add_run(every, DEFAULTS, what="each image")
    add.add_pooling(every)
    add.add_padding(every)
    machine = parser.add_argument_group("the machine")
    add.add_machine(machine)
    add.add_engine(machine)
    machine.add_argument("--jobs", type=int, default=1, metavar="N",
        help=Help("images to render at once, each with its share of the cores, or with --threads "
        "(default %(default)s)", short="images to render at once (default %(default)s)")
    )  # fmt: skip
    add.add_quiet(machine)
    ratios = ["--ratios"] if figure is _tradeoff else []
    parser.show_first({**SCREEN, "the figure": [*SCREEN["the figure"], *ratios]})


def _reconstructions(arguments: argparse.Namespace, options: Options) -> Figure:
    model = _opened(arguments)
    layers = default_layers(model.network.names).style
    return reconstructions(arguments.content, arguments.style[0], options, layers)


def _styles(arguments: argparse.Namespace, options: Options) -> Figure:
    return styles(arguments.content, arguments.style, options)


def _tradeoff(arguments: argparse.Namespace, options: Options) -> Figure:
    model, ratios = _opened(arguments), arguments.ratios
    if ratios is None:
        ratios = RATIOS_NORMALISED if is_normalised(model.metadata) else RATIOS
    layers = default_layers(model.network.names).style
    return tradeoff(arguments.content, arguments.style[0], ratios, options, layers)


def _opened(arguments: argparse.Namespace) -> Model:
    """Return the model, whose path the arguments name from now on."""
    say, check = Speaker(quiet=arguments.quiet), partial(check_packages, add.options_of(arguments))
    model = load_model(arguments.model, notify=say.tell, check=check)
    arguments.model = model.path
    return model


def run_command(arguments: argparse.Namespace) -> None:
    """Draw a figure and write it; show the progress."""
    defaults = {name: getattr(DEFAULTS, name) for name in ("size", "iterations", "convention")}
    figure = arguments.figure(arguments, add.options_of(arguments, **defaults))
    inputs = [arguments.content, *arguments.style]
    output: Path = arguments.output
    check_output(output, inputs)
    folder = arguments.cells or output.with_name(f"{output.stem}-cells")
    _check_cells(folder, output, inputs)
    model = _opened(arguments).path
    began, say = monotonic(), Speaker(quiet=arguments.quiet)
    with job_progress(len(figure.cells), say, place=f"in {folder}") as display:
        sheet = draw(
            figure,
            folder,
            model=model,
            jobs=arguments.jobs,
            on_change=display.job,
            callback=display.iteration,
        )
    write_image(output, from_pil(sheet))
    took = timedelta(seconds=round(monotonic() - began))
    if not arguments.quiet:
        report(f"wrote {output} ({sheet.width}×{sheet.height}) after {took}; cells in {folder}")


def _check_cells(folder: Path, output: Path, inputs: list[Path]) -> None:
    """Refuse a folder for cells that contains the images to read or write, or is no folder."""
    try:
        target = folder.resolve()
    except (OSError, RuntimeError):  # a loop of links
        raise GramstyleError(f"cannot use the folder {folder}; choose other --cells") from None
    if target == output.resolve():
        raise GramstyleError(f"--cells {folder} is the figure itself; choose another name")
    if any(path.resolve().parent == target for path in [output, *inputs]):
        raise GramstyleError(f"--cells {folder} holds other images; choose a folder of its own")
