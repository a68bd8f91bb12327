"""`gramstyle model normalise IMAGES… --to FILE`."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from gramstyle.analysis.normalise import (
    Passed,
    PassOptions,
    find_images,
    mean_activations,
    normalised,
)
from gramstyle.cli.parsing import Commands
from gramstyle.cli.progress import Speaker, counted
from gramstyle.cli.written import check_target, say_written
from gramstyle.model import locate_model, read_model
from gramstyle.model.export import write_pretrained
from gramstyle.model.precision import PRECISIONS
from gramstyle.model.pretrained import Pretrained

DEFAULTS = PassOptions()
# Without a terminal, a line every so many images.
LINE_EVERY = 100

Show = Callable[[Passed], None]


def add_parser(actions: Commands) -> None:
    """Describe the command and its options; every default is the one in `PassOptions`."""
    parser = actions.add_parser(
        "normalise",
        help="rescale a network's filters as the paper does",
        description="Rescale the filters so that each one's mean activation over the images and "
        "all their positions is 1, as the paper does. The responses are those of the original, "
        "each filter's divided by its mean.",
        epilog="example: gramstyle model normalise photographs/ --to normalised.onnx",
    )
    parser.set_defaults(run=run_normalise)
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGES",
        help="images, or folders of them; some hundred photographs of all kinds do")  # fmt: skip
    parser.add_argument("--to", type=Path, required=True, metavar="FILE",
        help="where to write the rescaled network")  # fmt: skip
    parser.add_argument("--model", type=Path, metavar="FILE",
        help="the network's file (default: the one that transfer would use)")  # fmt: skip
    parser.add_argument("--size", type=int, default=DEFAULTS.size, metavar="PIXELS",
        help="shrink images with a longer edge to this one (default %(default)s)")  # fmt: skip
    parser.add_argument("--pooling", choices=("max", "avg"), default=DEFAULTS.pooling,
        help="the pooling for which the means will be 1 (default %(default)s)")  # fmt: skip
    parser.add_argument("--precision", choices=PRECISIONS,
        help="what to keep of each weight (default: all of it)")  # fmt: skip
    parser.add_argument("--threads", type=int, metavar="N",
        help="processor cores to use (default: all)")  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def run_normalise(arguments: argparse.Namespace) -> None:
    """Measure, rescale, write, and say so."""
    options = PassOptions(size=arguments.size, pooling=arguments.pooling, threads=arguments.threads)
    say = Speaker(quiet=arguments.quiet)
    source = locate_model(arguments.model, notify=say.tell)
    images = find_images(arguments.images)
    check_target(arguments.to, sources=[source, *images])
    model = read_model(source)
    pretrained = Pretrained.of_model(model)
    with _display(say, len(images)) as show:
        means = mean_activations(model, images, options, callback=show)
    write_pretrained(arguments.to, normalised(pretrained, means), precision=arguments.precision)
    left_out = len(images) - means.images
    say_written(arguments.to)
    print(  # noqa: T201
        f"normalised on {means.images} images"
        + (f"; {left_out} left out, as said above" if left_out else "")
    )


@contextmanager
def _display(console: Console, total: int) -> Iterator[Show]:
    """Give a function to call after every image."""
    with counted(console, total, "images") as count:

        def show(passed: Passed) -> None:
            count(passed.done)
            if passed.problem is not None:
                console.print(f"left out: {passed.problem}", soft_wrap=True, markup=False)
            elif not console.is_terminal and passed.done % LINE_EVERY == 0:
                console.print(f"{passed.done}/{passed.total} images", highlight=False)

        yield show
