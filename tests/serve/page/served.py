"""`gramstyle serve` as a process that can be killed and started again."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from workers import PATIENCE, until


@dataclass
class Server:
    data: Path
    model: Path
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    address: str = ""
    _process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        port = self.address.rpartition(":")[2] or "0"
        said = self.data.with_suffix(".txt")
        with said.open("w") as stderr:
            self._process = process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "gramstyle", "serve", "--port", port),
                    *("--threads", "1", "--data", str(self.data), "--model", str(self.model)),
                    *self.arguments,
                ],
                stderr=stderr,
                env={**os.environ, **self.environment},
            )
        try:
            until(lambda: "serving on" in said.read_text() or process.poll() is not None)
            found = re.search(r"serving on (http://\S+?);", said.read_text())
            assert found, f"the server did not start: {said.read_text()}"
        except BaseException:
            self.kill()
            raise
        self.address = found[1]

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(PATIENCE)
            finally:
                self._process.kill()
            self._process = None
