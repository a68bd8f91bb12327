"""Text from a file or a server, made safe for a message of one line."""

MAX_LENGTH, MAX_QUOTED = 300, 80


def printable(text: str) -> str:
    """Return the text's first 300 characters, with "?" for each that cannot be printed."""
    return "".join(c if c.isprintable() else "?" for c in text[:MAX_LENGTH])


def with_remedy(reason: str, remedy: str) -> str:
    """Return the reason for a refusal with what to do, unless it says so already."""
    return reason if "; " in reason else f"{reason}; {remedy}"


def quoted(text: str) -> str:
    """Return the text in quotes, escaped and cut to 80 characters."""
    literal = repr(text[:MAX_QUOTED])
    # Escape sequences are longer than the characters they stand for.
    return literal if len(literal) <= MAX_QUOTED else literal[:MAX_QUOTED] + "…"
