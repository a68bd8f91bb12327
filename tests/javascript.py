"""Run JavaScript with Node.js: JSON in, JSON out."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from workers import PATIENCE


def evaluate(folder: Path, program: str, given: Any = None) -> Any:
    """Return what a program in a folder assigns to `result`; `given` is its input."""
    text = (
        'import { readFileSync } from "node:fs";\n'
        'const given = JSON.parse(readFileSync(0, "utf8"));\n'
        f"let result;\n{program}\nprocess.stdout.write(JSON.stringify(result));\n"
    )
    path = folder / "program.mjs"
    path.write_text(text, encoding="utf-8")
    command = (shutil.which("node") or "node", str(path))
    done = subprocess.run(
        command, input=json.dumps(given), capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
