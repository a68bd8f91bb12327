"""Checkpoints for the tests, their comparison, and a tracer that acts at a given line."""

import linecache
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from gramstyle.core.arrays import Array
from gramstyle.run.checkpoint import (
    Checkpoint,
    CheckpointError,
    Expected,
    archive,
    load,
    saving,
)
from gramstyle.run.checkpoint import manifest as manifests
from gramstyle.system import files


def manifest(iteration: int) -> dict[str, Any]:
    return {"iteration": iteration, "options": {"size": 512, "α": 0.1, "names": ["a", None, True]}}


def state(iteration: int) -> dict[str, Array]:
    """Arrays of every kind in a run, different for each iteration."""
    rng = np.random.default_rng(iteration)
    return {
        "x": rng.standard_normal((3, 4, 5)),
        "pairs.0_s": rng.standard_normal(70).astype(np.float32),
        "fortran": np.asfortranarray(rng.standard_normal((4, 3, 2))),
        "between": rng.standard_normal((6, 8))[::2, ::3],
        "mask": rng.random(9) > 0.5,
        "count": np.asarray(iteration),
        "empty": np.zeros((0, 3), np.float32),
    }


def few(iteration: int) -> dict[str, Array]:
    """Two of the arrays of `state`."""
    return {name: state(iteration)[name] for name in ("x", "mask")}


def expected_of(arrays: Mapping[str, Array], **options: Any) -> dict[str, Expected]:
    return {n: Expected(a.shape, (a.dtype.name,), **options) for n, a in arrays.items()}


EXPECTED, FEW = expected_of(state(0)), expected_of(few(0))


def assert_is(
    checkpoint: Checkpoint, iteration: int, arrays: Callable[[int], dict[str, Array]] = state
) -> None:
    """Check that a checkpoint is bit-identical to that of an iteration."""
    assert checkpoint.manifest == manifest(iteration)
    truth = arrays(iteration)
    assert list(checkpoint.arrays) == list(truth)
    for name, array in checkpoint.arrays.items():
        assert array.dtype == truth[name].dtype
        assert array.shape == truth[name].shape
        assert array.tobytes() == truth[name].tobytes(), name


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refusal(folder: Path, expected: Mapping[str, Expected] = EXPECTED) -> str:
    """Return the one line with which a folder is refused, without the folder's name."""
    with pytest.raises(CheckpointError) as caught:
        load(folder, expected=expected)
    message = str(caught.value)
    assert message.isprintable()
    assert str(folder) in message
    assert len(message) < 600
    return message.replace(str(folder), "")  # which contains words of the test's name


OURS = {saving.__file__, archive.__file__, manifests.__file__, files.__file__}


class Lines:
    """Call a function at the k-th line of gramstyle's code that a save executes."""

    def __init__(self, k: int, then: Callable[[], None]) -> None:
        self.left = k
        self._then = then
        self._before: dict[FrameType, int] = {}

    def trace(self, frame: FrameType, event: str, _: object) -> Any:
        name, line = frame.f_code.co_filename, frame.f_lineno
        if name not in OURS:
            return None
        if event == "line":
            back = line < self._before.get(frame, 0)
            self._before[frame] = line
            # Python traces a `with` line once more on leaving it, where no signal can arrive.
            if not (back and linecache.getline(name, line).lstrip().startswith("with ")):
                self.left -= 1
            if self.left == 0:
                self.left = -1
                self._then()
        return self.trace
