"""`gramstyle serve` as a process that can be killed and started again."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path


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
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gramstyle", "serve", "--port", port, "--threads", "1"),
                *("--data", str(self.data), "--model", str(self.model), *self.arguments),
            ],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **self.environment},
        )
        lines = []
        for line in self._process.stderr:
            lines.append(line)
            if found := re.search(r"serving on (http://\S+?);", line):
                self.address = found[1]
                return
        raise AssertionError(f"the server did not start: {''.join(lines)}")

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process.stderr.close()
            self._process = None
