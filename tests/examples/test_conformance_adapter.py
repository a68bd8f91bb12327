"""examples/conformance_adapter.py passes every case in the float types that it computes in."""

import pytest

import conformance_adapter
from gramstyle.conformance import cases
from gramstyle.conformance.running import run


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_example_passes_every_case_with_the_derivative_by_every_layer(dtype: str) -> None:
    report = run(conformance_adapter.value_and_grad, cases(), dtype=dtype)
    assert [(result.case, result.problem, result.where) for result in report.failed] == []
    for case, result in zip(cases(), report.results, strict=True):
        compared = {each.quantity for each in result.comparisons}
        assert {f"dF of {name}" for name in case.network.names} <= compared
