"""The command line: parse, measure, write. The package's docstring says what is measured."""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.arguments import natural, positive

from gramstyle.analysis.plots.canvas import drawn
from gramstyle.errors import GramstyleError
from gramstyle.system.machine import available_threads

from . import contenders, optimiser, report
from .processes import ROOT, Job, Sample, in_own_process
from .running import Settings, measure
from .summary import DisagreementError

SAMPLES = ROOT / "docs" / "samples"


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0; 1 if contenders disagree or nothing could be measured, 2 for bad input."""
    chosen = vars(parse(arguments))
    output: Path = chosen.pop("output")
    if chosen.pop("optimiser"):
        return optimisers(argparse.Namespace(**chosen), output)
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="gramstyle-benchmark-") as folder:
            figures = measure(Settings(**chosen), folder=Path(folder), log=log)
        write(figures, output)
    except DisagreementError as error:
        log(f"benchmark: {error}")
        return 1
    except (GramstyleError, OSError) as error:
        log(f"benchmark: {error}")
        return 2
    return 0 if figures["evaluations"] or figures["optimisation"]["results"] else 1


def optimisers(chosen: argparse.Namespace, output: Path) -> int:
    """Measure the optimisers; return 0, or 1 if one failed."""

    def work(job: Job) -> Sample:
        log(f"{job.kind} {job.contender} at {job.size}")
        return in_own_process(job)

    run = Job(
        kind="", size=chosen.size, threads=chosen.threads, iterations=chosen.iterations,
        content=str(chosen.content.resolve()), style=str(chosen.style.resolve()),
    )  # fmt: skip
    figures = optimiser.measure(tuple(chosen.sizes), chosen.rounds, run, work)
    text = optimiser.markdown(figures)
    print(text)
    output.mkdir(parents=True, exist_ok=True)
    (output / "optimiser.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    (output / "optimiser.md").write_text(text, encoding="utf-8")
    return 1 if figures["failures"] else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = list({**contenders.evaluations(), **contenders.optimisations()})
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmark",
        description="Measure gramstyle against PyTorch: one evaluation, and the optimisation.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--sizes",
        type=positive,
        nargs="*",
        default=(256, 512, 1024),
        metavar="PIXELS",
        help="edges of the images for one evaluation; without a number, it is left out",
    )
    parser.add_argument(
        "--contenders",
        dest="names",
        nargs="+",
        choices=names,
        default=names,
        metavar="NAME",
        help=f"some of: {', '.join(names)}",
    )
    parser.add_argument(
        "--rounds",
        type=positive,
        default=3,
        help="processes for each contender; at most two from 1024 pixels on",
    )
    parser.add_argument(
        "--threads", type=positive, default=available_threads(), help="for each process"
    )
    parser.add_argument(
        "--output", type=Path, default=ROOT / "build" / "benchmark", help="folder for the results"
    )
    parser.add_argument(
        "--optimiser",
        action="store_true",
        help="measure gramstyle's optimisers instead, without their evaluations",
    )
    run = parser.add_argument_group("the whole optimisation")
    run.add_argument("--size", type=positive, default=256, help="longer edge in pixels")
    run.add_argument("--iterations", type=natural, default=100, help="0 leaves it out")
    run.add_argument("--optimisation-rounds", type=positive, default=2, help="as --rounds")
    run.add_argument("--content", type=Path, default=SAMPLES / "chelsea.jpg", help="content image")
    run.add_argument("--style", type=Path, default=SAMPLES / "night.jpg", help="style image")
    return parser.parse_args(arguments)


def write(figures: dict[str, Any], output: Path) -> None:
    """Write benchmark.json, .md and .png to a folder, and print the Markdown."""
    text = report.markdown(figures)
    data = json.dumps(figures, indent=2, allow_nan=False) + "\n"
    print(text)
    (output / "benchmark.json").write_text(data, encoding="utf-8")
    (output / "benchmark.md").write_text(text, encoding="utf-8")
    if figures["optimisation"]["results"]:
        try:
            image = drawn(lambda figure: report.plot(figures, figure), width=9, height=4)
        except GramstyleError as error:  # the numbers are complete without it
            log(f"benchmark: no plot: {error}")
        else:
            (output / "benchmark.png").write_bytes(image)
    log(f"wrote the results to {output}")


def log(line: str) -> None:
    """Print progress to standard error, apart from the tables."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
