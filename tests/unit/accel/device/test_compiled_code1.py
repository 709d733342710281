"""Kernels with rows compiled in: what they compute, which spans they get, and that they serve only where they pay."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from accel.device import choice
from accel.device.compiled_code1 import RowKernel, compiled_text, plane_masks
from accel.device.engine import DeviceEngine
from accel.device.port import Lane
from accel.device.strips import Shape, common_shapes, shape_of_spans
from accel.engine import EngineSession, Maturity, Operation, Provenance, SpanJob, Status
from accel.fec.simd import SimdFec
from accel.gf256 import multiply
from accel.selftest import self_test
from accel.serving import Serving
from accel.trials import SpanRow, difference, run, span_job
from drivers.errors import DriverError, UnavailableError
from drivers.lanes import Batch, Room
from tests.host_device import Fault, HostDevice
from tests.spans_of_reference import encoded

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler: apt-get install g++")

COLUMNS = 12
ROWS_COMPILED = ("code1_rows_0_4", "code1_rows_0_8", "code1_rows_0_16", "code1_rows_16_16")
ALL = frozenset(Operation)
ROOM = Room(source=1 << 18, target=1 << 18, work=1 << 14, scratch=1 << 16)
SMALL = Room(source=8192, target=8192, work=1024, scratch=7168)


def seconds(general: float, compiled: float) -> choice.Measure:
    """Return what says that batches take so many seconds, by the kernels that they launch."""

    def measure(lane: Lane, batch: Batch) -> float:
        assert lane.done()
        rows = any("_rows_" in launch.kernel for launch in batch.launches if launch.items)
        return compiled if rows else general

    return measure


class Bench:
    """An engine, and the devices that it has opened."""

    def __init__(self, *defines: str, shapes: Sequence[Shape] | None = None, room: Room = ROOM, lanes: int = 2) -> None:
        self.defines = defines
        self.devices: list[HostDevice] = []
        self.fault = Fault.NONE
        self.engine = DeviceEngine(
            "host", ALL, self._open, Provenance.SILICON, Maturity.UNTESTED, room=room, lanes=lanes
        )
        self.engine.shapes = common_shapes(COLUMNS) if shapes is None else shapes
        self.engine.measure = seconds(2.0, 1.0)

    def _open(self, text: str, kernels: Sequence[str]) -> HostDevice:
        device = HostDevice(text, kernels, *self.defines, polls=0)
        device.fault = self.fault
        self.devices.append(device)
        return device

    def open(self) -> EngineSession:
        session = self.engine.open(Operation.FEC_ENCODE)
        self.devices[-1].launched.clear()
        return session


def spans(count: int, seed: int, *, most_k: int = COLUMNS + 2) -> SpanJob:
    """Return spans of which most, but not all, are for compiled kernels, with every tail."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        k, m = int(generator.integers(1, most_k + 1)), int(generator.integers(0, 36))
        first = 0 if generator.random() < 0.8 else int(generator.integers(0, 100))
        matrix_rows = list(range(first, first + m))
        if generator.random() < 0.1:
            generator.shuffle(matrix_rows)
        column = int(generator.choice([0, 0, 0, 0, 128, 5]))
        length = 1 + number % 70
        rows.append(SpanRow(tuple(generator.bytes(length) for _ in range(k)), column, tuple(matrix_rows)))
    return span_job(rows)


def test_planes_of_a_product() -> None:
    for coefficient in range(256):
        masks = plane_masks(coefficient)
        for value in (1, 2, 0x80, 0xFF, 0x5A, coefficient):
            planes = sum(((value & mask).bit_count() & 1) << plane for plane, mask in enumerate(masks))
            assert planes == multiply(coefficient, value)


@pytest.mark.parametrize("defines", [(), ("REVERSED",)], ids=["forwards", "backwards"])
@pytest.mark.parametrize("seed", range(2))
def test_parity_is_that_of_the_reference(defines: tuple[str, ...], seed: int) -> None:
    bench = Bench(*defines)
    session = bench.open()
    job = spans(150, seed)
    expected = encoded(job)
    run(bench.engine, session, job)
    assert difference(job, expected) == ""
    launched = bench.devices[0].launched
    assert all(launched[name] for name in (*ROWS_COMPILED, "code1_combine"))


@pytest.mark.soak
@pytest.mark.parametrize("defines", [(), ("REVERSED",)], ids=["forwards", "backwards"])
def test_every_column_is_that_of_the_reference(defines: tuple[str, ...]) -> None:
    bench = Bench(*defines, shapes=common_shapes())
    session = bench.open()
    job = spans(400, 7, most_k=128)
    expected = encoded(job)
    run(bench.engine, session, job)
    assert difference(job, expected) == ""


