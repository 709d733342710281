"""Code 1 by Horner's rule: what it computes, which spans it gets, and that it serves only where it is faster."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import numpy as np
import pytest

from accel.device.engine import DeviceEngine
from accel.device.port import Lane
from accel.device.program import HORNER, KERNELS
from accel.device.strips import BY_HORNER, Shape, by_horner, common_shapes
from accel.engine import Maturity, Operation, Provenance, SpanJob
from accel.trials import SpanRow, difference, run, span_job
from drivers.lanes import Batch, Room
from tests.host_device import HostDevice
from tests.spans_of_reference import decoded, encoded

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler: apt-get install g++")

ROOM = Room(source=1 << 20, target=1 << 20, work=1 << 16, scratch=1 << 20)
COMPILED = Shape(4, 4, common_shapes(4)[0].kernels, horner=True)


class Bench:
    """An engine whose kernels take as long as it is said, and the devices that it has opened."""

    def __init__(self, *defines: str, shapes: Sequence[Shape] = BY_HORNER, **seconds: float) -> None:
        self.defines = defines
        self.seconds = {"masks": 2.0, "horner": 1.0, "compiled": 3.0, **seconds}
        self.devices: list[HostDevice] = []
        everything = frozenset(Operation)
        self.engine = DeviceEngine(
            "host", everything, self._open, Provenance.SILICON, Maturity.UNTESTED, room=ROOM, lanes=1
        )
        self.engine.shapes = shapes
        self.engine.measure = self._measure

    def _open(self, text: str, kernels: Sequence[str]) -> HostDevice:
        self.devices.append(HostDevice(text, kernels, *self.defines, polls=0))
        return self.devices[-1]

    def _measure(self, lane: Lane, batch: Batch) -> float:
        assert lane.done()
        names = {launch.kernel for launch in batch.launches if launch.items}
        kind = "compiled" if any("_rows_" in name for name in names) else "masks"
        return self.seconds["horner" if names & set(KERNELS[HORNER]) else kind]

    def launched(self, job: SpanJob) -> set[str]:
        """Return the kernels that encode a job, which comes out right."""
        session = self.engine.open(Operation.FEC_ENCODE)
        self.devices[-1].launched.clear()
        wanted = encoded(job)
        run(self.engine, session, job)
        assert difference(job, wanted) == ""
        return set(self.devices[-1].launched)


def spans(count: int, seed: int, most_k: int, most_m: int) -> SpanJob:
    """Return spans of any shape and tail, with rows and columns from anywhere."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        k, m = int(generator.integers(1, most_k + 1)), int(generator.integers(0, most_m + 1))
        length, column = 1 + number % 70, int(generator.integers(0, 129 - k))
        parity = tuple(int(row) for row in generator.permutation(127)[:m])
        rows.append(SpanRow(tuple(generator.bytes(length) for _ in range(k)), column, parity))
    return span_job(rows)


@pytest.mark.parametrize("defines", [(), ("REVERSED",), ("BYTE_PERMUTE",)], ids=["forwards", "backwards", "permute"])
@pytest.mark.parametrize(("most_k", "most_m"), [(12, 7), (128, 40)])
def test_parity_is_that_of_the_reference(defines: tuple[str, ...], most_k: int, most_m: int) -> None:
    assert set(KERNELS[HORNER]) == Bench(*defines).launched(spans(80, most_k, most_k, most_m))


@pytest.mark.parametrize(("k", "m", "length"), [(1, 1, 1), (1, 127, 16), (128, 127, 17), (128, 1, 1500), (4, 5, 48)])
def test_shapes_at_the_edges(k: int, m: int, length: int) -> None:
    generator = np.random.default_rng(k)
    rows = [SpanRow(tuple(generator.bytes(length) for _ in range(k)), 0, tuple(range(m))) for _ in range(3)]
    assert set(KERNELS[HORNER]) == Bench().launched(span_job(rows))


@pytest.mark.parametrize("seed", range(3))
def test_fresh_patterns_are_rebuilt(seed: int) -> None:
    generator = np.random.default_rng(seed)
    bench = Bench()
    session = bench.engine.open(Operation.FEC_DECODE)
    bench.devices[0].launched.clear()
    rows = []
    for number in range(60):
        k = int(generator.integers(1, 33))
        m = int(generator.integers(0, min(k, 9) + 1))
        lost = tuple(int(place) for place in generator.permutation(k)[:m])
        parity = tuple(int(row) for row in generator.permutation(127)[:m])
        rows.append(SpanRow(tuple(generator.bytes(1 + number) for _ in range(k)), 0, parity, lost))
    job = span_job(rows)
    wanted = decoded(job)
    run(bench.engine, session, job)
    assert difference(job, wanted) == ""
    assert set(bench.devices[0].launched) == set(KERNELS[HORNER])


def test_it_serves_batches_with_as_many_rows_as_it_was_faster_for() -> None:
    few, many = (span_job([SpanRow((b"x",) * 20, 0, tuple(range(m)))] * 2) for m in (4, 20))
    everything = np.arange(2)
    for shapes, wanted in ((BY_HORNER, (True, True)), (BY_HORNER[1:], (False, True)), ((COMPILED,), (False, False))):
        assert tuple(by_horner(job, everything, shapes) for job in (few, many)) == wanted


@pytest.mark.parametrize(
    ("masks", "horner", "compiled", "serves"),
    [(2.0, 1.0, 3.0, "code1_horner"), (1.0, 2.0, 3.0, "code1_combine"), (3.0, 1.0, 2.0, "code1_horner"),
     (3.0, 2.0, 1.0, "code1_rows_0_4"), (2.0, 3.0, 1.0, "code1_rows_0_4")],
)  # fmt: skip
def test_the_fastest_of_three_serves(masks: float, horner: float, compiled: float, serves: str) -> None:
    bench = Bench(shapes=(*BY_HORNER, COMPILED), masks=masks, horner=horner, compiled=compiled)
    assert serves in bench.launched(span_job([SpanRow((b"0123456789abcdef",) * 4, 0, (0, 1))]))
    first, _, last = bench.engine.choices
    assert (first.general, first.compiled, last.general, last.compiled) == (
        masks, horner, min(masks, horner), compiled,
    )  # fmt: skip
    assert str(first).startswith(f"(10, 4): {'Horner' if horner < masks else 'general'} (general ")


@pytest.mark.parametrize(("horner", "serves"), [(1.0, "code1_horner"), (3.0, "code1_combine")])
def test_repair_is_tried_by_itself(horner: float, serves: str) -> None:
    """Of the kernels with compiled-in rows none can do it; what was found out for parity stays."""
    bench = Bench(shapes=(*BY_HORNER, COMPILED))
    bench.engine.open(Operation.FEC_ENCODE)
    parity = bench.engine.choices
    bench.seconds["horner"] = horner
    for _ in range(2):
        session = bench.engine.open(Operation.FEC_DECODE)
        assert bench.engine.choices[:3] == parity
        assert [(each.repair, each.compiled) for each in bench.engine.choices[3:]] == [(True, horner)] * 2
        job = span_job([SpanRow((b"0123456789abcdef",) * 4, 0, (0, 1), (3, 0))])
        wanted = decoded(job)
        bench.devices[-1].launched.clear()
        run(bench.engine, session, job)
        assert difference(job, wanted) == ""
        assert bench.devices[-1].launched[serves]
    assert str(bench.engine.choices[3]).startswith(f"repair of (10, 4): {'Horner' if horner < 2 else 'general'} (")
