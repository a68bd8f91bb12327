"""`gramstyle conformance run --random N`."""

import argparse
import importlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gramstyle.cli.help import Help
from gramstyle.conformance.comparing import Adapter
from gramstyle.conformance.files import check_set_folder, write_cases
from gramstyle.errors import GramstyleError, OptionError
from gramstyle.system.installing import remedy

if TYPE_CHECKING:
    from rich.status import Status

    from gramstyle.conformance.drawing import Drawn

# Where the smallest case that fails is written.
FOLDER = Path("random-failure")


def add_random(parser: argparse.ArgumentParser) -> None:
    """Add the options of random cases."""
    group = parser.add_argument_group("random cases, in place of the others")
    group.add_argument("--random", type=int, metavar="N",
        help=Help("draw N cases; the first that fails is made as small as possible",
        short="draw N random cases instead (needs the extra random)"))  # fmt: skip
    group.add_argument("--seed", type=int, metavar="S",
        help="the same seed gives the same cases (default 0)")  # fmt: skip
    group.add_argument("--save", type=Path, metavar="DIR",
        help=f"folder for the case that fails, which --set reads (default {FOLDER})")  # fmt: skip


def check_random(arguments: argparse.Namespace) -> None:
    """Raise an error if the options of random cases do not fit the others."""
    if arguments.random is None:
        if arguments.seed is not None or arguments.save is not None:
            raise OptionError("--seed and --save are for random cases; add --random N")
        return
    if arguments.case is not None or arguments.set is not None or arguments.real_model:
        raise OptionError("--random draws its own cases; leave --case, --set and --real-model out")
    if arguments.time or arguments.baseline is not None:
        raise OptionError("--time and --baseline need the same cases each time; leave --random out")
    check_set_folder(save_folder(arguments))


def draw(arguments: argparse.Namespace, adapter: Adapter, dtype: str, status: "Status") -> "Drawn":
    """Test an adapter on random cases, which needs Hypothesis."""
    try:
        drawing: Any = importlib.import_module("gramstyle.conformance.drawing")
    except ImportError as error:
        raise OptionError(
            f"--random needs Hypothesis ({error}); {remedy('random', error)}"
        ) from None
    count = arguments.random
    drawn: Drawn = drawing.run_random(
        adapter,
        count=count,
        seed=arguments.seed or 0,
        dtype=dtype,
        callback=lambda passed: status.update(f"{passed} of {count} random cases passed"),
    )
    return drawn


def saved(drawn: "Drawn", arguments: argparse.Namespace) -> str:
    """Write the smallest case that failed; return how to run it again, or why it is not written."""
    if drawn.smallest is None:
        return ""
    folder = save_folder(arguments)
    try:
        write_cases(folder, [drawn.smallest])
    except GramstyleError as error:
        return f"the smallest case that fails could not be written: {error}"
    subject = ["--against", arguments.against, "--device", arguments.device]
    if arguments.command is not None:
        subject = ["--command", arguments.command]
    words = ["gramstyle", "conformance", "run", "--set", str(folder), *subject]
    again = shlex.join([*words, "--dtype", drawn.report.dtype])
    tried = f"{drawn.shrunk_from} smaller ones were tried"
    return f"the smallest case that fails is in {folder} ({tried}); run it again with:\n{again}"


def random_summary(drawn: "Drawn") -> str:
    """Return how many random cases passed, in one line."""
    what = f"({drawn.report.dtype}, seed {drawn.seed})"
    if drawn.smallest is None:
        return f"{drawn.passed} of {drawn.asked} random cases passed, 0 failed {what}"
    number = drawn.passed + 1
    rest = "" if number == drawn.asked else "; those after it were not run"
    return (
        f"{drawn.passed} random cases passed, number {number} of {drawn.asked} failed {what}{rest}"
    )


def random_json(drawn: "Drawn", arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what was drawn, for the report as JSON."""
    return {
        "asked": drawn.asked,
        "seed": drawn.seed,
        "passed": drawn.passed,
        "saved": None if drawn.smallest is None else str(save_folder(arguments)),
    }


def save_folder(arguments: argparse.Namespace) -> Path:
    """Return the folder for the smallest case that fails."""
    return FOLDER if arguments.save is None else Path(arguments.save)
