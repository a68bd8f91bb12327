"""The command line: run the campaigns, print what they found, write the JSON."""

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tools.arguments import natural, positive
from tools.torture.from_tests import ROOT
from tools.torture.scene import make_scene

from . import growth, kills, load, malformed, openapi, report
from .access import ask_without_right
from .server import Server, started
from .starts import refuse_starts
from .troubles import TROUBLES, make_trouble

CAMPAIGNS = (
    "load", "kills", "malformed", "openapi", "growth", "access", "starts", "troubles",
)  # fmt: skip
SAMPLES = ROOT / "docs" / "samples"


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0; 1 if there are findings."""
    chosen = parse(arguments)
    with tempfile.TemporaryDirectory(prefix="gramstyle-torture-") as name:
        folder = Path(name)
        scene = make_scene(folder / "scene")
        campaigns = _campaigns(chosen, folder, scene.model)
        found = {name: campaigns[name]() for name in CAMPAIGNS if name in chosen.only}
    return _written({name: each for name, each in found.items() if each is not None}, chosen)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.torture.service",
        description="Load, kill and attack gramstyle serve; see docs/reliability.md.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--only", nargs="+", choices=CAMPAIGNS, default=CAMPAIGNS, help="campaigns to run"
    )
    parser.add_argument("--jobs", type=positive, default=200, help="jobs at once")
    parser.add_argument("--connections", type=positive, default=20, help="clients that submit them")
    parser.add_argument(
        "--model", type=Path, help="the model for load and openapi; else one of a few filters"
    )
    parser.add_argument("--kills", type=positive, default=50, help="kills of server and workers")
    parser.add_argument(
        "--of-server", type=float, default=0.5, metavar="SHARE", help="of the kills"
    )
    parser.add_argument("--requests", type=positive, default=95_000, help="malformed requests")
    parser.add_argument("--first", type=natural, default=0, help="the number of the first of them")
    parser.add_argument(
        "--examples", type=positive, default=300, help="requests for each operation of the OpenAPI"
    )
    parser.add_argument("--rounds", type=positive, default=30, help="of clients that come and go")
    parser.add_argument("--clients", type=positive, default=60, help="clients of each round")
    parser.add_argument(
        "--troubles", nargs="+", choices=TROUBLES, default=tuple(TROUBLES), help="of a server"
    )
    parser.add_argument("--seed", type=natural, default=0, help="of the moments of the kills")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "build" / "torture", help="folder for the results"
    )
    return parser.parse_args(arguments)


def _campaigns(
    chosen: argparse.Namespace, folder: Path, model: Path
) -> dict[str, Callable[[], Any]]:
    """Return the campaigns by name; each gets a folder of its own."""
    images = (SAMPLES / "chelsea.jpg").read_bytes(), (SAMPLES / "night.jpg").read_bytes()

    def server(name: str) -> Server:
        (folder / name).mkdir()
        return Server(folder / name / "data", model)

    def under_load() -> Any:
        loaded = dataclasses.replace(
            server("load"), model=chosen.model or model, arguments=("--workers", "2")
        )
        with started(loaded, 2):
            return load.submit_at_once(
                loaded, images, jobs=chosen.jobs, connections=chosen.connections
            )

    def killed() -> Any:
        return kills.kill_service(
            server("kills"), images, kills=chosen.kills, jobs=chosen.jobs,
            of_server=chosen.of_server, seed=chosen.seed, tell=_tell,
        )  # fmt: skip

    def attacked() -> Any:
        numbers = range(chosen.first, chosen.first + chosen.requests)
        return malformed.attack(server("malformed"), numbers, tell=_tell)

    def described() -> Any:
        if reason := openapi.reason_to_skip():
            _tell(f"the description is not checked: {reason}")
            return None
        here = dataclasses.replace(server("openapi"), model=chosen.model or model)
        return openapi.check_description(
            here, folder / "openapi", examples=chosen.examples, seed=chosen.seed, tell=_tell
        )

    def visited() -> Any:
        return growth.come_and_go(
            server("growth"), images, rounds=chosen.rounds, clients=chosen.clients, tell=_tell
        )

    return {
        "load": under_load,
        "kills": killed,
        "malformed": attacked,
        "openapi": described,
        "growth": visited,
        "access": lambda: ask_without_right(server("access")),
        "starts": lambda: refuse_starts(folder / "starts", model),
        "troubles": lambda: make_trouble(folder / "troubles", model, chosen.troubles, tell=_tell),
    }


def _written(found: dict[str, Any], chosen: argparse.Namespace) -> int:
    """Print what was found and write it; return 1 if there are findings."""
    text = report.markdown(found)
    print(text)
    chosen.output.mkdir(parents=True, exist_ok=True)
    plain = {name: dataclasses.asdict(result) for name, result in found.items()}
    (chosen.output / "service.json").write_text(json.dumps(plain, indent=1), encoding="utf-8")
    (chosen.output / "service.md").write_text(text, encoding="utf-8")
    return int(any(result.findings for result in found.values()))


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
