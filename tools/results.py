"""Compose the README's image: one row for each result, photograph, painting, result.

python tools/results.py -o results.jpg PHOTO PAINTING RESULT [PHOTO PAINTING RESULT ...]
"""

import argparse
from pathlib import Path

from PIL import Image, ImageOps

HEIGHT, GAP = 300, 8


def main() -> None:
    parser = argparse.ArgumentParser(description="Compose the README's image.")
    parser.add_argument("images", nargs="+", type=Path, metavar="PHOTO PAINTING RESULT")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    if len(arguments.images) % 3:
        parser.error("give three images for each row: photograph, painting, result")
    triples = [arguments.images[i : i + 3] for i in range(0, len(arguments.images), 3)]
    compose([row(triple) for triple in triples]).save(arguments.output, quality=85)
    print(f"wrote {arguments.output}")


def row(paths: list[Path]) -> Image.Image:
    """The three side by side; the photograph and the painting are small, above one another."""
    photograph, painting, result = (opened(path) for path in paths)
    result = at_height(result, 2 * HEIGHT + GAP)
    photograph, painting = at_height(photograph, HEIGHT), at_height(painting, HEIGHT)
    column = max(photograph.width, painting.width)
    sheet = Image.new("RGB", (column + GAP + result.width, result.height), "white")
    sheet.paste(photograph, ((column - photograph.width) // 2, 0))
    sheet.paste(painting, ((column - painting.width) // 2, HEIGHT + GAP))
    sheet.paste(result, (column + GAP, 0))
    return sheet


def compose(rows: list[Image.Image]) -> Image.Image:
    width = max(each.width for each in rows)
    height = sum(each.height for each in rows) + GAP * (len(rows) - 1)
    sheet, top = Image.new("RGB", (width, height), "white"), 0
    for each in rows:
        sheet.paste(each, (0, top))
        top += each.height + GAP
    return sheet


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def at_height(image: Image.Image, height: int) -> Image.Image:
    width = round(image.width * height / image.height)
    return image.resize((width, height), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
