from __future__ import annotations

from dataclasses import replace

import pytest

from accel.bench.contest import Spread
from benchmarks.engines_rows import MISSED, NOT_MEASURED, REACHED, Judgement, Requirement, Row, judge, markdown


def at(value: float) -> Spread:
    return Spread(value, value * 0.9, value * 1.1)


RATIO = Row("encode-l2", "(10,4)", target=1.15, against="isal-2.32")


@pytest.mark.parametrize(("value", "verdict"), [(1.15, REACHED), (1.149, MISSED), (7.0, REACHED)])
def test_of_a_ratio_more_is_better(value: float, verdict: str) -> None:
    assert replace(RATIO, measured=at(value)).verdict == verdict


@pytest.mark.parametrize(("value", "verdict"), [(0.6, REACHED), (0.61, MISSED), (0.1, REACHED)])
def test_of_a_cost_less_is_better(value: float, verdict: str) -> None:
    assert Row("batch-1", "seal", unit="us", target=0.6, measured=at(value)).verdict == verdict


def test_without_a_figure_or_a_target() -> None:
    assert RATIO.verdict == NOT_MEASURED
    assert Row("avx2", "x", measured=at(1)).verdict == ""


DEMAND = Requirement("encode-l2", "RS encode", mean=1.25)


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([1.2, 1.4], REACHED),
        ([1.2, 1.2], MISSED),  # the mean
        ([1.1, 2.0], MISSED),  # one of them
        ([1.2, None], NOT_MEASURED),
        ([1.1, None], MISSED),  # certain already
        ([], NOT_MEASURED),
    ],
)
def test_a_mean_and_a_least_are_both_demanded(values: list[float | None], verdict: str) -> None:
    rows = tuple(replace(RATIO, measured=None if value is None else at(value)) for value in values)
    judged = Judgement(DEMAND, rows)
    assert judged.verdict == verdict
    assert (judged.mean is None) == (None in values or not values)


def test_what_nobody_demanded_is_not_judged() -> None:
    assert Judgement(Requirement("fec-masked", "others"), (Row("fec-masked", "x", measured=at(1)),)).verdict == ""


def test_every_requirement_of_an_area_is_judged() -> None:
    judged = judge(["cost"], [])
    assert [each.requirement.name for each in judged] == ["batch-1", "registry", "process"]
    with pytest.raises(ValueError, match="of no requirement: decode"):
        judge(["cost"], [Row("decode", "(10,4)")])


def test_markdown_says_what_was_missed_and_what_is_missing() -> None:
    rows = [
        replace(RATIO, measured=at(1.3), rates={"simd": 48.0, "isal-2.32": 37.0, "other": 1.0}, rate_unit="GB/s"),
        replace(RATIO, case="(20,6)", measured=at(1.0)),
        Row("decode", "(10,4)", target=6.0, against="isal-2.32", reason="name it by --isal PATH"),
        Row("fec-masked", "(10,4)", engine="simd-sse", reason="nobody asked"),
    ]
    text = markdown(judge(["fec"], rows))
    assert "| mean 1.25x, 1.15x | mean 1.14x, (10,4) 1.30x, (20,6) 1.00x | **missed** |" in text
    assert "| 6.00x | name it by --isal PATH | not measured |" in text
    assert "simd 48, isal-2.32 37 GB/s" in text
    assert "nobody asked" not in text
    assert all(line.count("|") in (5, 8) for line in text.splitlines() if line)


def test_json_has_every_figure() -> None:
    row = replace(RATIO, measured=at(1.3), rates={"other": 1.23456})
    assert row.document()["rates"] == {"other": 1.235}
    found = Judgement(DEMAND, (row,)).document()
    assert (found["mean"], found["mean_target"], found["verdict"]) == (1.3, 1.25, REACHED)
