"""A file that is read in sips, for libraries that would read as much as the file tells them to."""

import io
import os

from gramstyle.errors import ModelError


class Sips(io.BufferedReader):
    """A file of which only a little is read at once.

    zipfile reads an archive's table of contents whole, so this bounds the table: a member takes
    46 bytes of it and its name's length, so there are fewer than 46,000.
    """

    LIMIT = 2 * 1024 * 1024

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as a file does, but refuse to read much."""
        if size is None or size < 0:
            size = os.fstat(self.fileno()).st_size - self.tell()
        if size > self.LIMIT:
            raise ModelError(
                f"expected an archive's table of contents of at most {self.LIMIT} bytes, found "
                "one that is larger"
            )
        return super().read(size)
