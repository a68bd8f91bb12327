"""The command line: parse, run the parts, write. The package's docstring says what is done."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.arguments import above_zero, natural, positive
from tools.gpu_check.lacking import provide

LACKING = provide()  # before the imports that need them

import numpy as np  # noqa: E402 - as above

from gramstyle.engines.cuda.device import open_device  # noqa: E402
from gramstyle.errors import GramstyleError  # noqa: E402

from . import report  # noqa: E402
from .parts import Clock, Part, run  # noqa: E402
from .stand_in import stand_in  # noqa: E402

# The share of the seconds that each part has at most.
SHARES = {"kernels": 0.2, "conformance": 0.25}


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0; 1 if a check failed, 2 for bad input or if there is no GPU."""
    chosen = parse(arguments)
    small = chosen.on == "cpu"
    if small:
        sys.modules["cupy"] = stand_in()
    try:
        device = open_device(tf32=False)
        network = _network(chosen.model, small=small)
    except (GramstyleError, OSError) as error:
        log(f"gpu_check: {error}")
        return 2
    parts: list[Part] = []
    whole = Clock(chosen.seconds)
    about = report.machine(device) | {"stand_ins": LACKING, "is_stand_in": small}
    for name in ("kernels", "conformance", "timing"):
        log(f"{name} …")
        parts.append(_part(name, device, network, chosen, whole))
        if chosen.json is not None:  # after each part: what follows may end the process
            written = report.document(about, parts, chosen)
            chosen.json.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    print(report.text(about, parts))
    return 1 if any(part.failed for part in parts) else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.gpu_check",
        description="Check the CUDA code on a GPU, and time it against PyTorch.",
    )
    parser.add_argument("--on", choices=("cuda", "cpu"), default="cuda",
        help="cpu: NumPy in CuPy's place, at small sizes (default %(default)s)")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE",
        help="also write all figures as JSON")  # fmt: skip
    parser.add_argument("--seconds", type=above_zero, metavar="S",
        help="seconds for all parts together (default: 240; 40 with --on cpu)")  # fmt: skip
    parser.add_argument("--model", type=Path, metavar="FILE",
        help="model file (default: random weights of VGG-19's shape)")  # fmt: skip
    parser.add_argument("--sizes", type=positive, nargs="+", metavar="PIXELS",
        help="edges of the images (default: 512 1024; 48 with --on cpu)")  # fmt: skip
    parser.add_argument("--iterations", type=natural, metavar="N",
        help="iterations of a run (default: 500; 2 with --on cpu)")  # fmt: skip
    chosen = parser.parse_args(arguments)
    small = chosen.on == "cpu"
    chosen.seconds = chosen.seconds or (40 if small else 240)
    chosen.sizes = tuple(chosen.sizes or ((48,) if small else (512, 1024)))
    if chosen.iterations is None:
        chosen.iterations = 2 if small else 500
    return chosen


def _network(model: Path | None, *, small: bool) -> Any:
    from .objective import vgg19

    return vgg19(model, divisor=8 if small and model is None else 1)


def _part(name: str, device: Any, network: Any, chosen: argparse.Namespace, whole: Clock) -> Part:
    """Run one part, within its share of the time that is left."""
    part, small = Part(name), chosen.on == "cpu"
    clock = Clock(SHARES.get(name, 1.0) * whole.left())
    if name == "kernels":
        from . import kernels

        return run(part, kernels.checks(device, np.random.default_rng(0), small=small), clock)
    if name == "conformance":
        from . import kit

        return run(part, kit.checks(device, small=small), clock)
    from . import timing

    settings = timing.Settings(chosen.sizes, chosen.iterations, chosen.on)
    return run(part, timing.checks(settings, network, part, clock), clock)


def log(line: str) -> None:
    """Print progress to standard error, apart from the table."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
