"""Short campaigns of `python -m tools.torture.service`, which docs/reliability.md describes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from documented import ROOT


def campaign(output: Path, *arguments: object) -> dict[str, Any]:
    """Run campaigns, and return their results by name; there must be no findings."""
    command = [sys.executable, "-m", "tools.torture.service", "--output", str(output)]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads((output / "service.json").read_text()))
