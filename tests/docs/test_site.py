"""The site: its navigation, and the links from names to source lines."""

import importlib.util
import re
from types import ModuleType

import pytest

from documented import ROOT, Row, rows_of, text_of


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    """docs/hooks/source_pages.py as a module."""
    pytest.importorskip("mkdocs", reason="make docs installs it")
    path = ROOT / "docs" / "hooks" / "source_pages.py"
    spec = importlib.util.spec_from_file_location("source_pages", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_navigation_names_every_page_and_only_pages_that_exist() -> None:
    named = re.findall(r"^ +- [^#\n]+: (\S+\.md)$", text_of("mkdocs.yml"), re.MULTILINE)
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    outside = re.findall(r'^    "\S+": "(\S+\.md)",$', text_of("docs/hooks/source_pages.py"), re.M)
    assert outside
    assert sorted(named) == sorted([*pages, *outside])


@pytest.mark.parametrize("row", rows_of(text_of("docs/equations.md")), ids=lambda row: row.what)
def test_every_name_in_the_equation_table_is_located_at_its_definition(
    hook: ModuleType, row: Row
) -> None:
    for name in (*row.functions, *row.tests):
        path, line = hook.locate(name)
        last = re.split(r"[.:]", name)[-1]
        text = path.read_text(encoding="utf-8").splitlines()[line - 1]
        assert re.match(rf"\s*(def|class) {last}\b", text)


def test_a_name_that_a_package_exports_is_located_where_it_is_defined(hook: ModuleType) -> None:
    path, _ = hook.locate("gradcheck.check_vjp")
    assert path.name == "checks.py"
    assert hook.locate("gramstyle.check_vjp") == hook.locate("gradcheck.check_vjp")


def test_names_that_do_not_exist_and_other_words_are_left_alone(hook: ModuleType) -> None:
    for name in ("core.losses.nothing", "nothing.at_all", "core/test_losses.py::test_nothing"):
        assert hook.locate(name) is None
