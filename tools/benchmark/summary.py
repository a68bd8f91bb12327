"""From samples to figures: medians, ratios, agreement, the time to reach a loss.

Shared machines are noisy. A ratio is therefore given three times: of the medians over all
processes, of the minima, and round by round, where both contenders met the same conditions.
"""

from collections.abc import Mapping, Sequence
from statistics import median, quantiles
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .processes import Sample, Samples

# The largest relative difference of losses, and relative Euclidean distance of gradients. Two
# float32 gradients of one objective differ by up to 2e-3, because ReLU masks and argmaxes flip. A
# missing ReLU mask makes the distance more than 0.1.
LOSSES_AGREE, GRADIENTS_AGREE = 1e-3, 5e-3

# A contender whose final loss is above this multiple of the best one has not converged. It does not
# count for the loss at which the times of the others are compared.
CONVERGED = 2.0

# The losses at which times are compared, as multiples of the worst converged final loss.
MARKS = (1.1, 1.0)


class DisagreementError(Exception):
    """Contenders do different work, so their times cannot be compared; the message names them."""


def check_losses(losses: Mapping[str, float], *, reference: str) -> None:
    """Check every loss against that of one contender.

    Raises
    ------
    DisagreementError
        If the relative difference of one is above LOSSES_AGREE, or if it is not finite.
    """
    expected = losses[reference]
    for name, loss in losses.items():
        if not abs(loss - expected) <= LOSSES_AGREE * abs(expected):
            raise DisagreementError(
                f"{name} and {reference} do different work: their losses are "
                f"{loss:.8g} and {expected:.8g}"
            )


def check_gradients(
    gradients: Mapping[str, NDArray[np.float32]], *, reference: str
) -> dict[str, float]:
    """Check every gradient against that of one contender, and return the relative distances.

    Raises
    ------
    DisagreementError
        If a relative distance is above GRADIENTS_AGREE, or if a shape differs.
    """
    expected, distances = gradients[reference], {}
    for name, gradient in gradients.items():
        if gradient.shape != expected.shape:
            raise DisagreementError(
                f"{name}'s gradient has the shape {gradient.shape}, {reference}'s {expected.shape}"
            )
        difference = gradient.astype(np.float64) - expected
        distances[name] = float(np.linalg.norm(difference) / np.linalg.norm(expected))
        if not distances[name] <= GRADIENTS_AGREE:
            raise DisagreementError(
                f"{name} and {reference} do different work: their gradients are "
                f"{distances[name]:.2g} apart, relative; at most {GRADIENTS_AGREE:g} is rounding"
            )
    return distances


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, extremes and quartiles."""
    lower, _, upper = quantiles(values, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {
        "median": median(values),
        "minimum": min(values),
        "maximum": max(values),
        "lower_quartile": lower,
        "upper_quartile": upper,
    }


def ratios(samples: Samples, contender: str, baseline: str) -> dict[str, Any] | None:
    """Return the ratios of two contenders' seconds: of the medians, of the minima, by round.

    None if no round has both.
    """
    pairs = [
        (each[contender]["seconds"], each[baseline]["seconds"])
        for each in samples.by_round
        if contender in each and baseline in each
    ]
    if not pairs:
        return None
    mine, theirs = ([s for seconds in side for s in seconds] for side in zip(*pairs, strict=True))
    return {
        "to": baseline,
        "of_medians": median(mine) / median(theirs),
        "of_minima": min(mine) / min(theirs),
        "by_round": [median(m) / median(t) for m, t in pairs],
    }


def evaluation_figures(
    samples: Samples,
    contender: str,
    *,
    baseline: str,
    operations: int,
    sgemm_gflops: float | None,
) -> dict[str, Any]:
    """Return one contender's figures at one size.

    Parameters
    ----------
    operations
        The floating-point operations of the convolutions in one evaluation.
    sgemm_gflops
        The speed of the machine's matrix product; None if it is not known.
    """
    runs = samples.of(contender)
    others = samples.of(baseline)
    seconds = spread([s for run in runs for s in run["seconds"]])
    gflops = operations / seconds["median"] / 1e9
    peak = max(run["peak_bytes"] for run in runs)
    above = max(run["peak_bytes"] - run["baseline_bytes"] for run in runs)
    memory = None
    if others:
        memory = {
            "peak": peak / max(run["peak_bytes"] for run in others),
            "above_imports": above
            / max(run["peak_bytes"] - run["baseline_bytes"] for run in others),
        }
    return {
        "processes": len(runs),
        "evaluations": sum(len(run["seconds"]) for run in runs),
        "seconds": seconds,
        "build_seconds": max(run["build_seconds"] for run in runs),
        "first_seconds": max(run["first_seconds"] for run in runs),
        "ratio": ratios(samples, contender, baseline),
        "gflops": gflops,
        "share_of_sgemm": gflops / sgemm_gflops if sgemm_gflops else None,
        "peak_bytes": peak,
        "peak_above_imports_bytes": above,
        "memory_ratio": memory,
        "phases": median_phases([run["phases"] for run in runs if run["phases"]]),
        "others": _largest(runs),
        "loss": runs[0]["loss"],
        "gradient_distance": runs[0].get("gradient_distance"),
    }


def median_phases(runs: Sequence[Mapping[str, float]]) -> dict[str, float] | None:
    """Return the median over processes of each phase's seconds."""
    if not runs:
        return None
    return {name: median(run[name] for run in runs) for name in runs[0]}


