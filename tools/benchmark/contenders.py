"""Who takes part, and what a contender is once it is built."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from gramstyle.core.arrays import Array
from gramstyle.errors import OptionError
from gramstyle.run.options import Options

# Takes the pixels x (3, H, W), 0..255, float64; returns the loss and its gradient by them.
Evaluate = Callable[[Array], tuple[float, Array]]

# What the ratios are to.
BASELINE = "pytorch"


@dataclass(frozen=True)
class Contender:
    """One way to evaluate the objective.

    Attributes
    ----------
    name, title
        As the command line and as the tables call it.
    module
        The module of this package that builds it.
    imports
        What it cannot do without, loaded before memory is counted.
    variant
        What tells it from others of its module: an engine's name, a manner of PyTorch.
    """

    name: str
    title: str
    module: str
    imports: tuple[str, ...]
    variant: str

    def missing(self) -> str | None:
        """Return why it cannot take part, or None where it can."""
        absent = [name for name in self.imports if find_spec(name) is None]
        if not absent:
            return None
        return f"{' and '.join(absent)} not installed; pip install 'gramstyle[bench]'"


def _engine(name: str, *imports: str) -> Contender:
    return Contender(name, f"gramstyle {name}", "engines", imports, name)


def _pytorch(name: str, title: str, variant: str) -> Contender:
    return Contender(name, title, "pytorch", ("torch",), variant)


ENGINES = {
    engine.name: engine
    for engine in (
        _engine("numpy", "onnxruntime"),
        _engine("onnx", "onnxruntime"),
        _engine("hybrid", "onnxruntime", "numba"),
        _engine("winograd", "numba"),
    )
}
PYTORCH = {
    way.name: way
    for way in (
        _pytorch(BASELINE, "PyTorch eager", "eager"),
        _pytorch("channels-last", "PyTorch channels_last", "channels_last"),
        _pytorch("compile", "PyTorch torch.compile", "compile"),
    )
}
# The optimisers of PyTorch; gramstyle's engines all have L-BFGS-B.
OPTIMISERS = {
    way.name: way
    for way in (
        _pytorch("pytorch-wolfe", "PyTorch LBFGS, strong Wolfe", "strong_wolfe"),
        _pytorch("pytorch-fixed", "PyTorch LBFGS, fixed step", "fixed"),
    )
}


def options(engine: str, **chosen: Any) -> Options:
    """Return the options that choose an engine by its name.

    Raises
    ------
    OptionError
        If there is no such engine.
    """
    return Options(**{**chosen, "engine": engine})


def engines() -> dict[str, Contender]:
    """Return those engines that gramstyle has."""
    return {name: engine for name, engine in ENGINES.items() if _accepted(name)}


def _accepted(engine: str) -> bool:
    try:
        options(engine)
    except OptionError:
        return False
    return True


def evaluations() -> dict[str, Contender]:
    """Return all contenders for one evaluation, in the order of the tables."""
    return {**engines(), **PYTORCH}


def optimisations() -> dict[str, Contender]:
    """Return all contenders for the whole optimisation, in the order of the tables."""
    return {**engines(), **OPTIMISERS}


@dataclass(frozen=True)
class Built:
    """A contender that is ready.

    Attributes
    ----------
    evaluate
        Loss and gradient at an image.
    phases
        Evaluates once and returns the seconds by phase; None where a contender does not tell.
    """

    evaluate: Evaluate
    phases: Callable[[Array], dict[str, float]] | None = None


@dataclass(frozen=True)
class Curve:
    """How a loss fell: the seconds and evaluations since the start, and the loss then."""

    seconds: list[float]
    evaluations: list[int]
    losses: list[float]
