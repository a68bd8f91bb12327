"""Print pip constraints that pin every dependency to the lowest version that pyproject declares.

python tests/release/lowest.py pyproject.toml > constraints.txt
"""

import re
import sys
import tomllib
from pathlib import Path

LOWEST = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?>=([0-9.]+)")


def constraints(project: dict) -> list[str]:
    """Return `name==version` for every requirement of the project with a lowest version."""
    extras = project["optional-dependencies"].values()
    requirements = [*project["dependencies"], *(each for extra in extras for each in extra)]
    lowest = [found for each in requirements if (found := LOWEST.match(each))]
    return sorted({f"{found[1]}=={found[2]}" for found in lowest})


if __name__ == "__main__":
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    sys.stdout.writelines(f"{each}\n" for each in constraints(tomllib.loads(text)["project"]))
