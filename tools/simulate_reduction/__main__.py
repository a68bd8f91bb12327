"""The command line, and the table that it prints; see the package's docstring."""

import argparse
import math
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from tools.arguments import above_zero, from_zero, natural, positive

from gramstyle.core.conventions import CONTENT_LAYER, STYLE_LAYERS
from gramstyle.errors import GramstyleError
from gramstyle.model import read_model
from gramstyle.model.locate import locate_model

from .model import Cluster, TiledImage
from .simulation import simulate


def main(arguments: list[str] | None = None) -> int:
    """Print the table and return 0; return 2 for bad input."""
    chosen = parse(arguments)
    try:
        model = read_model(locate_model(chosen.model, notify=partial(print, file=sys.stderr)))
        network = model.network.until((CONTENT_LAYER, *STYLE_LAYERS))
        width, height = chosen.size
        image = TiledImage.of(network, height, width, chosen.edge)
        print(table(image, chosen))
    except GramstyleError as error:
        print(f"simulate_reduction: {error}", file=sys.stderr)
        return 2
    return 0


def table(image: TiledImage, chosen: argparse.Namespace) -> str:
    """Return a row for each number of workers with each bandwidth."""
    lines = [
        f"{image.pixels / 1e6:,.0f} megapixels in {len(image.windows)} tiles, whose windows "
        f"have {sum(image.windows) / image.pixels:.2f} times the pixels; "
        f"a worker computes {chosen.rate:,.0f} pixels per second.",
        "",
        "| workers | Gbit/s | s | speed-up | efficiency | workers busy | interface busy | "
        "optimiser | sent, GB | received, GB | between workers, GB | limited by |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    one = Cluster(
        workers=1, bandwidth=math.inf, latency=0.0, overhead=0.0, rate=chosen.rate,
        jitter=chosen.jitter, optimiser=chosen.optimiser,
    )  # fmt: skip
    baseline = simulate(image, one, seed=chosen.seed).seconds
    for workers in chosen.workers:
        for bandwidth in chosen.bandwidth:
            cluster = replace(
                one, workers=workers, bandwidth=bandwidth * 1e9 / 8, latency=Cluster.latency,
                overhead=Cluster.overhead, straggler=chosen.straggler,
            )  # fmt: skip
            outcome = simulate(image, cluster, seed=chosen.seed)
            speed_up = baseline / outcome.seconds
            busy = (
                outcome.computing, outcome.busy["client's interface"], outcome.busy["optimiser"]
            )  # fmt: skip
            cells = (
                f"{workers}", f"{bandwidth:g}", f"{outcome.seconds:,.1f}", f"{speed_up:.2f}",
                f"{speed_up / workers:.2f}", *(f"{part / outcome.seconds:.0%}" for part in busy),
                f"{outcome.sent / 1e9:.1f}", f"{outcome.received / 1e9:.1f}",
                f"{outcome.between / 1e9:.1f}", outcome.limit,
            )  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.simulate_reduction",
        description="Simulate one evaluation and one step of the optimiser on a Dask cluster.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "size", nargs="?", type=size, default="32768x32768", metavar="WIDTHxHEIGHT",
        help="size of the image in pixels",
    )  # fmt: skip
    parser.add_argument("--edge", type=positive, default=1024, help="edge of the tiles in pixels")
    parser.add_argument(
        "--model", type=Path,
        help="the network, whose layers decide the windows; None: the one that gramstyle finds",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=positive, nargs="+", default=[1, 4, 16, 64], help="numbers of workers"
    )
    parser.add_argument(
        "--bandwidth", type=above_zero, nargs="+", default=[1.0, 10.0, 100.0],
        help="Gbit/s of each network interface in each direction",
    )  # fmt: skip
    parser.add_argument(
        "--rate", type=above_zero, default=Cluster.rate, help="pixels per second of one worker"
    )
    parser.add_argument(
        "--jitter", type=from_zero, default=Cluster.jitter,
        help="σ of the lognormal factor on each tile's seconds",
    )  # fmt: skip
    parser.add_argument(
        "--straggler", type=above_zero, default=Cluster.straggler,
        help="how many times slower one of the workers is",
    )  # fmt: skip
    parser.add_argument("--seed", type=natural, default=0, help="seed of the jitter")
    parser.add_argument(
        "--optimiser", type=from_zero, default=Cluster.optimiser,
        help="seconds of the optimiser per megapixel of the image",
    )  # fmt: skip
    return parser.parse_args(arguments)


def size(text: str) -> tuple[int, int]:
    """Parse a size like 4096x3072."""
    width, cross, height = text.partition("x")
    if not cross:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 4096x3072")
    return positive(width), positive(height)


if __name__ == "__main__":
    sys.exit(main())
