"""A checkpoint in the corpus of mutants."""

import hashlib
import json
import os
import secrets
import sys
import time
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from gramstyle.system.files import TEMPORARY_NAME

from .commands import run
from .sample import Files, Parts, Sample
from .scene import Scene

# Stands for the folder of the scene in the mutated text, since its name is not always the same.
FOLDER = b"/torture"
MANIFEST = "manifest.json"
# The run is stopped when it has saved so many checkpoints.
SAVES = 4


def checkpoint_sample(scene: Scene) -> Sample:
    """Return the checkpoint of a killed run; its parts are the run's manifest and its state."""
    folder = scene.folder / "checkpoint"
    run(
        [
            *("transfer", scene.photo, scene.style, "-o", scene.folder / "result.png", "--quiet"),
            *("--model", scene.model, "--engine", "numpy", "--threads", "1", "--size", "24"),
            *("--iterations", "9", "--checkpoint", folder, "--every", "1"),
        ],
        prepare=_stop_after_saves,
    )
    document = json.loads((folder / MANIFEST).read_bytes())
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not TEMPORARY_NAME.fullmatch(path.name)
    }
    later = [name for name in files if name.startswith("state-") and name != document["state"]]
    for name in (*later, MANIFEST):
        del files[name]
    text = json.dumps(document["run"], indent=1).encode()
    here = json.dumps(str(scene.folder))[1:-1].encode()

    def assemble(parts: Parts) -> Files:
        manifest = _sealed(document, parts[0].replace(FOLDER, here), parts[1])
        return {MANIFEST: manifest, **files, document["state"]: parts[1]}

    parts = (text.replace(here, FOLDER), files[document["state"]])
    return Sample("checkpoint", assemble(parts), parts, assemble)


def _stop_after_saves() -> None:
    """End this process before it saves one checkpoint more.

    Until then its clocks stand still and its random names are numbers: a checkpoint holds both,
    and would make the mutants differ from one corpus to the next.
    """
    time.monotonic = time.perf_counter = time.time = float
    numbers, saves = count(1), 0
    secrets.token_hex = lambda nbytes=8: f"{next(numbers):0{2 * (nbytes or 8)}x}"

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal saves
        if event == "os.rename" and Path(os.fsdecode(arguments[1])).name == MANIFEST:
            saves += 1
            if saves > SAVES:
                os._exit(0)

    sys.addaudithook(watch)


def _sealed(document: Mapping[str, Any], run: bytes, state: bytes) -> bytes:
    """Return a manifest with right checksums, as an attacker would write it."""
    digest = hashlib.sha256(state).hexdigest()
    head = {**document, "bytes": len(state), "sha256": digest}
    del head["checksum"]
    try:
        head["run"] = json.loads(run)
        canonical = json.dumps(head, sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError):
        return run  # no longer JSON: no checksum would help
    return json.dumps({**head, "checksum": hashlib.sha256(canonical.encode()).hexdigest()}).encode()
