"""Open a page in the user's browser."""

import os
import sys
import webbrowser


def open_page(address: str) -> None:
    """Open a page, if there is a screen: a browser of the terminal would take the terminal."""
    screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if screen or sys.platform in ("darwin", "win32"):
        webbrowser.open(address)
