"""The name of a job's image, from the pattern in the jobs file."""

import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gramstyle.batch.job import located
from gramstyle.batch.looks import KEYS
from gramstyle.errors import OptionError
from gramstyle.run.options import STARTS, Options
from gramstyle.run.options.masks import MASK_OPTIONS
from gramstyle.run.options.values import FROM_FILES, check_known, shown


def output_name(
    pattern: str,
    content: Path,
    styles: Sequence[Path],
    options: Options,
    table: Mapping[str, Any],
) -> str:
    """Return the pattern with its placeholders filled in.

    The placeholders are {content} and {style}, the images' names without folder and extension, with
    a + between several style images; {folder}, the name of the content image's folder; {preset}
    and {recipe}, where the job's table has them; and every option that has a value.
    """
    images = {
        "content": content.stem,
        "folder": content.parent.name,
        "style": "+".join(style.stem for style in styles),
    }
    with located(f"output {shown(pattern)}"):
        try:
            pieces = list(string.Formatter().parse(pattern))
        except ValueError as error:
            raise OptionError(f"{error}; write {{{{ for a brace") from None
        name = ""
        for text, place, form, conversion in pieces:
            name += text
            if place is None:
                continue
            if form or conversion:
                raise OptionError(f"write {{{place}}} without a conversion or a format")
            check_known([place], (*images, *KEYS, *FROM_FILES))
            value = table.get(place) if place in KEYS else getattr(options, place, None)
            name += images[place] if place in images else _text(place, value)
    return name


def _text(name: str, value: Any) -> str:
    if value is None:
        raise OptionError(f"the job has no {name} for {{{name}}}; add a line {name} = ...")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "-".join(_text(name, item) for item in value)
    if isinstance(value, float):
        return f"{value:.15g}"
    is_path = name in ("recipe", *MASK_OPTIONS) or (name == "init" and value not in STARTS)
    return Path(value).stem if is_path else str(value)
