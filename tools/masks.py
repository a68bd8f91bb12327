"""Draw the masks and label maps of the sample images, from a few ellipses.

python tools/masks.py docs/samples
"""

import sys
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

Plane = NDArray[np.float64]

COFFEE, CHELSEA, NIGHT = (600, 400), (451, 300), (768, 614)  # width and height in pixels
RED, BLUE = (255, 0, 0), (0, 0, 255)


def ellipse(
    size: tuple[int, int], centre: tuple[float, float], radii: tuple[float, float], edge: float
) -> Plane:
    """Return an ellipse from 0 to 1, whose edge is so many pixels wide."""
    y, x = np.mgrid[: size[1], : size[0]]
    apart = np.hypot((x - centre[0]) / radii[0], (y - centre[1]) / radii[1])
    mask: Plane = np.clip((1 - apart) * min(radii) / edge + 0.5, 0, 1)
    return mask


def cup(edge: float) -> Plane:
    """Return the mask of the cup and its saucer in coffee.jpg."""
    saucer = ellipse(COFFEE, (279, 232), (204, 158), edge)
    mask: Plane = np.maximum(saucer, ellipse(COFFEE, (297, 138), (132, 128), edge))
    return mask


def grey(mask: Plane) -> PIL.Image.Image:
    return PIL.Image.fromarray(np.rint(255 * mask).astype(np.uint8))


def labels(inside: NDArray[np.bool_]) -> PIL.Image.Image:
    """Return a label map: red inside, blue outside."""
    pixels = np.where(inside[..., np.newaxis], RED, BLUE).astype(np.uint8)
    return PIL.Image.fromarray(pixels).quantize(2)


def main(folder: Path) -> None:
    soft = cup(edge=24)
    night = np.zeros(NIGHT[::-1], bool)
    night[:340] = True  # the sky
    images = {
        "coffee-cup": grey(soft),
        "coffee-table": grey(1 - soft),
        "coffee-labels": labels(cup(edge=1) > 0.5),
        "night-labels": labels(night),
        "chelsea-face": grey(ellipse(CHELSEA, (235, 138), (140, 118), edge=40)),
    }
    for name, image in images.items():
        image.save(folder / f"{name}.png", optimize=True)
        print(folder / f"{name}.png")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("name the folder: python tools/masks.py docs/samples")
    main(Path(sys.argv[1]))
