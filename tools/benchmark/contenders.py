"""The contenders, and what each one provides once it is built."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from gramstyle.core.arrays import Array
from gramstyle.system.installing import remedy

# The loss and its gradient at the pixels x (3, H, W), 0..255, float64.
Evaluate = Callable[[Array], tuple[float, Array]]

# The contender that ratios refer to.
BASELINE = "pytorch"


@dataclass(frozen=True)
class Contender:
    """One way to evaluate the objective.

    Attributes
    ----------
    name, title
        Its name on the command line, and its title in the tables.
    module
        The module of this package that builds it.
    imports
        The packages it needs. They are imported before memory is measured.
    variant
        What distinguishes it within its module: the engine's name, or a way to use PyTorch.
    """

    name: str
    title: str
    module: str
    imports: tuple[str, ...]
    variant: str

    def missing(self) -> str | None:
        """Return why it cannot run, or None if it can."""
        absent = [name for name in self.imports if find_spec(name) is None]
        if not absent:
            return None
        return f"{' and '.join(absent)} not installed; {remedy('bench')}"


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
    each.name: each
    for each in (
        _pytorch(BASELINE, "PyTorch eager", "eager"),
        _pytorch("channels-last", "PyTorch channels_last", "channels_last"),
        _pytorch("compile", "PyTorch torch.compile", "compile"),
    )
}
# PyTorch's optimisers; all of gramstyle's engines use L-BFGS-B.
OPTIMISERS = {
    each.name: each
    for each in (
        _pytorch("pytorch-wolfe", "PyTorch LBFGS, strong Wolfe", "strong_wolfe"),
        _pytorch("pytorch-fixed", "PyTorch LBFGS, fixed step", "fixed"),
    )
}


def evaluations() -> dict[str, Contender]:
    """Return all contenders for one evaluation, in the order of the tables."""
    return {**ENGINES, **PYTORCH}


def optimisations() -> dict[str, Contender]:
    """Return all contenders for the whole optimisation, in the order of the tables."""
    return {**ENGINES, **OPTIMISERS}


@dataclass(frozen=True)
class Built:
    """A contender that is ready to run.

    Attributes
    ----------
    evaluate
        Loss and gradient at an image.
    phases
        Evaluates once and returns the seconds of each phase; None if it has no phases.
    """

    evaluate: Evaluate
    phases: Callable[[Array], dict[str, float]] | None = None


@dataclass(frozen=True)
class Curve:
    """A loss curve: for each point, the seconds and evaluations since the start, and the loss."""

    seconds: list[float]
    evaluations: list[int]
    losses: list[float]
