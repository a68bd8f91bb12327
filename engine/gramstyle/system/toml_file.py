"""Read a TOML file that may come from anywhere: bounded, and every problem in one line."""

import re
import tomllib
from pathlib import Path
from typing import Any

from gramstyle.errors import GramstyleError

# Strings and comments of TOML, whose contents are not keys.
_TEXT = re.compile(
    r'"""(?:[^\\]|\\.)*?"""|' r"'''.*?'''|" r'"(?:[^"\\\n]|\\.)*"|' r"'[^'\n]*'|#[^\n]*", re.DOTALL
)
# The dots of a key with more parts than such a file has. tomllib's time grows with their square.
_DEEP_KEY = re.compile(r"(?:\.[ \t]*[\w-]+[ \t]*){8}")


def read_toml(path: Path, *, what: str, most_bytes: int, remedy: str) -> dict[str, Any]:
    """Read a TOML file.

    Parameters
    ----------
    path
        The file.
    what
        What the file should be, as messages call it: "a jobs file".
    most_bytes
        The largest size of the file in bytes.
    remedy
        What to do with a larger file.

    Raises
    ------
    GramstyleError
        If the file cannot be read, is too large or is not TOML; names the file.
    """
    try:
        if path.exists() and not path.is_file():
            raise GramstyleError(f"cannot read {path}: it is not a file; name a TOML file")
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise GramstyleError(f"cannot read {path}: {error.strerror}; check the path") from None
    except ValueError as error:  # a NUL in the name
        raise GramstyleError(f"cannot read {str(path)!r}: {error}; check the path") from None
    if len(data) > most_bytes:
        raise GramstyleError(f"{path} is larger than {most_bytes:,} bytes; {remedy}")
    try:
        text = data.decode("utf-8-sig")  # editors on Windows write a byte-order mark
    except UnicodeDecodeError:
        raise GramstyleError(
            f"{path} is not TOML: it is not text in UTF-8; save it in that encoding"
        ) from None
    if _DEEP_KEY.search(_TEXT.sub("s", text)):
        raise GramstyleError(
            f"{path} is not {what}: it has a key of more than eight parts; three are enough"
        )
    try:
        return tomllib.loads(text)
    except ValueError as error:
        problem = " ".join(str(error).split())[:200]
        raise GramstyleError(f"{path} is not TOML: {problem}") from None
    except RecursionError:
        raise GramstyleError(f"{path} is not {what}: it is nested too deeply") from None
