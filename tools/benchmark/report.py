"""The figures as Markdown, and the loss curves as a plot."""

from collections.abc import Mapping
from typing import Any

Report = Mapping[str, Any]

# Bytes in a gigabyte.
GB = 1e9


def markdown(report: Report) -> str:
    """Return all figures as Markdown that can be pasted below a heading."""
    parts = [_setting(report)]
    if report["evaluations"]:
        parts += [_evaluations(report), _phases(report)]
    if report["optimisation"]["results"]:
        parts.append(_optimisation(report))
    if report["failures"]:
        parts.append(_failures(report))
    return "\n\n".join(part for part in parts if part) + "\n"


def _setting(report: Report) -> str:
    machine, versions = report["machine"], report["versions"]
    named = ", ".join(f"{name} {number}" for name, number in versions.items())
    peak = report["sgemm"]
    reached = f" Float32 matrix product: {peak['gflops']:.0f} GFLOP/s." if peak else ""
    rows = [*report["evaluations"], *report["optimisation"]["results"]]
    busy = [row["others"] for row in rows if row["others"] is not None]
    if busy:
        reached += f" Other processes took up to {max(busy):.0%} of the machine."
    return (
        f"{machine['processor']}, {machine['cores']} cores, {report['date'][:10]}, "
        f"{report['threads']} threads; {named}.{reached} `{report['command']}`"
    )


def _evaluations(report: Report) -> str:
    lines = [
        "| size | contender | median s (quartiles) | min s | ratio (by round) | GFLOP/s "
        "| of peak | first s | peak GB (above imports) | memory ratio |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in report["evaluations"]:
        s, ratio, memory = row["seconds"], row["ratio"], row["memory_ratio"]
        cells = (
            f"{row['size']}×{row['size']}",
            row["title"],
            f"{s['median']:.3g} ({s['lower_quartile']:.3g} to {s['upper_quartile']:.3g})",
            f"{s['minimum']:.3g}",
            _ratio(ratio),
            f"{row['gflops']:.0f}",
            _number(row["share_of_sgemm"], "–", ".2f"),
            f"{row['first_seconds']:.3g}",
            f"{row['peak_bytes'] / GB:.2f} ({row['peak_above_imports_bytes'] / GB:.2f})",
            "–" if memory is None else f"{memory['peak']:.2f} ({memory['above_imports']:.2f})",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _number(value: float | None, otherwise: str, form: str) -> str:
    return otherwise if value is None else format(value, form)


def _ratio(ratio: Mapping[str, Any] | None) -> str:
    if ratio is None:
        return "–"
    rounds = ratio["by_round"]
    return f"{ratio['of_medians']:.2f} ({min(rounds):.2f} to {max(rounds):.2f})"


def _phases(report: Report) -> str:
    """Return a table of seconds by phase, with a column for each contender and size."""
    rows = [row for row in report["evaluations"] if row["phases"]]
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row["phases"]))
    # The sums first, then the layers in the order of the backward pass.
    names = [*(n for n in names if " " not in n), *(n for n in names if " " in n)]
    heads = [f"{row['title']}, {row['size']}" for row in rows]
    lines = [f"| seconds | {' | '.join(heads)} |", "|---" * (len(rows) + 1) + "|"]
    for name in names:
        cells = [f"{row['phases'][name]:.4f}" if name in row["phases"] else "–" for row in rows]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _optimisation(report: Report) -> str:
    run = report["optimisation"]
    first = (
        f"{run['content']} in the style of {run['style']}, {run['width']}×{run['height']}, "
        f"starting at the content image, {run['iterations']} iterations; ratios are to the "
        "fastest of PyTorch's optimisers:"
    )
    times = " | ".join(f"s to {target:.4g} | ratio" for target in run["targets"])
    lines = [
        f"| contender | evaluations | seconds | final loss | {times} | peak GB |",
        "|---" * (5 + 2 * len(run["targets"])) + "|",
    ]
    for row in run["results"]:
        reached = zip(row["seconds_to_target"], row["ratio_to_quickest_baseline"], strict=True)
        cells = (
            row["title"],
            str(row["evaluations"]),
            f"{row['seconds']['median']:.1f}",
            _number(row["final_loss"], "not finite", ".4g"),
            *(
                cell
                for s, ratio in reached
                for cell in (_number(s, "not reached", ".1f"), _number(ratio, "–", ".2f"))
            ),
            f"{row['peak_bytes'] / GB:.2f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return f"{first}\n\n" + "\n".join(lines)


def _failures(report: Report) -> str:
    lines = [f"- {each['title']} ({each['what']}): {each['reason']}" for each in report["failures"]]
    return "Not measured:\n\n" + "\n".join(lines)


def plot(report: Report, figure: Any) -> None:
    """Draw the loss against seconds and against evaluations into a matplotlib figure."""
    run = report["optimisation"]
    by_seconds, by_evaluations = figure.subplots(1, 2, sharey=True)
    for row in run["results"]:
        curve = row["curve"]
        by_seconds.semilogy(curve["seconds"], curve["losses"], label=row["title"], linewidth=1.2)
        by_evaluations.semilogy(curve["evaluations"], curve["losses"], linewidth=1.2)
    for target in run["targets"]:
        for axes in (by_seconds, by_evaluations):
            axes.axhline(target, color="0.7", linewidth=0.8, linestyle=":")
    highest = max(row["curve"]["losses"][0] for row in run["results"])
    lowest = min(row["final_loss"] for row in run["results"] if row["final_loss"] is not None)
    by_seconds.set(
        xlabel="seconds", ylabel="L_total", ylim=(lowest / 1.5, highest * 1.5)
    )  # a line search may evaluate losses far above the start
    by_evaluations.set(xlabel="evaluations")
    by_seconds.legend()
    figure.suptitle(
        f"{run['width']}×{run['height']}, {report['threads']} threads, "
        f"{report['machine']['processor']}, {report['date'][:10]}"
    )
