"""docs/equations.md: each equation of the paper with its function and its test."""

import re

import pytest

from documented import Row, assert_function_exists, assert_test_exists, rows_of, text_of

ROWS = rows_of(text_of("docs/equations.md"))


@pytest.mark.parametrize("number", range(1, 8))
def test_every_equation_of_the_paper_has_a_row(number: int) -> None:
    assert any(re.search(rf"\b{number}\b", row.what) for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_every_function_and_test_in_the_table_exists(row: Row) -> None:
    assert row.functions
    assert row.tests
    for name in row.functions:
        assert_function_exists(name)
    for name in row.tests:
        assert_test_exists(name)
