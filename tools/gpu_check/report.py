"""The report: one table for people, one JSON for programs."""

import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from tools.benchmark.machine import versions

from gramstyle.engines.cuda.device import Device

from .parts import NOT_MEASURED, Part

FORMAT = 1
HEADER = (
    "size", "precision", "", "ms an evaluation", "first s", "iterations", "s", "loss", "peak GB",
)  # fmt: skip
# What the times of --on cpu are.
STAND_IN = (
    "The times below are those of NumPy in CuPy's place. They show that everything runs; they say "
    "nothing about a GPU, and there is no TF32 in them. Speed on a GPU: not measured."
)


def machine(device: Device) -> dict[str, Any]:
    """Return the GPU, its driver, and the versions."""
    cupy = device.xp
    properties = cupy.cuda.runtime.getDeviceProperties(device.index)
    return {
        "gpu": properties["name"].decode(errors="replace"),
        "compute_capability": f"{properties['major']}.{properties['minor']}",
        "driver": driver(),
        "cuda_of_driver": cupy.cuda.runtime.driverGetVersion(),
        "cuda_runtime": cupy.cuda.runtime.runtimeGetVersion(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {**versions(), "cupy": cupy.__version__},
    }


def driver() -> str:
    """Return the version of NVIDIA's driver; "" if it is unknown."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip().partition("\n")[0] if done.returncode == 0 else ""


def document(about: Mapping[str, Any], parts: Sequence[Part], arguments: Any) -> dict[str, Any]:
    """Return the whole report as JSON types."""
    return {
        "format": FORMAT,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m tools.gpu_check", *sys.argv[1:]]),
        "arguments": {name: str(value) for name, value in vars(arguments).items()},
        "machine": dict(about),
        "passed": not any(part.failed for part in parts),
        "measured_on_a_gpu": not about["is_stand_in"],
        "parts": [
            {
                "name": part.name,
                "seconds": part.seconds,
                "checks": [vars(check) for check in part.checks],
                "figures": plain(part.figures),
            }
            for part in parts
        ],
    }


def plain(value: Any) -> Any:
    """Return a value as JSON types, without its arrays; numbers that are not finite as text."""
    if isinstance(value, Mapping):
        return {
            name: plain(each) for name, each in value.items() if not isinstance(each, np.ndarray)
        }
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value


def text(about: Mapping[str, Any], parts: Sequence[Part]) -> str:
    """Return the report as Markdown."""
    named = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    driver_text = about["driver"] or "unknown"
    lines = [f"{about['gpu']}, driver {driver_text}, {about['system']}; {named}", ""]
    lines += ["| part | passed | failed | not measured | s |", "|---|---|---|---|---|"]
    for part in parts:
        states = [check.state for check in part.checks]
        counts = (states.count(state) for state in ("passed", "failed", NOT_MEASURED))
        lines.append(f"| {part.name} | {' | '.join(map(str, counts))} | {part.seconds:.1f} |")
    rows = [row for part in parts for row in part.figures.get("rows", ())]
    if rows:
        lines += ["", STAND_IN] if about["is_stand_in"] else []
        lines += ["", f"| {' | '.join(HEADER)} |", "|---" * len(HEADER) + "|"]
        lines += [line for row in rows for line in _lines(row, ratios=not about["is_stand_in"])]
    for part in parts:
        for check in part.checks:
            if check.state == "failed":
                lines += ["", f"FAILED {part.name}: {check.name}: {check.detail}"]
    skipped = sorted(
        {
            f"{part.name}: {check.detail}"
            for part in parts
            for check in part.checks
            if check.state == NOT_MEASURED
        }
    )
    lines += ["", *(f"Not measured in {each}" for each in skipped)] if skipped else []
    return "\n".join(lines)


def _lines(row: Mapping[str, Any], *, ratios: bool) -> list[str]:
    """Return the rows of the table for one size and precision."""
    lines, size = [], f"{row['size']}×{row['size']}"
    precision = "TF32" if row["tf32"] else "float32"
    for name in ("gramstyle", "pytorch"):
        figures = row.get(name)
        cells: list[str] = [NOT_MEASURED] * 6
        if figures is not None:
            memory = figures["memory_bytes"]
            cells = [
                f"{figures['median_seconds'] * 1000:.3g}",
                f"{figures['first_seconds']:.3g}",
                f"{figures['run_iterations']} ({figures['run_evaluations']} evaluations)",
                f"{figures['run_seconds']:.3g}",
                f"{figures['run_loss']:.4g}",
                NOT_MEASURED if memory is None else f"{memory / 1e9:.2f}",
            ]
        title = name if figures is None else f"{name} {figures.get('layout', '')}".strip()
        lines.append(f"| {' | '.join([size, precision, title, *cells])} |")
    if ratios and "gramstyle" in row and "pytorch" in row:
        evaluation, run = (
            row["gramstyle"]["median_seconds"] / row["pytorch"]["median_seconds"],
            _per_iteration(row["gramstyle"]) / _per_iteration(row["pytorch"]),
        )
        lines.append(
            f"| {size} | {precision} | ratio | {evaluation:.2f} | – | {run:.2f} an iteration "
            "| – | – | – |"
        )
    return lines


def _per_iteration(figures: Mapping[str, Any]) -> float:
    return float(figures["run_seconds"]) / float(max(1, figures["run_iterations"]))
