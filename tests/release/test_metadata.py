"""What the release files say agrees: versions, URLs, the checks before a commit."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from documented import ROOT, text_of
from release.lowest import constraints

PROJECT = tomllib.loads(text_of("pyproject.toml"))["project"]


def test_the_citation_names_the_version_the_licence_and_the_repository_of_the_package() -> None:
    citation = text_of("CITATION.cff")
    for key, value in (
        ("version", PROJECT["version"]),
        ("license", PROJECT["license"]),
        ("repository-code", PROJECT["urls"]["Repository"]),
    ):
        assert f"\n{key}: {value}\n" in citation
    assert f"  - name: {PROJECT['authors'][0]['name']}\n" in citation


def test_the_changelog_has_a_section_for_this_version() -> None:
    assert f"## {PROJECT['version']} " in text_of("CHANGELOG.md")


def test_the_hooks_before_a_commit_run_what_make_lint_runs() -> None:
    (recipe,) = re.findall(r"^lint:.*\n((?:\t.+\n)+)", text_of("Makefile"), re.MULTILINE)
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()]
    hooks = re.findall(r"^        entry: (.+)$", text_of(".pre-commit-config.yaml"), re.MULTILINE)
    assert hooks == commands


def test_every_dependency_has_a_lowest_version_to_test_with() -> None:
    named = {re.split(r"[\[>=<]", each)[0] for each in PROJECT["dependencies"]}
    named |= {re.split(r"[\[>=<]", each)[0] for each in PROJECT["optional-dependencies"]["test"]}
    pinned = {each.split("==")[0] for each in constraints(PROJECT)}
    assert named - {"gramstyle"} <= pinned


@pytest.mark.release
def test_the_lowest_declared_versions_are_releases_that_install_together(tmp_path: Path) -> None:
    pins = tmp_path / "constraints.txt"
    pins.write_text("\n".join(constraints(PROJECT)), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed"]
    done = subprocess.run(
        [*pip, "--constraint", pins, f"{ROOT}[cpu,test]"],
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert done.returncode == 0, done.stderr
    assert "yanked" not in done.stderr
