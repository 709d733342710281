"""For which batches each engine would be chosen, and by how much the others fall short, from figures that are given."""

from __future__ import annotations

import pytest

from accel.aead.cryptography import CryptographyAead
from accel.catalogue import Kind
from accel.engine import Operation, Provenance
from accel.fingerprint import fingerprint
from accel.planning import Goal
from accel.profile import Cell, Finding, Profile
from accel.ranges import Range, deciding, ranges
from accel.registry import Preferences, Registry
from tests.unit.accel.test_registry import BARE, catalogue, served

SEAL = Operation.AEAD_SEAL
GPU = served("cuda", CryptographyAead, Kind.AEAD, Provenance.SILICON)
BATCHES = (1, 64, 256, 512, 1024)
MOST = 512


def cell(engine: str, batch: int, wall: float, size: int = 1350) -> Cell:
    return Cell(engine, SEAL.value, f"{size} B", size, batch, wall, 2 * wall, 3 * wall, batch * size)


def told(gpu: dict[int, float], wish: str = "", goal: Goal = Goal.THROUGHPUT) -> dict[tuple[str, str], Range]:
    """Return ranges by engine and shape; ``simd`` takes 100 ns a row; cuda what is given, a batch of 1350 B."""
    cells = [cell("simd", batch, 100.0 * batch, size) for batch in BATCHES for size in (64, 576, 1350)]
    cells += [cell("cuda", batch, wall) for batch, wall in gpu.items()]
    passed = {SEAL.value: Finding(passed=True, reason="self-test passed")}
    profile = Profile(fingerprint(), 0.0, tuple(cells), {"cuda": passed})
    registry = Registry(BARE, catalogue(GPU), profile)
    survey = registry.survey(Preferences(aead=wish, goal=goal))
    found = ranges(survey, SEAL, cells, goal, lambda shape: MOST)
    return {(each.engine, each.shape): each for each in found}


def test_one_that_leads_from_a_batch_on() -> None:
    found = told({1: 1e6, 64: 1e5, 256: 2e4, 512: 2.1e4, 1024: 3e4})
    assert found["cuda", "1350 B"].spans == ((256, 512),)
    assert found["cuda", "1350 B"].verdict == "from 256 on"
    assert found["simd", "1350 B"].verdict == "up to 255"
    assert found["simd", "64 B"].verdict == "all"
    assert found["cuda", "1350 B"].document()["batches"] == [[256, 512]]


def test_one_that_leads_in_between() -> None:
    found = told({1: 1e6, 64: 1e3, 256: 1e9, 512: 1e9, 1024: 1e9})
    assert found["cuda", "1350 B"].verdict == "64 to 255"
    assert found["simd", "1350 B"].verdict == "up to 63, from 256 on"


def test_a_lead_that_only_batches_have_which_nobody_submits_is_never() -> None:
    found = told({1: 1e6, 64: 1e6, 256: 1e6, 512: 1e6, 1024: 1e4})["cuda", "1350 B"]
    assert found.spans == ()
    assert found.verdict == "never on this machine: from 1024 rows on, and a worker submits 512 at most"


@pytest.mark.parametrize(
    ("goal", "measure"),
    [(Goal.THROUGHPUT, "wall time"), (Goal.CPU, "CPU time"), (Goal.LATENCY, "99th percentile")],
)
def test_by_how_much_it_loses_where_it_comes_nearest(goal: Goal, measure: str) -> None:
    gpu = {1: 1e6, 64: 64_000.0, 256: 64_000.0, 512: 1e6, 1024: 1.1e5}
    found = told(gpu, goal=goal)["cuda", "1350 B"]
    assert found.verdict == f"never on this machine: at best 2.50 times the {measure} of simd, at 256"
    assert told({1: 1e6}, goal=goal)["cuda", "1350 B"].verdict.endswith(f"10000 times the {measure} of simd, at 1")


def test_one_within_the_margin() -> None:
    found = told({batch: 95.0 * batch for batch in BATCHES})["cuda", "1350 B"]
    assert found.verdict == "never on this machine: simd ranks higher, and is at most 5 % behind"


def test_one_that_somebody_else_was_preferred_to_by_name() -> None:
    found = told({batch: 1.0 for batch in BATCHES}, "simd")["cuda", "1350 B"]
    assert found.verdict == "never on this machine: simd is named in the configuration"


def test_one_of_which_nothing_was_measured() -> None:
    found = told({})["cuda", "1350 B"]
    assert found.verdict == "nothing was measured of it"
    assert "probe --deep" in found.next_step


def test_one_that_is_absent_says_what_it_needs() -> None:
    found = told({})
    assert found["opencl", ""].verdict.startswith("never on this machine: not found: OpenCL driver")
    assert "vantun[opencl]" in found["opencl", ""].next_step
    assert found["qat", ""].verdict.startswith("never on this machine: no engine in this version")
    assert found["reference", ""].verdict.endswith("when every other engine has failed")
    assert found["opencl", ""].document()["largest_batch"] is None


def test_every_shape_that_is_measured_decides() -> None:
    spans = ["(4,1) 256 B", "(10,4) 1200 B", "(32,8) 1200 B"]
    assert [str(shape) for shape in deciding(Operation.FEC_ENCODE)] == spans
    assert [str(shape) for shape in deciding(SEAL)] == ["64 B", "576 B", "1350 B"]
