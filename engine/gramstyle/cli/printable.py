"""Text for a terminal, whatever it is made of."""


def printable(text: str) -> str:
    """Return one line without control codes: a file's name may hold anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
