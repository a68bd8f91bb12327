"""A checkpoint in the corpus of mutants."""

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from gramstyle.run.checkpoint import load, read_manifest, save
from gramstyle.run.checkpointer import COLUMNS, Checkpointer
from gramstyle.run.options import Options
from gramstyle.run.plan import plan_run
from gramstyle.run.progress import Progress
from gramstyle.run.resume import expected_arrays
from gramstyle.run.transfer import execute

from .sample import Files, Parts, Sample
from .scene import Scene

# Stands for the folder of the scene in the mutated text, since its name is not always the same.
FOLDER = b"/torture"
OPTIONS = Options(size=24, iterations=4, engine="numpy", threads=1, optimiser="lbfgsb-device")
STOPPED_AFTER = 3


def checkpoint_sample(scene: Scene) -> Sample:
    """Return the checkpoint of a stopped run; its parts are the run's manifest and its state."""
    folder = scene.folder / "checkpoint"
    folder.mkdir()
    plan = plan_run(scene.photo, scene.style, OPTIONS, model=scene.model)
    saver = Checkpointer(folder, plan, scene.folder / "result.png", every=1)
    with suppress(KeyboardInterrupt):
        execute(plan, saver=saver, callback=_stop)
    _remove_times(folder)
    document = json.loads((folder / "manifest.json").read_bytes())
    state = (folder / document["state"]).read_bytes()
    text = json.dumps(document["run"], indent=1).encode()
    here = json.dumps(str(scene.folder))[1:-1].encode()

    def assemble(parts: Parts) -> Files:
        run, arrays = parts[0].replace(FOLDER, here), parts[1]
        return {"manifest.json": _sealed(document, run, arrays), document["state"]: arrays}

    parts = (text.replace(here, FOLDER), state)
    return Sample("checkpoint", assemble(parts), parts, assemble)


def _stop(progress: Progress) -> None:
    if progress.losses.iteration > STOPPED_AFTER:
        raise KeyboardInterrupt


def _remove_times(folder: Path) -> None:
    """Save the checkpoint again with zeros in place of the seconds that the run took."""
    run = json.loads(re.sub(r'"seconds": [-+.\de]+', '"seconds": 0.0', _run(folder)))
    arrays = dict(load(folder, expected=expected_arrays(run)).arrays)
    arrays["losses"][:, COLUMNS.index("seconds")] = 0
    save(folder, run, arrays.items())


def _run(folder: Path) -> str:
    return json.dumps(dict(read_manifest(folder)))


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
