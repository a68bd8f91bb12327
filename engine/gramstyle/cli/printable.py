"""Untrusted text for a terminal."""


def printable(text: str) -> str:
    """Return text as one line without control codes, which a file name may contain."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
