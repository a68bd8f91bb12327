"""Repeat a texture two by two, as the gallery shows it.

python -m tools.mosaic TEXTURE -o MOSAIC
"""

import argparse
from pathlib import Path

from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser(description="Repeat a texture two by two.")
    parser.add_argument("texture", type=Path, metavar="TEXTURE")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="MOSAIC")
    arguments = parser.parse_args()
    with Image.open(arguments.texture) as texture:
        mosaic(texture.convert("RGB")).save(arguments.output, quality=85)
    print(f"wrote {arguments.output}")


def mosaic(texture: Image.Image) -> Image.Image:
    """Return four copies of an image, two by two."""
    width, height = texture.size
    sheet = Image.new("RGB", (2 * width, 2 * height))
    for left in (0, width):
        for top in (0, height):
            sheet.paste(texture, (left, top))
    return sheet


if __name__ == "__main__":
    main()
