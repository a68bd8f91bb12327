"""The presets: looks by name, each a few values of options.

A value of a preset replaces a default. An option that is given takes precedence over a preset.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from gramstyle.errors import OptionError, suggestion
from gramstyle.run.options import Options
from gramstyle.run.options.coercion import shown
from gramstyle.run.options.precedence import combined


@dataclass(frozen=True)
class Preset:
    """A look by name.

    Attributes
    ----------
    name
        Its name.
    description
        What it does, in one line.
    values
        The values of its options by their names. They never choose the machine.

    Examples
    --------
    >>> from gramstyle.run.presets import PRESETS
    >>> PRESETS["fast"].values["size"]
    256
    """

    name: str
    description: str
    values: Mapping[str, Any]


def _preset(name: str, description: str, **values: Any) -> tuple[str, Preset]:
    return name, Preset(name, description, MappingProxyType(values))


PRESETS: Mapping[str, Preset] = MappingProxyType(
    dict(
        (
            _preset(
                "faithful",
                "keeps the forms and the details of the photograph, in small strokes",
                content_strength=2.0,
                scales=1,
            ),
            _preset(
                "painterly",
                "broad strokes that simplify the photograph",
                content_strength=0.25,
                style_scale=(1.5,),
            ),
            _preset(
                "subtle",
                "a photograph with some of the painting's strokes and colours",
                content_strength=16.0,
                scales=1,
                iterations=40,
            ),
            _preset(
                "texture",
                "the fine texture of the painting, without its large forms",
                style_layers=("conv1_1", "conv2_1", "conv3_1"),
            ),
            _preset(
                "fast",
                "a small preview in a short time",
                size=256,
                iterations=50,
            ),
            _preset(
                "fine",
                "more pixels, more details and more iterations, for a result to print",
                content_strength=2.0,
                size=1024,
                iterations=150,
            ),
        )
    )
)


def preset(name: str, **given: Any) -> Options:
    """Return the options of a preset, with other options in addition.

    Parameters
    ----------
    name
        The name of the preset; `gramstyle presets` lists them.
    **given
        Options by name. They take precedence over the preset, also where they are the defaults.

    Raises
    ------
    OptionError
        If there is no such preset, or an option is unknown or has a wrong value.

    Examples
    --------
    >>> from gramstyle import preset
    >>> options = preset("fast", size=512)
    >>> options.size, options.iterations
    (512, 50)
    >>> preset("fist")
    Traceback (most recent call last):
        ...
    gramstyle.errors.OptionError: there is no preset 'fist'; did you mean fast?
    """
    return Options(**combined(preset_values(name), given))


def preset_values(name: object) -> Mapping[str, Any]:
    """Return the values of a preset's options; raises OptionError if there is no such preset."""
    found = PRESETS.get(name.strip().casefold()) if isinstance(name, str) else None
    if found is None:
        known = f"; the presets are {', '.join(PRESETS)}"
        remedy = suggestion(name, PRESETS) if isinstance(name, str) else ""
        raise OptionError(f"there is no preset {shown(name)}{remedy or known}")
    return found.values
