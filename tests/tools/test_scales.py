"""tools/scales: how it compares two runs."""

from tools.scales import Run, table


def test_a_loss_is_reached_when_the_run_is_first_at_or_below_it() -> None:
    run = Run("one scale", [1.0, 2.0, 3.0], [9.0, 5.0, 5.0])
    assert run.reached(5.0) == 2.0
    assert run.reached(4.9) is None
    assert run.loss_at(0.5) is None
    assert run.loss_at(2.9) == 5.0


def test_the_table_compares_at_fractions_of_the_multi_scale_runs_time() -> None:
    several = Run("several scales", [80.0, 100.0], [20.0, 10.0])
    one = Run("one scale", [10.0, 50.0, 100.0, 140.0], [90.0, 40.0, 15.0, 9.0])
    lines = table(several, one).splitlines()
    assert "| 50 |  | 40 |" in lines
    assert "| 90 | 20 | 15 |" not in lines
    assert "| 90 | 20 | 40 |" in lines
    assert "| 100 | 10 | 15 |" in lines
    assert "| 150 |  | 9 |" in lines
    assert "ends with the loss 10 after 100 s." in lines[-1]
    assert "at one scale (4 iterations, 140 s) reaches it after 140 s." in lines[-1]
