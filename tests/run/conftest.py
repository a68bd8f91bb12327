"""A photograph, two paintings, and runs of them that are prepared."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gramstyle.core.arrays import Array
from gramstyle.run.options import Options
from gramstyle.run.prepare import Prepared, prepare


@pytest.fixture
def photo(rng: np.random.Generator) -> Array:
    return rng.integers(0, 256, (75, 100, 3)).astype(np.uint8)


@pytest.fixture
def paintings(rng: np.random.Generator) -> list[Array]:
    """Two style images of different sizes and contrasts."""
    return [
        rng.integers(0, 256, (60, 90, 3)).astype(np.uint8),
        rng.integers(100, 130, (80, 70, 3)).astype(np.uint8),
    ]


@pytest.fixture
def ready(photo: Array, tiny_model_path: Path) -> Iterator[Callable[..., Prepared]]:
    """Prepare a run of the photograph with these style images and options."""
    with ExitStack() as stack:

        def make(styles: Any, **given: Any) -> Prepared:
            options = Options(**{"size": 100, "engine": "numpy", "beta": 1e3, **given})
            return stack.enter_context(prepare(photo, styles, options, model=tiny_model_path))

        yield make
