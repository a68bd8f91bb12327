"""Compare a multi-scale run with a run at one scale: the loss at the final size over time.

    python -m tools.scales                     coffee.jpg in the style of night.jpg, 1024 pixels
    python -m tools.scales CONTENT STYLE --size 2048 --iterations 100

All other options have their defaults. The multi-scale run goes first; the other run then takes 1.5
times as long. Losses are those at the final size: a multi-scale run has none before its last scale,
but the time that the smaller scales take counts. The program writes scales.md, losses.png and the
images; of the run at one scale also the images after half the multi-scale run's time, and after all
of it.
"""

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import PIL.Image

from gramstyle.run.options import Options
from gramstyle.run.plan import plan_run
from gramstyle.run.transfer import Progress, execute

SAMPLES = Path("docs/samples")
LONGER = 1.5  # the single-scale run's time, as a multiple of the multi-scale run's


@dataclass
class Run:
    """Losses at the final size, the seconds at which they were reached, and images by name."""

    name: str
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    images: dict[str, PIL.Image.Image] = field(default_factory=dict)

    def reached(self, loss: float) -> float | None:
        """Return the first time at which the loss was at most this value, or None."""
        times = [t for t, value in zip(self.seconds, self.losses, strict=True) if value <= loss]
        return times[0] if times else None

    def loss_at(self, seconds: float) -> float | None:
        """Return the loss at a time, or None before the first one."""
        losses = [v for t, v in zip(self.seconds, self.losses, strict=True) if t <= seconds]
        return losses[-1] if losses else None


def multi_scale(content: Path, style: Path, options: Options) -> Run:
    """Run through all scales."""
    run = Run("several scales")

    def watch(progress: Progress) -> None:
        if progress.scale.number + 1 == progress.scales:
            run.seconds.append(progress.losses.seconds)
            run.losses.append(progress.losses.loss)

    run.images["several-scales"] = execute(plan_run(content, style, options), callback=watch).image
    return run


def single_scale(content: Path, style: Path, options: Options, seconds: float) -> Run:
    """Run at the final size for 1.5 times the given seconds."""
    run, marks = Run("one scale"), {"one-scale-half": seconds / 2, "one-scale-same": seconds}

    def watch(progress: Progress) -> bool:
        now = progress.losses.seconds
        run.seconds.append(now)
        run.losses.append(progress.losses.loss)
        for name in [name for name, mark in marks.items() if now >= mark]:
            run.images[name] = progress.image()
            del marks[name]
        return now >= LONGER * seconds

    options = replace(options, scales=1, iterations=100_000)
    run.images["one-scale-longer"] = execute(
        plan_run(content, style, options), callback=watch
    ).image
    return run


def table(several: Run, one: Run) -> str:
    """Return a Markdown table of both runs' losses at fractions of the multi-scale run's time."""
    end = several.seconds[-1]
    lines = ["| seconds | several scales | one scale |", "|---|---|---|"]
    for fraction in (0.25, 0.5, 0.75, 0.9, 1.0, 1.25, 1.5):
        time = fraction * end
        losses = (several.loss_at(time) if fraction <= 1 else None, one.loss_at(time))
        cells = ["" if loss is None else f"{loss:.4g}" for loss in losses]
        lines.append(f"| {time:.0f} | {cells[0]} | {cells[1]} |")
    when = one.reached(several.losses[-1])
    outcome = "does not reach it" if when is None else f"reaches it after {when:.0f} s"
    lines += [
        "",
        f"The multi-scale run ends with the loss {several.losses[-1]:.4g} after {end:.0f} s. "
        f"The run at one scale ({len(one.losses)} iterations, {one.seconds[-1]:.0f} s) {outcome}.",
    ]
    return "\n".join(lines)


def draw(several: Run, one: Run, path: Path) -> None:
    """Draw both curves."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for run in (several, one):
        axes.plot(run.seconds, run.losses, label=run.name)
    axes.axvspan(0, several.seconds[0], alpha=0.1)
    axes.annotate("smaller scales", (several.seconds[0] / 2, 0.93), ha="center",
        xycoords=("data", "axes fraction"), fontsize="small")  # fmt: skip
    axes.set(xlabel="seconds", ylabel="loss at the final size", yscale="log")
    axes.set_ylim(top=float(np.quantile(one.losses, 0.9)), bottom=0.8 * several.losses[-1])
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("content", type=Path, nargs="?", default=SAMPLES / "coffee.jpg")
    parser.add_argument("style", type=Path, nargs="?", default=SAMPLES / "night.jpg")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--iterations", type=int, default=200, help="(default %(default)s)")
    parser.add_argument("--to", type=Path, default=Path("build/scales"), metavar="FOLDER")
    arguments = parser.parse_args()
    folder: Path = arguments.to
    folder.mkdir(parents=True, exist_ok=True)
    options = Options(size=arguments.size, iterations=arguments.iterations)
    several = multi_scale(arguments.content, arguments.style, options)
    one = single_scale(arguments.content, arguments.style, options, several.seconds[-1])
    text = table(several, one)
    (folder / "scales.md").write_text(text + "\n")
    draw(several, one, folder / "losses.png")
    for name, image in {**several.images, **one.images}.items():
        image.save(folder / f"{name}.png")
    print(text)


if __name__ == "__main__":
    main()
