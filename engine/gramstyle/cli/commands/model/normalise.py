"""`gramstyle model normalise IMAGES… --to FILE`: rescale a network's filters."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gramstyle.analysis.normalise import (
    MeasureOptions,
    MeasureProgress,
    find_images,
    mean_activations,
    normalise,
)
from gramstyle.cli.commands.model.output import check_target, owned, report_written
from gramstyle.cli.parsing import Commands
from gramstyle.cli.progress import counted
from gramstyle.cli.speaking import Speaker, report
from gramstyle.engines.onnx_session import load_runtime
from gramstyle.model import load_model
from gramstyle.model.export import write_pretrained
from gramstyle.model.precision import PRECISIONS
from gramstyle.model.pretrained import Pretrained

DEFAULTS = MeasureOptions()
# Images between lines when the output is not a terminal.
LINE_EVERY = 100

Show = Callable[[MeasureProgress], None]


def add_parser(actions: Commands) -> None:
    """Add the action; its defaults are those of `MeasureOptions`."""
    parser = actions.add_parser(
        "normalise",
        help="rescale a network's filters as the paper does",
        description="Rescale the filters so that the mean activation of each over all images and "
        "positions is 1, as the paper does. Each filter's responses are those of the original "
        "network, divided by their mean.",
        epilog="example: gramstyle model normalise photographs/ --to normalised.onnx",
    )
    parser.set_defaults(run=run_normalise)
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGES",
        help="images, or folders of images; a few hundred varied photographs suffice")  # fmt: skip
    parser.add_argument("--to", type=Path, required=True, metavar="FILE",
        help="the model file to write")  # fmt: skip
    parser.add_argument("--model", type=Path, metavar="FILE",
        help="the network (default: the one that transfer uses)")  # fmt: skip
    parser.add_argument("--size", type=int, default=DEFAULTS.size, metavar="PIXELS",
        help="reduce larger images to this longer edge (default %(default)s)")  # fmt: skip
    parser.add_argument("--pooling", choices=("max", "avg"), default=DEFAULTS.pooling,
        help="the pooling for which the means are 1 (default %(default)s)")  # fmt: skip
    parser.add_argument("--precision", choices=PRECISIONS,
        help="precision of the stored weights (default: the smallest lossless one)")  # fmt: skip
    parser.add_argument("--threads", type=int, metavar="N",
        help="processor cores to use (default: all)")  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def run_normalise(arguments: argparse.Namespace) -> None:
    """Measure the means, rescale the filters, write the model file and report it."""
    options = MeasureOptions(
        size=arguments.size, pooling=arguments.pooling, threads=arguments.threads
    )
    say = Speaker(quiet=arguments.quiet)
    model = load_model(arguments.model, notify=say.tell, check=load_runtime)
    images = find_images(arguments.images)
    check_target(arguments.to, sources=[model.path, *images])
    pretrained = Pretrained.from_model(model)
    with owned(arguments.to):
        with _display(say, len(images)) as show:
            means = mean_activations(model, images, options, callback=show)
        write_pretrained(arguments.to, normalise(pretrained, means), precision=arguments.precision)
    left_out = len(images) - means.images
    report_written(arguments.to)
    report(
        f"normalised on {means.images} images"
        + (f"; {left_out} left out, see above" if left_out else "")
    )


@contextmanager
def _display(say: Speaker, total: int) -> Iterator[Show]:
    """Yield a callback for each image, which shows the progress."""
    with counted(say, total, "images") as count:

        def show(progress: MeasureProgress) -> None:
            count(progress.done)
            if progress.problem is not None:
                say.tell(f"left out: {progress.problem}")
            elif not say.is_terminal and progress.done % LINE_EVERY == 0:
                say.tell(f"{progress.done}/{progress.total} images")

        yield show
