"""A small layer's weights and inputs."""

import numpy as np
import pytest

from gramstyle.core.arrays import Array


@pytest.fixture
def W(rng: np.random.Generator) -> Array:
    """Small, as weights are."""
    return 1e-2 * rng.normal(size=(4, 3))


@pytest.fixture
def x(rng: np.random.Generator) -> Array:
    """Large, as pixels are."""
    return rng.uniform(0, 255, (3, 5))
