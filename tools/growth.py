"""Measure how time and memory grow with the image, and how they fall with threads.

    python -m tools.growth                                the sizes below, with 1 and 2 threads
    python -m tools.growth 512x512 4096x3072 --threads 2

Each measurement runs in a process of its own, as `tools.large` makes them: images of up to WHOLE
pixels are computed whole, larger ones in tiles within a memory budget. The slope is that of the
line through the logarithms of the pixels and of the seconds: 1 where they grow in proportion.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from tools.large import measure_in_process

from gramstyle.cli.arguments import size_in_bytes

SIZES = ("256x256", "512x512", "1024x1024", "2048x2048", "4096x3072", "6000x4000")

# Images of more pixels are computed in tiles.
WHOLE = 5 * 10**6


def pixels(size: str) -> int:
    width, height = (int(edge) for edge in size.split("x"))
    return width * height


def measured(size: str, threads: int, memory: int) -> dict[str, Any]:
    """Measure one size; small images are evaluated more often."""
    large = pixels(size) > WHOLE
    iterations = 1 if large else 4
    return measure_in_process(size, memory if large else None, iterations, threads=threads)


def slope(sizes: Sequence[str], values: Sequence[float]) -> float:
    x, y = np.log([pixels(size) for size in sizes]), np.log(values)
    return float(np.polyfit(x, y, 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", nargs="*", default=SIZES, metavar="WIDTHxHEIGHT")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1], metavar="N")
    parser.add_argument("--memory", type=size_in_bytes, default=6 * 10**9, help="(default 6GB)")
    arguments = parser.parse_args()
    print("| size | megapixels | threads | tile | s/evaluation | s/megapixel | peak, GB |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for threads in arguments.threads:
        rows = []
        for size in arguments.sizes:
            row = measured(size, threads, arguments.memory)
            rows.append(row)
            millions = pixels(size) / 1e6
            print(
                f"| {size} | {millions:.2f} | {threads} | {row['tile'] or 'whole'} | "
                f"{row['seconds']:.2f} | {row['seconds'] / millions:.2f} | {row['peak']:.2f} |",
                flush=True,
            )
        if len(rows) > 1:
            seconds = slope(arguments.sizes, [row["seconds"] for row in rows])
            print(f"slope of the seconds with {threads} threads: {seconds:.2f}", flush=True)


if __name__ == "__main__":
    main()
