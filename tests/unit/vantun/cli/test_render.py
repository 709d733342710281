from __future__ import annotations

import pytest

from vantun.cli import render


def test_numbers() -> None:
    assert render.number(1234567) == "1,234,567"
    assert render.number(1.25, 1) == "1.2"
    assert render.percent(0.0512) == "5.12 %"
    assert render.rate(100_000_000) == "100.0 Mbit/s"
    assert render.rate(12) == "12 bit/s"
    assert render.size(1_500_000) == "1.5 MB"
    assert render.seconds(2 * 86400 + 3661) == "2 d 01:01:01"


@pytest.mark.parametrize("write", [render.number, render.percent, render.rate, render.size, render.seconds])
@pytest.mark.parametrize("value", [None, "x", True, [], {}])
def test_what_is_no_number_is_a_dash(write: object, value: object) -> None:
    assert callable(write)
    assert write(value) == render.MISSING


def test_results_and_errors_go_to_different_places(capsys: pytest.CaptureFixture[str]) -> None:
    render.line("a [bold]result[/bold]")
    render.error("one\ntwo")
    render.warning("careful")
    shown = capsys.readouterr()
    assert shown.out == "a [bold]result[/bold]\n"
    assert shown.err == "error: one\nerror: two\nwarning: careful\n"


def test_tables_are_not_cut_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    render.show(render.table("Title", [f"column {n}" for n in range(10)], [["x" * 10] * 10]))
    shown = capsys.readouterr().out
    assert "column 9" in shown
    assert shown.count("x" * 10) == 10