def time_to_reach(seconds: Sequence[float], losses: Sequence[float], target: float) -> float | None:
    """Return when the loss first reached the target; None if it never did."""
    return next((s for s, loss in zip(seconds, losses, strict=True) if loss <= target), None)


def common_targets(finals: Mapping[str, float]) -> list[float]:
    """Return the losses at which to compare times: MARKS times the worst converged final loss."""
    finite = [final for final in finals.values() if np.isfinite(final)]
    best = min(finite)
    worst = max(final for final in finite if final <= CONVERGED * best)
    return [mark * worst for mark in MARKS]


def optimisation_figures(
    samples: Samples, names: Sequence[str], *, baselines: Sequence[str]
) -> dict[str, Any]:
    """Return the target losses, and for each contender its final loss and its times.

    A contender's losses hardly differ from round to round, but its seconds do. The time to reach a
    target is therefore a median over rounds.

    Parameters
    ----------
    names
        All contenders, in the order of the table.
    baselines
        The contenders to compare with: ratios are to the fastest of them at each target.
    """
    runs = {name: samples.of(name) for name in names if samples.of(name)}
    finals = {name: _smallest(each) for name, each in runs.items()}
    if not any(map(np.isfinite, finals.values())):
        return {"targets": [], "results": []}
    targets = common_targets(finals)
    by_round = {
        name: [[time_to_reach(r["seconds"], r["losses"], t) for r in each] for t in targets]
        for name, each in runs.items()
    }
    medians = {name: [_median_or_none(times) for times in by_round[name]] for name in runs}
    fastest = [
        min((t for name in baselines if name in runs and (t := medians[name][i])), default=None)
        for i in range(len(targets))
    ]
    results = [
        {
            "contender": name,
            "processes": len(each),
            "evaluations": each[0]["evaluations"][-1],
            "seconds": spread([run["seconds"][-1] for run in each]),
            "final_loss": _finite(finals[name]),
            "seconds_to_target": medians[name],
            "seconds_to_target_by_round": by_round[name],
            "ratio_to_quickest_baseline": [
                mine / other if mine is not None and other else None
                for mine, other in zip(medians[name], fastest, strict=True)
            ],
            "others": _largest(each),
            "peak_bytes": max(run["peak_bytes"] for run in each),
            "peak_above_imports_bytes": max(
                run["peak_bytes"] - run["baseline_bytes"] for run in each
            ),
            "curve": {
                "seconds": each[0]["seconds"],
                "evaluations": each[0]["evaluations"],
                "losses": [_finite(loss) for loss in each[0]["losses"]],
            },
        }
        for name, each in runs.items()
    ]
    return {"targets": targets, "results": results}


def _smallest(runs: Sequence[Sample]) -> float:
    """Return the smallest loss that every run reached; infinity if one has no finite loss."""
    return max(
        min((loss for loss in run["losses"] if np.isfinite(loss)), default=float("inf"))
        for run in runs
    )


def _finite(loss: float) -> float | None:
    """Return a loss that JSON can represent: None if it is not finite."""
    return loss if np.isfinite(loss) else None


def _largest(runs: Sequence[Sample]) -> float | None:
    """Return the largest fraction of the machine that other processes used during a run."""
    return max((run["others"] for run in runs if run["others"] is not None), default=None)


def _median_or_none(times: Sequence[float | None]) -> float | None:
    reached = [time for time in times if time is not None]
    return median(reached) if len(reached) == len(times) else None
