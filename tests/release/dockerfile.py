"""Read a Dockerfile, and follow its steps in a folder, without a container engine.

Absolute paths of the image become paths below the folder. All stages share it, so that copies from
another stage find their files in place.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from documented import ROOT

_PLACES = re.compile(r"(?<![\w.}/])(?=/(?:opt|run|src|tmp|var)(?:/|\b))")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True)
class Step:
    """One instruction, such as RUN, and what follows it."""

    word: str
    text: str

    @property
    def words(self) -> list[str]:
        """The arguments of the JSON form, of HEALTHCHECK CMD too, or those of the plain form."""
        text = re.sub(r"^(?:--\S+\s+)*CMD\s+", "", self.text)
        return json.loads(text) if text.startswith("[") else shlex.split(text)


def steps_of(text: str) -> list[Step]:
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", "", lines)
    return [Step(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


@dataclass
class Folder:
    """A folder in the place of an image."""

    path: Path
    environment: dict[str, str] = field(default_factory=dict)
    _cwd: Path = field(init=False)

    def __post_init__(self) -> None:
        (self.path / "python").mkdir()
        (self.path / "tmp").mkdir()
        (self.path / "python" / "python").symlink_to(sys.executable)

    def placed(self, text: str) -> str:
        """Return a text whose absolute paths are below the folder."""
        return _PLACES.sub(str(self.path), text)

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a program as the image would."""
        return subprocess.run(
            [self.placed(word) for word in words],
            cwd=self._cwd,
            env=self.environment,
            text=True,
            capture_output=True,
            timeout=3600,
        )

    def follow(self, steps: list[Step]) -> None:
        for step in steps:
            getattr(self, f"_{step.word.lower()}", lambda _: None)(step)

    def _from(self, _: Step) -> None:
        """Begin a stage: what pip needs to reach its index is all that it takes from outside."""
        self._cwd = self.path
        outside = {n: v for n, v in os.environ.items() if n.startswith(("PIP_", "SSL_", "HTTP"))}
        path = f"{self.path / 'python'}:/usr/local/bin:/usr/bin:/bin"
        self.environment = {**outside, "PATH": path}

    def _arg(self, step: Step) -> None:
        name, _, value = step.text.partition("=")
        self.environment[name] = value

    def _env(self, step: Step) -> None:
        known = self.environment
        for each in step.words:
            name, _, value = each.partition("=")
            value = _VARIABLE.sub(lambda found: known[found[1] or found[2]], value)
            known[name] = self.placed(value)

    def _workdir(self, step: Step) -> None:
        self._cwd = Path(self.placed(step.text))
        self._cwd.mkdir(parents=True)

    def _copy(self, step: Step) -> None:
        *sources, target = (word for word in step.words if not word.startswith("--"))
        if step.text.startswith("--from"):
            assert sources == [target], step.text
            assert Path(self.placed(target)).exists(), step.text
            return
        for source in sources:
            there, here = ROOT / source, self._cwd / target
            if there.is_dir():
                shutil.copytree(there, here, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(there, here)

    def _run(self, step: Step) -> None:
        command = step.text
        if os.geteuid() != 0:
            command = re.sub(r" -[og] \d+", "", command)
        done = self.run(["sh", "-c", command])
        assert done.returncode == 0, f"{step.text}\n{done.stdout}{done.stderr}"