def test_parts_of_a_job_that_is_larger_than_a_lane() -> None:
    bench = Bench(room=SMALL, shapes=common_shapes(COLUMNS)[:1])
    bench.engine.shapes = [Shape(2, 3, bench.engine.shapes[0].kernels)]  # of which a lane has room for one
    bench.engine.measure = seconds(2.0, 1.0)
    session = bench.open()
    job = spans(60, 3)
    expected = encoded(job)
    run(bench.engine, session, job)
    assert difference(job, expected) == ""
    assert bench.devices[0].launched["code1_rows_0_4"] > 1


def test_who_gets_a_span() -> None:
    shapes = common_shapes(COLUMNS)
    cases = {
        (1, 1, 0): 0, (12, 4, 0): 0, (12, 5, 0): 1, (12, 8, 128): 1, (12, 9, 0): 2, (12, 16, 0): 2, (12, 17, 0): 3,
        (12, 32, 0): 3, (12, 33, 0): -1, (13, 4, 0): -1, (12, 4, 1): -1, (3, 0, 0): -1,
    }  # fmt: skip
    job = span_job([SpanRow((b"x",) * k, column, tuple(range(m))) for k, m, column in cases])
    everything = np.arange(len(cases))
    assert shape_of_spans(job, everything, shapes)[0].tolist() == list(cases.values())
    assert shape_of_spans(job, everything, shapes[1:])[0].tolist()[:3] == [0, 0, 0]
    assert shape_of_spans(job, everything, ())[0].tolist() == [-1] * len(cases)
    for rows in ((1,), (0, 2), (1, 0), (0, 0)):
        job = span_job([SpanRow((b"x",), 0, rows), SpanRow((b"x",), 0, (0,))])
        assert shape_of_spans(job, np.arange(2), shapes)[0].tolist() == [-1, 0]


@pytest.mark.parametrize(("general", "compiled", "serves"), [(2.0, 1.0, True), (1.0, 2.0, False), (1.0, 1.0, False)])
def test_the_faster_one_serves(general: float, compiled: float, *, serves: bool) -> None:
    bench = Bench(shapes=common_shapes(COLUMNS)[:1])
    bench.engine.measure = seconds(general, compiled)
    session = bench.open()
    (chosen,) = bench.engine.choices
    assert (chosen.general, chosen.compiled, not chosen.reason) == (general, compiled, serves)
    assert f"(10, 4): {'compiled' if serves else 'general'} (general {1e6 * general:.1f} us" in str(chosen)
    job = span_job([SpanRow((b"0123456789abcdef",) * 5, 0, (0, 1))])
    run(bench.engine, session, job)
    assert bool(bench.devices[0].launched["code1_rows_0_4"]) is serves


def test_one_slow_turn_decides_nothing_and_the_ways_take_turns() -> None:
    general, compiled = iter([2.0, 2.0, 9.0, 2.0, 2.1]), iter([1.0, 9.0, 1.0, 1.1, 1.0])
    order = []

    def measure(lane: Lane, batch: Batch) -> float:
        rows = any("_rows_" in launch.kernel for launch in batch.launches)
        order.append("c" if rows else "g")
        assert batch.source == batch.target == 0  # copies are no part of it
        return next(compiled if rows else general)

    bench = Bench(shapes=common_shapes(COLUMNS)[:1])
    bench.engine.measure = measure
    bench.open()
    (chosen,) = bench.engine.choices
    assert (chosen.general, chosen.compiled, chosen.reason) == (2.0, 1.0, "")
    assert "".join(order) == "gccggccggc"


def test_a_device_without_a_clock_is_timed_by_the_host() -> None:
    bench = Bench(shapes=common_shapes(COLUMNS)[:1])
    bench.engine.measure = choice.device_seconds
    bench.open()
    (chosen,) = bench.engine.choices
    assert chosen.general > 0
    assert chosen.compiled > 0
    assert chosen.reason in ("", choice.SLOWER)


def test_what_does_not_compile_leaves_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(device: HostDevice, text: str, kernels: Sequence[str]) -> None:
        if "code1_rows_0_8" in kernels:
            raise DriverError(f"VANTUN-FAKE device: {kernels[0]} does not compile; report it\nline 1: ...")
        original(device, text, kernels)

    original = HostDevice.add
    monkeypatch.setattr(HostDevice, "add", refuse)
    bench = Bench()
    session = bench.open()
    reasons = [each.reason for each in bench.engine.choices]
    assert reasons[0] == ""
    assert reasons[1] == "VANTUN-FAKE device: code1_rows_0_8 does not compile; report it"
    assert "(12, 8): general (VANTUN-FAKE device: code1_rows_0_8 does not" in str(bench.engine.choices[1])
    assert reasons[2:] == ["", ""]
    job = spans(20, 5)
    expected = encoded(job)
    run(bench.engine, session, job)
    assert difference(job, expected) == ""


