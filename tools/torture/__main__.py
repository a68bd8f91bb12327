"""The command line: run the campaigns, print their tables, write the JSON."""

import os

# Before NumPy is imported: the forks of this process, and what they start, use one thread each.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import dataclasses
import json
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tools.arguments import above_zero, natural, positive

from . import report
from .child import trials_of_this_process
from .cluster_kills import kill_workers
from .corpus import corpus, fingerprint
from .from_tests import ROOT
from .full_disk import fill_disks, reason_to_skip
from .fuzz import fuzz
from .kills import KillResult, kill_at_random
from .mutations import mutant
from .readers import READERS, SHARES
from .scene import make_scene
from .victims import Batch, Export, Transfer, Victim
from .writers import Writer, writers

CAMPAIGNS = ("kills", "workers", "disk", *SHARES)


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0; 1 if there are findings."""
    chosen = parse(arguments)
    # Python warns of forks of a process with threads; ONNX Runtime's does nothing here.
    warnings.simplefilter("ignore", DeprecationWarning)
    with tempfile.TemporaryDirectory(prefix="gramstyle-torture-", dir=_fast()) as folder:
        if chosen.repeat:
            reader, number = chosen.repeat
            return repeat(reader, int(number), Path(folder), chosen.keep)
        os.nice(chosen.nice)
        found = {name: _campaigns(chosen, Path(folder))[name]() for name in chosen.only}
    return _written(found, chosen)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.torture",
        description="Kill runs, fill disks and mutate input files; see docs/reliability.md.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--only", nargs="+", choices=CAMPAIGNS, default=CAMPAIGNS, help="campaigns to run"
    )
    parser.add_argument(
        "--commands", nargs="+", metavar="NAME", help="only these commands of the tables"
    )
    parser.add_argument(
        "--kills", type=positive, default=100, help="kills of each command, and of workers"
    )
    parser.add_argument(
        "--disk-step", type=positive, default=1, metavar="PAGES", help="from one disk to the next"
    )
    parser.add_argument(
        "--mutants", type=positive, default=1_000_000, help="mutated files in each campaign"
    )
    parser.add_argument(
        "--minutes", type=above_zero, default=600.0, help="the limit of time for the mutants"
    )
    parser.add_argument("--seed", type=natural, default=0, help="of the moments of the kills")
    parser.add_argument("--nice", type=natural, default=15, help="added to the niceness")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "build" / "torture", help="folder for the results"
    )
    parser.add_argument(
        "--repeat",
        nargs=2,
        metavar=("READER", "NUMBER"),
        help="read one mutant, print its traceback, and do nothing else",
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="with --repeat: keep its files")
    return parser.parse_args(arguments)


def _campaigns(chosen: argparse.Namespace, folder: Path) -> dict[str, Callable[[], list[Any]]]:
    """Return the campaigns by name; each gets a scene of its own."""

    def is_chosen(command: Victim | Writer) -> bool:
        return not chosen.commands or command.name in chosen.commands

    def kills() -> list[KillResult]:
        scene = make_scene(folder / "kills")
        results = []
        for victim in filter(is_chosen, (Transfer(scene), Batch(scene), Export(scene))):
            here = folder / "victims" / victim.name.replace(" ", "-")
            results.append(kill_at_random(victim, chosen.kills, here, seed=chosen.seed))
            _tell(f"{victim.name}: {results[-1].kills} kills")
        return results

    def workers() -> list[KillResult]:
        return [kill_workers(make_scene(folder / "workers"), chosen.kills, seed=chosen.seed)]

    def disk() -> list[Any]:
        if reason := reason_to_skip():
            _tell(f"the disk is not filled: {reason}")
            return []
        (folder / "filled").mkdir()
        scene = make_scene(folder / "disk")
        some = list(filter(is_chosen, writers(scene)))
        return list(fill_disks(scene, some, folder / "filled", step=chosen.disk_step, tell=_tell))

    def mutants(campaign: str) -> list[Any]:
        scene = make_scene(folder / campaign)
        samples = corpus(scene)
        own = {reader: samples[reader] for reader in SHARES[campaign]}
        _tell(f"the corpus is {fingerprint(own)}")
        return fuzz(
            chosen.mutants,
            samples,
            scene.workplace,
            shares=SHARES[campaign],
            minutes=chosen.minutes,
            tell=_tell,
        )

    return {
        "kills": kills,
        "workers": workers,
        "disk": disk,
        **{campaign: partial(mutants, campaign) for campaign in SHARES},
    }


def repeat(reader: str, number: int, folder: Path, keep: Path | None) -> int:
    """Read one mutant in this process; return 1 if it breaks a promise."""
    if reader not in READERS:
        raise SystemExit(f"the readers are {', '.join(READERS)}")
    scene = make_scene(folder / "mutants")
    samples = corpus(scene)
    sample, files = mutant(reader, number, samples[reader])
    print(f"a mutant of {sample.name}: {', '.join(files)}")
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (keep / name).write_bytes(data)
    trials = trials_of_this_process(samples, scene.workplace, capture=False)
    trial = trials.read(reader, files, on_error=traceback.print_exception)
    print(f"{trial.outcome} {trial.detail}")
    return int(trial.is_finding)


def _written(found: dict[str, list[Any]], chosen: argparse.Namespace) -> int:
    """Print the tables and write them; return 1 if there are findings."""
    text = report.markdown(found)
    print(text)
    chosen.output.mkdir(parents=True, exist_ok=True)
    plain = {name: list(map(dataclasses.asdict, rows)) for name, rows in found.items()}
    data = {"environment": report.environment(), **plain}
    (chosen.output / "torture.json").write_text(json.dumps(data, indent=1), encoding="utf-8")
    (chosen.output / "torture.md").write_text(text, encoding="utf-8")
    return int(any(row.findings for rows in found.values() for row in rows))


def _fast() -> str | None:
    """Return a folder in memory, if there is one."""
    shared = Path("/dev/shm")  # noqa: S108 - a new folder is made in it
    return str(shared) if os.access(shared, os.W_OK) else None


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
