from __future__ import annotations

from dataclasses import replace

import pytest

from accel.bench.account import cells, crossover_lines, document, headline
from accel.bench.compare import Question
from accel.engine import Operation, Suite
from tests.unit.accel.bench.test_compare import comparison, point

SEAL = Operation.AEAD_SEAL


def test_where_another_overtakes() -> None:
    found = comparison(point(4, a=10, b=20, memcpy=5), point(64, a=10, b=5, memcpy=5), lead=("a", "b"))
    assert crossover_lines(found) == ["fec.encode: b overtakes a at a batch of about 16 (measured at 4 and 64)"]


def test_a_leader_throughout() -> None:
    found = comparison(point(1, a=10, b=5, memcpy=1), point(8, a=10, b=6, memcpy=1))
    assert crossover_lines(found) == ["fec.encode: b leads at every batch size"]


def test_the_headline() -> None:
    found = comparison(point(1, a=10, b=5, memcpy=1), point(8, a=600, b=400, memcpy=100))
    assert headline(found) == (
        "fec.encode: b 30 GB/s at batch 8, 1.50x a (quartiles 0.50-2.00); memcpy of as many bytes takes 25% of the time"
    )


@pytest.mark.parametrize("fake", ["a", "b"])
def test_an_emulator_is_marked_and_never_in_the_headline(fake: str) -> None:
    found = comparison(point(8, a=600, b=400, memcpy=100), fake=fake)
    assert headline(found) == ""
    assert document(found)["headline"] == ""
    assert [each[1] for each in cells(found) if "emulator" in each[1]] == [f"{fake} (emulator)"]
    assert not any(f" {fake} leads" in line for line in crossover_lines(found))


def test_json_has_units_and_provenance() -> None:
    found = document(comparison(point(8, a=600, b=400, memcpy=100)))
    assert found["engines"][0] == {"engine": "a", "provenance": "cpu", "maturity": "untested"}  # type: ignore[index]
    assert found["batches"][0]["b"] == {  # type: ignore[index]
        "ns_per_row": {"median": 400, "q1": 400, "q3": 400},
        "gb_s": 30.0,
        "ratio": {"median": 1.5, "q1": 0.5, "q3": 2.0},
    }
    assert (found["k"], found["m"], found["size"]) == (10, 4, 1200)
    sealed = replace(comparison(point(8, a=1, b=1, memcpy=1)), question=Question(SEAL, [8], 1350))
    assert document(sealed)["suite"] == Suite.AES_128_GCM.value
