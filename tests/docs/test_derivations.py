"""docs/derivations.md against the code."""

import contextlib
import io
import re

import numpy as np
import pytest

from documented import (
    Row,
    Section,
    assert_function_exists,
    assert_test_exists,
    named_functions,
    named_tests,
    rows_of,
    sections_of,
    text_of,
)
from gramstyle.core.network import Convolution, Network, Pool
from gramstyle.model.architecture import VGGS

PAGE = text_of("docs/derivations.md")
SECTIONS = sections_of(PAGE)
ROWS = rows_of(text_of("docs/equations.md"))

STYLE = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")

# The last two lines of a section.
ENDING = re.compile(r"^- Function: (?P<functions>.+)\n- Test: (?P<tests>.+)\s*\Z", re.MULTILINE)


def section(title: str) -> Section:
    (found,) = (each for each in SECTIONS if each.title == title)
    return found


def table(text: str, first: str, last: str) -> list[list[str]]:
    """The rows of the table whose header starts and ends with these cells."""
    (rows,) = re.findall(
        rf"^\| {re.escape(first)} \|(?:.*\|)? {re.escape(last)} \|\n\|[-|:]+\|\n((?:\|.*\|\n)+)",
        text,
        re.MULTILINE,
    )
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows.splitlines()]


def number(cell: str) -> int:
    return int(cell.replace(",", ""))


@pytest.fixture(scope="module")
def vgg19() -> Network:
    """VGG-19's shapes up to conv5_1 with average pooling, all weights one zero in memory."""
    layers: list[Convolution | Pool] = []
    for block, place, shape in VGGS["VGG-19"].convolutions():
        W = np.broadcast_to(np.float32(0), shape)
        layers.append(Convolution(f"conv{block}_{place}", W, W[:, 0, 0, 0]))
        if place == len(VGGS["VGG-19"].blocks[block - 1]):
            layers.append(Pool(f"pool{block}", "avg"))
    return Network(tuple(layers)).until(STYLE)


# Names on the page


@pytest.mark.parametrize("at", SECTIONS, ids=lambda at: at.title)
def test_every_section_ends_with_its_functions_and_tests_and_every_name_in_it_exists(
    at: Section,
) -> None:
    ending = ENDING.search(at.text)
    assert ending, "no '- Function: …' and '- Test: …' at the end"
    for line, found in (
        (ending["functions"], named_functions(ending["functions"])),
        (ending["tests"], named_tests(ending["tests"])),
    ):
        assert line == ", ".join(f"`{name}`" for name in found)
    for name in named_functions(at.text):
        assert_function_exists(name)
    for name in named_tests(at.text):
        assert_test_exists(name)


@pytest.mark.parametrize("equation", range(1, 8))
def test_every_equation_of_the_paper_has_a_section(equation: int) -> None:
    titles = [at.title for at in SECTIONS if re.search(rf"equations? .*\b{equation}\b", at.title)]
    assert len(titles) == 1
    # The formula itself, with its number beside it.
    assert f"\\qquad ({equation})" in section(titles[0]).text


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_each_row_of_the_equation_table_links_to_the_section_with_its_functions_and_tests(
    row: Row,
) -> None:
    anchors = {re.sub(r"[^\w ]", "", at.title.lower()).replace(" ", "-"): at for at in SECTIONS}
    text = anchors[row.derivation].text
    assert set(row.functions) <= set(named_functions(text))
    assert set(row.tests) <= set(named_tests(text))


# Counts and measurements on the page


def test_the_table_of_operations_is_the_code_s_own_count(vgg19: Network) -> None:
    text = section("How many operations").text
    *rows, total = table(text, "layer", "operations")
    shapes, operations = vgg19.shapes(512, 512), vgg19.operations(512, 512)
    below = dict(zip(vgg19.names, (3, *(shape[0] for shape in shapes.values())), strict=False))
    expected = [
        [name, str(below[name]), str(N), f"{H}×{V}", f"{operations[name]:,}"]
        for name, (N, H, V) in shapes.items()
    ]
    assert rows == expected
    assert number(total[-1]) == sum(operations.values())


def test_the_table_of_gram_products_is_counted_from_the_layers_shapes(vgg19: Network) -> None:
    text = section("How many operations").text
    *rows, total = table(text, "layer", "equation 6")
    assert tuple(row[0] for row in rows) == STYLE
    counts = []
    for name, *cells in rows:
        N, H, V = vgg19.shapes(512, 512)[name]
        M = H * V
        # Entries of G, of its upper triangle, and of dF, times the length of each one's sum.
        counts.append([2 * M * N**2, 2 * M * len(np.triu_indices(N)[0]), 2 * N * (N * M)])
        assert [number(cell) for cell in cells] == [N, M, *counts[-1]]
    sums = [sum(column) for column in zip(*counts, strict=True)]
    assert [number(cell) for cell in total[-3:]] == sums
    every = sum(vgg19.operations(512, 512).values())
    symmetric, equation_6 = (f"{100 * count / every:.1f}" for count in sums[1:])
    assert f"equation 6 are {equation_6} per cent" in text
    assert f"by symmetry {symmetric}." in text


def test_the_central_differences_on_the_page_have_the_errors_that_it_prints() -> None:
    text = section("How each derivative is checked").text
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "docs/derivations.md", "exec"), {})  # noqa: S102 - our own page's code
    found = [line.split() for line in printed.getvalue().splitlines()]
    said = table(text, "step $h$", "relative error")
    steps = [re.fullmatch(r"\$10\^\{-(\d)\}\$", step) for step, _ in said]
    assert [f"1e-0{step[1]}" for step in steps if step] == [step for step, _ in found]
    # The first five are the term in h²; the last three are rounding, which differs by processor.
    assert [error for _, error in said[:5]] == [error for _, error in found[:5]]
    assert max(float(error) for _, error in found[5:]) < 1e-6


# Formulas on the page


FORMULAS = re.findall(
    r"\$\$(.+?)\$\$|\$([^$\n]+)\$", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL), re.DOTALL
)


def test_no_formula_contains_characters_that_markdown_would_change() -> None:
    assert len(FORMULAS) > 300
    for block, inline in FORMULAS:
        formula = block or inline
        # An escape (\, \{ \\) loses its backslash; * and _ between signs become emphasis; <
        # opens a tag; ]( is a link; | ends a cell of a table.
        assert not re.search(r"\\[^A-Za-z]|[*<|]|\]\(|(?<![A-Za-z0-9])_", formula), formula
        # GitHub takes inline mathematics only where the dollars touch it.
        assert not inline or inline == inline.strip(), formula
