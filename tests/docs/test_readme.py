"""README.md: short enough, and true where a program can check it."""

import importlib
import re

from documented import text_of

README = text_of("README.md")
FIRST_SENTENCE = (
    "gramstyle renders a photograph in the style of a painting, following Gatys, Ecker and Bethge "
    "(2015), with hand-derived gradients and no deep-learning framework."
)


def test_it_is_read_in_a_minute_and_begins_with_what_gramstyle_is() -> None:
    assert len(README.splitlines()) <= 120
    title, first, *_ = README.split("\n\n")
    assert title == "# gramstyle"
    assert " ".join(first.split()) == FIRST_SENTENCE


def test_its_figures_stand_in_the_table_of_the_performance_page() -> None:
    performance = text_of("docs/performance.md")
    rows = re.findall(r"^\| (\d+×\d+) \| (.+) \|$", README, re.MULTILINE)
    assert rows
    for size, cells in rows:
        winograd, pytorch, memory = cells.split(" | ")
        peaks = re.findall(r"[\d.]+", memory)
        for contender, seconds, peak in (
            ("winograd", winograd, peaks[0]),
            ("PyTorch eager", pytorch, peaks[1]),
        ):
            # The newest table is the first one.
            line = re.findall(rf"^\| {size} \| {contender} \|.+$", performance, re.MULTILINE)[0]
            found = [cell.strip() for cell in line.strip("|").split("|")]
            assert found[2].split()[0] == f"{float(seconds.removesuffix(' s')):.3g}"
            assert found[6] == peak


def test_its_python_compiles_and_imports_names_that_exist() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        compile(block, "README.md", "exec")
        for line in re.findall(r"^from gramstyle import (.+)$", block, re.MULTILINE):
            for name in line.split(", "):
                assert hasattr(importlib.import_module("gramstyle"), name)
