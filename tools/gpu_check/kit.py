"""The conformance kit on the device: the readable layers, and the engine."""

from collections.abc import Iterator
from functools import partial

from gramstyle.conformance import Case, cases
from gramstyle.conformance.adapters.cupy import value_and_grad as plain
from gramstyle.conformance.adapters.cupy_engine import on_device
from gramstyle.conformance.comparing import Adapter
from gramstyle.conformance.running import check
from gramstyle.engines.cuda.device import Device

from .parts import Work


def checks(device: Device, *, small: bool) -> Iterator[tuple[str, Work]]:
    """Yield a check of every case, with both adapters, in float32 and float64."""
    engine = partial(on_device, device=device)
    # The engine first: it is what runs use.
    for name, adapter in (("cupy_engine", engine), ("cupy", plain)):
        for dtype in ("float32",) if small else ("float32", "float64"):
            for case in cases():
                yield f"{name}: {case.name}, {dtype}", partial(_case, adapter, case, dtype)


def _case(adapter: Adapter, case: Case, dtype: str) -> float:
    result = check(adapter, case, dtype=dtype)
    if not result.passed:
        worst = result.worst
        deviation = "" if worst is None else f"{worst.quantity} by {worst.relative:.2g}; "
        said = (result.problem, deviation + result.where, result.explanation)
        raise ValueError(" ".join(each for each in said if each))
    return 0.0 if result.worst is None else result.worst.relative