def test_what_computes_something_else_does_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(kernel: RowKernel) -> str:
        return compiled_text(kernel._replace(first=1)).replace("code1_rows_1_", f"code1_rows_{kernel.first}_")

    monkeypatch.setattr(choice, "compiled_text", shifted)
    bench = Bench(shapes=common_shapes(COLUMNS)[:1])
    bench.open()
    assert bench.engine.choices[0].reason == "code1_rows_0_4: results differ"


def test_what_is_known_of_a_device_is_not_measured_again() -> None:
    bench = Bench()
    bench.open()
    bench.engine.measure = lambda lane, batch: pytest.fail("measured again")
    slower = [each._replace(reason=choice.SLOWER) for each in bench.engine.choices[2:]]
    bench.engine.choices = (*bench.engine.choices[:2], *slower)
    known = bench.engine.choices
    session = bench.open()
    assert bench.engine.choices == known
    job = span_job([SpanRow((b"0123456789abcdef",) * 5, 0, tuple(range(m))) for m in (2, 6, 12)])
    expected = encoded(job)
    run(bench.engine, session, job)
    assert difference(job, expected) == ""
    launched = bench.devices[1].launched
    assert launched["code1_rows_0_4"] == launched["code1_rows_0_8"] == launched["code1_combine"] == 1
    assert not launched["code1_rows_0_16"]


def test_a_lane_without_room_for_a_trial_tries_nothing() -> None:
    bench = Bench(room=SMALL, shapes=common_shapes(COLUMNS)[:1])
    session = bench.open()
    assert bench.engine.choices[0].reason == "a lane has no room for it"
    job = span_job([SpanRow((b"x" * 9,), 0, (0,))])
    run(bench.engine, session, job)
    assert job.status.tolist() == [Status.DONE]


def test_a_device_that_fails_in_a_trial_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(device: HostDevice, text: str, kernels: Sequence[str]) -> None:
        original(device, text, kernels)
        if "code1_rows_0_4" in kernels:
            device.fault = Fault.LAUNCH

    original = HostDevice.add
    monkeypatch.setattr(HostDevice, "add", fail)
    bench = Bench()
    with pytest.raises(DriverError, match="a launch failed"):
        bench.open()
    assert bench.devices[0].closed


def test_the_self_test_and_the_status_say_what_was_chosen() -> None:
    bench = Bench(shapes=common_shapes(COLUMNS)[:1])
    verdict = self_test(bench.engine, Operation.FEC_ENCODE)
    told = "(10, 4): compiled (general 2000000.0 us, compiled 1000000.0 us for 18 spans)"
    assert verdict.passed
    assert verdict.reason.endswith(f"; {told}")
    serving = Serving(bench.engine, bench.open(), [SimdFec()], clock=time.perf_counter_ns, seed=1)
    rungs = serving.report()["rungs"]
    assert isinstance(rungs, list)
    assert [rung["kernels"] for rung in rungs] == [[told], []]


def test_what_is_decoded_or_encrypted_tries_nothing() -> None:
    bench = Bench()
    bench.engine.open(Operation.FEC_DECODE)
    bench.engine.open(Operation.AEAD_SEAL)
    assert bench.engine.choices == ()


def _pocl() -> Iterator[DeviceEngine]:
    pytest.importorskip("pyopencl", reason="pyopencl: pip install 'vantun[opencl]'")
    from accel.device.opencl import opencl_engine
    from drivers.opencl.find import choose_device

    try:
        choose_device(emulated=True)
    except UnavailableError as error:
        pytest.skip(f"PoCL: {error}")
    yield opencl_engine(ALL, emulated=True)


def test_parity_on_pocl() -> None:
    (engine,) = _pocl()
    engine.measure = seconds(2.0, 1.0)
    session = engine.open(Operation.FEC_ENCODE)
    assert [each.reason for each in engine.choices] == [choice.SLOWER, choice.SLOWER, ""]
    for seed in range(3):
        job = spans(200, seed)
        expected = encoded(job)
        run(engine, session, job, patience=60)
        assert difference(job, expected) == ""
    session.close()


def test_a_trial_on_pocl_is_timed_by_the_device() -> None:
    (engine,) = _pocl()
    engine.open(Operation.FEC_ENCODE).close()
    assert [each.way for each in engine.choices] == ["Horner", "Horner", "compiled"]
    for chosen in engine.choices:
        assert chosen.general > 0
        assert chosen.compiled > 0
        assert chosen.reason in ("", "slower here")
