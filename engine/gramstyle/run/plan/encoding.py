"""How the result of a run is stored: its bits, and the profile and resolution of the content."""

import hashlib
from collections.abc import Callable

from gramstyle.images import Encoding, Original
from gramstyle.images.colour.managed import why_not_kept
from gramstyle.images.encoding import NO_PRINT_DATA
from gramstyle.run.options import Options


def encoding_of(
    content: Original | None, name: str, options: Options, notify: Callable[[str], None] | None
) -> Encoding:
    """Return how a file stores the result, by the options and the content image.

    Parameters
    ----------
    content, name
        The content image, if there is one, and what messages call it.
    notify
        Called with one sentence if the image has no profile that the result can keep.
    """
    stated = NO_PRINT_DATA if content is None else content.print_data
    profile, dpi = stated.profile, stated.dpi
    if options.profile == "srgb":
        return Encoding(options.depth, None, dpi)
    problem = why_not_kept(profile)
    if not problem:
        return Encoding(options.depth, profile, dpi)
    if notify is not None:
        reason = "there is no content image" if content is None else f"{name} {problem}"
        notify(f"{reason}; the result is sRGB.")
    return Encoding(options.depth, None, dpi)


def profile_hash(encoding: Encoding) -> str:
    """Return the SHA-256 of the profile that a result keeps; empty if it is sRGB."""
    return "" if encoding.profile is None else hashlib.sha256(encoding.profile).hexdigest()
