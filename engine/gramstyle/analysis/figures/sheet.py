"""Lay images out on a white sheet: rows of equal height, headings above, labels on the left."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import PIL.Image
from PIL import ImageDraw, ImageFont

from gramstyle.images.colour.srgb import opaque

# As fractions of the height of a cell.
_TEXT, _GAP = 0.085, 0.03
_SMALLEST_TEXT = 11.0

# The superscript in labels like 10^-5.
_POWER = re.compile(r"\^(-?\d+)")


@dataclass(frozen=True)
class Row:
    """One row of a sheet: a label on the left, and images with a heading above each."""

    label: str
    images: Sequence[PIL.Image.Image]
    headings: Sequence[str]


def compose(rows: Sequence[Row], *, title: str = "") -> PIL.Image.Image:
    """Return a sheet of rows of images.

    Parameters
    ----------
    rows
        Every image is scaled to the height of the highest first image of a row; a column is as
        wide as its widest image. In texts, ``10^-5`` has a raised exponent. Headings take no
        space in a row where all are empty, and labels none if all rows lack them.
    title
        A line above everything.

    Returns
    -------
    PIL.Image.Image
        Mode RGB, with a white background.
    """
    height = max(row.images[0].height for row in rows)
    scaled = [[_at_height(image, height) for image in row.images] for row in rows]
    columns = max(len(images) for images in scaled)
    widths = [max(images[c].width for images in scaled if c < len(images)) for c in range(columns)]
    size, gap = max(_SMALLEST_TEXT, _TEXT * height), max(4, round(_GAP * height))
    line = round(1.5 * size)
    margin = max(round(_Text(row.label, size).width) for row in rows)
    left = margin + 2 * gap if margin else gap

    top = gap + (line if title else 0)
    tops = []
    for row in rows:
        top += line if any(row.headings) else 0
        tops.append(top)
        top += height + gap
    sheet = PIL.Image.new("RGB", (left + sum(widths) + gap * columns, top), "white")
    draw = ImageDraw.Draw(sheet)
    if title:
        text = _Text(title, size)
        text.draw(draw, (left + (sheet.width - left - text.width) / 2, gap))
    for row, images, y in zip(rows, scaled, tops, strict=True):
        label = _Text(row.label, size)
        label.draw(draw, (gap + margin - label.width, y + (height - size) / 2))
        x = left
        for image, heading, width in zip(images, row.headings, widths, strict=False):
            text = _Text(heading, size)
            text.draw(draw, (x + (width - text.width) / 2, y - line + 0.1 * size))
            sheet.paste(image, (x + (width - image.width) // 2, y))
            x += width + gap
    return sheet


def with_inset(image: PIL.Image.Image, inset: PIL.Image.Image) -> PIL.Image.Image:
    """Return an image with a small one in its lower left corner, as in figure 2."""
    result = opaque(image)
    small = _at_height(inset, max(1, round(image.height * 0.3)))
    if small.width > image.width // 2:
        half = image.width // 2
        small = small.resize((half, max(1, round(small.height * half / small.width))))
    line = max(1, image.height // 128)
    framed = PIL.Image.new("RGB", (small.width + line, small.height + line), "white")
    framed.paste(small, (0, line))
    result.paste(framed, (0, result.height - framed.height))
    return result


def _at_height(image: PIL.Image.Image, height: int) -> PIL.Image.Image:
    image = opaque(image)
    if image.height == height:
        return image
    width = max(1, round(image.width * height / image.height))
    return image.resize((width, height), PIL.Image.Resampling.LANCZOS)


class _Text:
    """A line of text with raised exponents, whose width is known before it is drawn."""

    def __init__(self, text: str, size: float) -> None:
        parts = _POWER.split(text)  # plain, exponent, plain, …
        base, raised = ImageFont.load_default(size), ImageFont.load_default(0.7 * size)
        self._rise = 0.3 * size
        self._runs = [
            (part, raised if i % 2 else base, bool(i % 2)) for i, part in enumerate(parts)
        ]
        self.width = sum(font.getlength(part) for part, font, _ in self._runs)

    def draw(self, draw: ImageDraw.ImageDraw, at: tuple[float, float]) -> None:
        """Draw the text with its upper left corner at a point."""
        x, y = at
        for part, font, is_raised in self._runs:
            draw.text((x, y - self._rise if is_raised else y), part, fill="black", font=font)
            x += font.getlength(part)
