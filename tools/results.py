"""Compose the README's image: one row for each result, with its content and style image.

python tools/results.py -o results.jpg CONTENT STYLE RESULT [CONTENT STYLE RESULT ...]
"""

import argparse
from pathlib import Path

from PIL import Image, ImageOps

HEIGHT, GAP = 300, 8


def main() -> None:
    parser = argparse.ArgumentParser(description="Compose the README's image.")
    parser.add_argument("images", nargs="+", type=Path, metavar="CONTENT STYLE RESULT")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    if len(arguments.images) % 3:
        parser.error("give three images for each row: content image, style image, result")
    triples = [arguments.images[i : i + 3] for i in range(0, len(arguments.images), 3)]
    stack([row(triple) for triple in triples]).save(arguments.output, quality=85)
    print(f"wrote {arguments.output}")


def row(paths: list[Path]) -> Image.Image:
    """Compose one row: the content image above the style image, and the result beside them."""
    content, style, result = (read(path) for path in paths)
    result = at_height(result, 2 * HEIGHT + GAP)
    content, style = at_height(content, HEIGHT), at_height(style, HEIGHT)
    column = max(content.width, style.width)
    sheet = Image.new("RGB", (column + GAP + result.width, result.height), "white")
    sheet.paste(content, ((column - content.width) // 2, 0))
    sheet.paste(style, ((column - style.width) // 2, HEIGHT + GAP))
    sheet.paste(result, (column + GAP, 0))
    return sheet


def stack(rows: list[Image.Image]) -> Image.Image:
    width = max(each.width for each in rows)
    height = sum(each.height for each in rows) + GAP * (len(rows) - 1)
    sheet, top = Image.new("RGB", (width, height), "white"), 0
    for each in rows:
        sheet.paste(each, (0, top))
        top += each.height + GAP
    return sheet


def read(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def at_height(image: Image.Image, height: int) -> Image.Image:
    width = round(image.width * height / image.height)
    return image.resize((width, height), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
