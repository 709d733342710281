from __future__ import annotations

import pytest

from accel.calibration import PACKETS, SPANS
from accel.engine import Operation
from accel.planning import Goal, Pick, choose_for, names, plan, territories
from accel.preference import Preference, parse
from accel.profile import Cell

SEAL = Operation.AEAD_SEAL
KNOWN = ("simd", "cuda", "qat", "openssl")


def cell(engine: str, batch: int, wall: float, cpu: float = 0.0, p99: float = 0.0, size: int = 1350) -> Cell:
    return Cell(engine, SEAL.value, f"{size} B", size, batch, wall, cpu or wall, p99 or wall, batch * size)


def wishes(text: str) -> Preference:
    return parse(text, KNOWN, "accel.aead")


def pick(cells: list[Cell], text: str = "", batch: int = 64, goal: Goal = Goal.THROUGHPUT) -> Pick:
    return choose_for(KNOWN, wishes(text), cells, goal, batch)


def test_nothing_was_measured() -> None:
    assert pick([]) == Pick("simd", "first by rank; nothing was measured")


@pytest.mark.parametrize(
    ("other", "chosen", "reason"),
    [
        (870, "simd", "ranks higher, and within 15 % of cuda, which measured best for throughput"),
        (869, "cuda", "measured best for throughput"),
        (1001, "simd", "measured best for throughput"),
    ],
)
def test_the_margin(other: float, chosen: str, reason: str) -> None:
    found = pick([cell("simd", 64, 1000), cell("cuda", 64, other)])
    assert (found.engine, found.reason) == (chosen, reason)
    assert {each.engine for each in found.cells} == {"simd", "cuda"}


@pytest.mark.parametrize(("goal", "chosen"), [(Goal.THROUGHPUT, "simd"), (Goal.CPU, "qat"), (Goal.LATENCY, "openssl")])
def test_the_goal_names_the_column(goal: Goal, chosen: str) -> None:
    cells = [cell("simd", 64, 10, 90, 90), cell("qat", 64, 90, 10, 90), cell("openssl", 64, 90, 90, 10)]
    assert pick(cells, goal=goal).engine == chosen


def test_the_largest_measured_batch_that_is_not_larger_counts() -> None:
    cells = [cell("simd", 1, 10), cell("simd", 256, 10_000), cell("cuda", 1, 10_000), cell("cuda", 256, 100)]
    assert pick(cells, batch=255).engine == "simd"
    assert pick(cells, batch=256).engine == "cuda"
    assert pick(cells, batch=100_000).engine == "cuda"


@pytest.mark.parametrize(
    ("text", "ladder"),
    [
        ("", [(0, "simd"), (256, "cuda")]),
        ("openssl", [(0, "openssl")]),
        ("openssl, qat", [(0, "openssl")]),
        ("openssl, qat@100:", [(0, "openssl"), (100, "qat")]),
        ("qat@100:, openssl", [(0, "openssl"), (100, "qat")]),
        ("cuda@512:", [(0, "simd"), (512, "cuda")]),
        ("qat@2:, openssl@3", [(0, "simd"), (2, "qat"), (3, "openssl")]),
    ],
)
def test_wishes_and_pins(text: str, ladder: list[tuple[int, str]]) -> None:
    cells = [
        cell(engine, batch, wall, size=shape.size)
        for shape in PACKETS
        for engine, batch, wall in (("simd", 1, 10), ("simd", 256, 10_000), ("cuda", 1, 10_000), ("cuda", 256, 100))
    ]
    planned = plan(SEAL, KNOWN, wishes(text), cells, Goal.THROUGHPUT)
    assert list(planned) == [0]
    assert names(planned[0]) == ladder


def test_sizes_have_ladders_of_their_own() -> None:
    cells = [cell("simd", 1, 10, size=64), cell("cuda", 1, 20, size=64)]
    cells += [cell("simd", 1, 10, size=1350), cell("cuda", 1, 5, size=1350)]
    planned = plan(SEAL, KNOWN, Preference(), cells, Goal.THROUGHPUT)
    assert {size: names(ladder) for size, ladder in planned.items()} == {0: [(0, "simd")], 882: [(0, "cuda")]}


def test_the_nearest_shape_decides() -> None:
    assert [(begin, str(shape)) for begin, shape in territories(SEAL)] == [(0, "64 B"), (193, "576 B"), (882, "1350 B")]
    spans = territories(Operation.FEC_ENCODE)
    assert [str(shape) for _, shape in spans] == ["(4,1) 256 B", "(10,4) 1200 B", "(32,8) 1200 B"]
    assert spans[1][0] < 10 * 1200 < spans[2][0] < 32 * 1200
    assert spans[2][0] ** 2 >= 10 * 1200 * 32 * 1200  # as many times the one as it is below the other


def test_every_measured_shape_of_spans_decides() -> None:
    encode = Operation.FEC_ENCODE
    cells = [
        Cell(engine, encode.value, str(shape), shape.size, 64, wall, wall, wall, 64 * shape.octets)
        for shape in SPANS
        for engine, wall in (("simd", 100.0), ("cuda", 10.0 if shape.k == 32 else 1000.0))
    ]
    planned = plan(encode, KNOWN, Preference(), cells, Goal.THROUGHPUT)
    assert {weight: names(ladder) for weight, ladder in planned.items()} == {0: [(0, "simd")], 21467: [(0, "cuda")]}


def test_who_was_not_measured_does_not_take_the_place_of_who_was() -> None:
    assert pick([cell("openssl", 64, 10)]).reason == "the only one that was measured"
