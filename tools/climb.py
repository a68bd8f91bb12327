"""Coarse to fine against one level: the loss at the final size over wall time, and the images.

    python -m tools.climb                     coffee.jpg in night.jpg, 1024 pixels
    python -m tools.climb PHOTO PAINTING --size 2048 --iterations 100

Both runs have the default options but for these. The climb comes first; the run at one level then
goes on for half as long again. The losses are of the final size: a climb has none before its last
level, and its time before that counts. Writes climb.md, losses.png and the images: at one level
also those after half the climb's time and all of it.
"""

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import PIL.Image

from gramstyle.run.level import Progress
from gramstyle.run.options import Options
from gramstyle.run.transfer import chart, climb

SAMPLES = Path("docs/samples")
# How much longer the run at one level may take.
LONGER = 1.5


@dataclass
class Run:
    """Losses at the final size, when they were reached, and images by name."""

    name: str
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    images: dict[str, PIL.Image.Image] = field(default_factory=dict)

    def reached(self, loss: float) -> float | None:
        """Return when the loss was at or below a value first."""
        below = [t for t, there in zip(self.seconds, self.losses, strict=True) if there <= loss]
        return below[0] if below else None

    def at(self, seconds: float) -> float | None:
        """Return the loss at a time; nothing before the first."""
        before = [v for t, v in zip(self.seconds, self.losses, strict=True) if t <= seconds]
        return before[-1] if before else None


def climbed(content: Path, style: Path, options: Options) -> Run:
    """Run through all levels."""
    run = Run("coarse to fine")

    def watch(progress: Progress) -> None:
        if progress.stage.number + 1 == progress.stage.of:
            run.seconds.append(progress.losses.seconds)
            run.losses.append(progress.losses.loss)

    run.images["climb"] = climb(chart(content, style, options), callback=watch).image
    return run


def at_one_level(content: Path, style: Path, options: Options, seconds: float) -> Run:
    """Run at the final size, until half as long again as the other run took."""
    run, marks = Run("one level"), {"one-level-half": seconds / 2, "one-level-same": seconds}

    def watch(progress: Progress) -> bool:
        now = progress.losses.seconds
        run.seconds.append(now)
        run.losses.append(progress.losses.loss)
        for name in [name for name, mark in marks.items() if now >= mark]:
            run.images[name] = progress.image()
            del marks[name]
        return now >= LONGER * seconds

    options = replace(options, scales=1, iterations=100_000)
    run.images["one-level-longer"] = climb(chart(content, style, options), callback=watch).image
    return run


def table(climb_: Run, one: Run) -> str:
    """Return both runs side by side at shares of the climb's time."""
    end = climb_.seconds[-1]
    lines = ["| seconds | coarse to fine | one level |", "|---|---|---|"]
    for share in (0.25, 0.5, 0.75, 0.9, 1.0, 1.25, 1.5):
        losses = (climb_.at(share * end) if share <= 1 else None, one.at(share * end))
        cells = ["" if loss is None else f"{loss:.4g}" for loss in losses]
        lines.append(f"| {share * end:.0f} | {cells[0]} | {cells[1]} |")
    when = one.reached(climb_.losses[-1])
    said = "not reached" if when is None else f"reached after {when:.0f} s"
    lines.append("")
    lines.append(
        f"The climb's last loss, {climb_.losses[-1]:.4g} after {end:.0f} s, is {said} at one level "
        f"({len(one.losses)} iterations, {one.seconds[-1]:.0f} s)."
    )
    return "\n".join(lines)


def drawn(climb_: Run, one: Run, path: Path) -> None:
    """Draw both curves."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for run in (climb_, one):
        axes.plot(run.seconds, run.losses, label=run.name)
    axes.axvspan(0, climb_.seconds[0], alpha=0.1)
    axes.annotate("the climb is at smaller sizes", (climb_.seconds[0] / 2, 0.93), ha="center",
        xycoords=("data", "axes fraction"), fontsize="small")  # fmt: skip
    axes.set(xlabel="seconds", ylabel="loss at the final size", yscale="log")
    axes.set_ylim(top=float(np.quantile(one.losses, 0.9)), bottom=0.8 * climb_.losses[-1])
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("content", type=Path, nargs="?", default=SAMPLES / "coffee.jpg")
    parser.add_argument("style", type=Path, nargs="?", default=SAMPLES / "night.jpg")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--iterations", type=int, default=200, help="(default %(default)s)")
    parser.add_argument("--to", type=Path, default=Path("build/climb"), metavar="FOLDER")
    arguments = parser.parse_args()
    folder: Path = arguments.to
    folder.mkdir(parents=True, exist_ok=True)
    options = Options(size=arguments.size, iterations=arguments.iterations)
    climb_ = climbed(arguments.content, arguments.style, options)
    one = at_one_level(arguments.content, arguments.style, options, climb_.seconds[-1])
    text = table(climb_, one)
    (folder / "climb.md").write_text(text + "\n")
    drawn(climb_, one, folder / "losses.png")
    for name, image in {**climb_.images, **one.images}.items():
        image.save(folder / f"{name}.png")
    print(text)


if __name__ == "__main__":
    main()
