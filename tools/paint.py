"""Paint an image in oils, stroke by stroke, from a seed.

    python tools/paint.py --theme night --seed 7 -o night.jpg

The package `tools.painting` does the work.
"""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

import numpy as np

if not __package__:  # run as a file, not as `python -m tools.paint`
    sys.path.insert(0, str(Path(__file__).parents[1]))

from tools.painting.fields import Frame
from tools.painting.scenes import THEMES, paint

SMALLEST, LARGEST = 16, 4096  # pixels per side


class Parser(argparse.ArgumentParser):
    """Reports an error in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def pixels(text: str) -> int:
    if not (text.isdecimal() and SMALLEST <= int(text) <= LARGEST):
        raise argparse.ArgumentTypeError(f"{text} is not from {SMALLEST} to {LARGEST} pixels")
    return int(text)


def seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 0")
    return int(text)


def image_file(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise argparse.ArgumentTypeError(f"{path} does not end in .png or .jpg")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{path.parent} is not a folder")
    return path


def main() -> None:
    parser = Parser(prog="paint", description="Paint an image in oils, from a seed.")
    parser.add_argument("-o", "--output", type=image_file, required=True, metavar="FILE")
    parser.add_argument("--theme", choices=sorted(THEMES), default="night")
    parser.add_argument("--seed", type=seed, default=7)
    parser.add_argument("--width", type=pixels, default=768)
    parser.add_argument("--height", type=pixels, default=614)
    options = parser.parse_args()
    frame = Frame(options.width, options.height, np.random.default_rng(options.seed))
    image = paint(frame, options.theme)
    try:
        image.save(options.output, quality=92)
    except OSError as error:
        parser.error(f"cannot write {options.output}: {error.strerror}")
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
