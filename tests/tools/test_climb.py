"""What tools.climb says of two runs."""

from tools.climb import Run, table


def falling(name: str, seconds: list[float], losses: list[float]) -> Run:
    return Run(name, seconds, losses)


def test_a_loss_is_reached_when_it_is_first_at_or_below_it() -> None:
    run = falling("one level", [1.0, 2.0, 3.0], [9.0, 5.0, 5.0])
    assert run.reached(5.0) == 2.0
    assert run.reached(4.9) is None
    assert run.at(0.5) is None
    assert run.at(2.9) == 5.0


def test_the_table_compares_at_shares_of_the_climbs_time() -> None:
    climb = falling("coarse to fine", [80.0, 100.0], [20.0, 10.0])
    one = falling("one level", [10.0, 50.0, 100.0, 140.0], [90.0, 40.0, 15.0, 9.0])
    lines = table(climb, one).splitlines()
    assert "| 50 |  | 40 |" in lines
    assert "| 90 | 20 | 15 |" not in lines
    assert "| 90 | 20 | 40 |" in lines
    assert "| 100 | 10 | 15 |" in lines
    assert "| 150 |  | 9 |" in lines
    assert "10 after 100 s, is reached after 140 s at one level (4 iterations, 140 s)" in lines[-1]
