"""Options from several places: given ones over those of a recipe, a preset and the defaults."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

# What an option says as well as another one. If it is given, values of these others that come from
# a recipe or a preset do not apply: --alpha replaces the content_strength of a preset.
_REPLACES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "alpha": ("content_strength",),
        "content_strength": ("alpha",),
        "content_layer": ("content_layers", "content_weights"),
        "content_layers": ("content_layer", "content_weights"),
        "style_layers": ("style_weights",),
        "style_scale": ("style_size",),
        "style_size": ("style_scale",),
    }
)


def combined(*places: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of options from several places, of which a later one takes precedence.

    Parameters
    ----------
    *places
        Values by the names of options. A value takes precedence even if it is the default.

    Examples
    --------
    >>> from gramstyle.run.options.precedence import combined
    >>> combined({"size": 256, "content_strength": 2.0}, {"alpha": 0.001})
    {'size': 256, 'alpha': 0.001}
    """
    values: dict[str, Any] = {}
    for place in places:
        replaced = {other for name in place for other in _REPLACES.get(name, ())}
        values = {name: value for name, value in values.items() if name not in replaced}
        values |= place
    return values
