"""Device engines over a stand-in: what the kernels compute, jobs in parts, keys, and whatever a driver may do."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence

import numpy as np
import pytest

from accel.aead.simd import SimdAead
from accel.catalogue import Kind
from accel.device.engine import ROOM, DeviceEngine
from accel.device.program import AEAD, FEC, KERNELS, program
from accel.engine import EngineSession, Job, KeySpec, Maturity, Operation, Provenance, SpanJob, Status, Suite
from accel.fec.simd import SimdFec
from accel.reference.engine import ReferenceEngine
from accel.selftest import all_cases, self_test
from accel.serving import Serving
from accel.trials import SealRow, SpanRow, copy_job, difference, packet, run, seal_job, span_job
from drivers.errors import DriverError
from drivers.lanes import Room
from tests.host_device import Fault, HostDevice, host_engine
from tests.rearming import rearm

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler: apt-get install g++")

SMALL = {
    Kind.FEC: Room(source=8192, target=8192, work=512, scratch=7168),
    Kind.AEAD: Room(source=2048, target=2048, work=512, scratch=7168),
}
"""Holds each span and packet of the self-test, but few of them."""
KEY = KeySpec(Suite.AES_128_GCM, bytes(range(16)), bytes(12), bytes(range(16, 32)))


class Bench:
    """An engine, and the devices that it has opened."""

    def __init__(self, *, room: Room = ROOM, lanes: int = 2, polls: int = 1) -> None:
        self.devices: list[HostDevice] = []
        self.polls = polls
        self.fault = Fault.NONE
        operations = frozenset(Operation)
        self.engine = DeviceEngine(
            "host", operations, self._open, Provenance.SILICON, Maturity.UNTESTED, room=room, lanes=lanes
        )

    def _open(self, text: str, kernels: Sequence[str]) -> HostDevice:
        device = HostDevice(text, kernels, polls=self.polls)
        device.fault = self.fault
        self.devices.append(device)
        return device


def spans(count: int, k: int = 5, m: int = 2, length: int = 100) -> SpanJob:
    generator = np.random.default_rng(count)
    rows = [SpanRow(tuple(generator.bytes(length) for _ in range(k)), 3, tuple(range(m))) for _ in range(count)]
    return span_job(rows)


def packets(count: int, slot: int = 0, length: int = 300) -> Job:
    return seal_job([SealRow(slot, number, packet(number, 0, bytes(length))) for number in range(count)])


def expected(job: Job, operation: Operation, slots: Sequence[int] = ()) -> Job:
    engine, copy = ReferenceEngine(), copy_job(job)
    session = engine.open(operation)
    for slot in slots:
        session.install_key(slot, KEY)
    engine.submit(session, copy)
    return copy


@pytest.mark.parametrize("operation", Operation, ids=lambda operation: operation.value)
@pytest.mark.parametrize("defines", [(), ("REVERSED",), ("BYTE_PERMUTE",)], ids=["opencl", "backwards", "cuda"])
def test_kernels_pass_the_self_test(operation: Operation, defines: tuple[str, ...]) -> None:
    assert self_test(host_engine(*defines), operation).passed


@pytest.mark.parametrize("operation", Operation, ids=lambda operation: operation.value)
def test_jobs_larger_than_a_lane_go_in_parts(operation: Operation) -> None:
    bench = Bench(room=SMALL[Kind.AEAD if operation in Kind.AEAD.operations else Kind.FEC])
    verdict = self_test(bench.engine, operation)
    assert verdict.passed, verdict.reason
    assert sum(lane.begun for lane in bench.devices[0].lanes) > len(all_cases(operation)) + 1


@pytest.mark.parametrize(
    ("k", "m", "length"), [(1, 1, 1), (1, 127, 16), (128, 127, 17), (128, 1, 1500), (4, 5, 48), (3, 0, 9)]
)
def test_shapes_at_the_edges(k: int, m: int, length: int) -> None:
    engine = host_engine("BYTE_PERMUTE")
    session = engine.open(Operation.FEC_ENCODE)
    job = spans(3, k, m, length)
    wanted = expected(job, Operation.FEC_ENCODE)
    run(engine, session, job)
    assert difference(job, wanted) == ""


def test_a_row_larger_than_a_lane_is_for_software() -> None:
    bench = Bench(room=SMALL[Kind.AEAD])
    session = bench.engine.open(Operation.AEAD_SEAL)
    session.install_key(0, KEY)
    session.install_key(1, KEY)
    job = seal_job([SealRow(0, 1, packet(1, 0, bytes(9000))), SealRow(0, 2, packet(2, 0, bytes(90)))])
    run(bench.engine, session, job)
    assert job.status.tolist() == [Status.FAULT, Status.DONE]


def test_an_empty_job_is_finished_at_once() -> None:
    bench = Bench()
    session = bench.engine.open(Operation.FEC_ENCODE)
    job = spans(1)
    names = ("k", "m", "column", "length", "data_start", "parity_start", "status")
    empty = job._replace(**{name: getattr(job, name)[:0] for name in names})
    ticket = bench.engine.submit(session, empty)
    assert ticket is not None
    assert ticket.done


def test_when_all_lanes_are_busy_it_is_full_until_a_result_is_taken_back() -> None:
    bench = Bench(lanes=2, polls=0)
    session = bench.engine.open(Operation.FEC_ENCODE)
    assert bench.engine.submit(session, spans(1)) is not None
    assert bench.engine.submit(session, spans(1)) is not None
    assert bench.engine.submit(session, spans(1)) is None
    assert bench.engine.poll() == 2
    assert bench.engine.submit(session, spans(1)) is not None


def test_what_was_cancelled_is_not_written() -> None:
    bench = Bench(polls=3)
    session = bench.engine.open(Operation.FEC_ENCODE)
    job = spans(2)
    before = copy_job(job)
    ticket = bench.engine.submit(session, job)
    assert ticket is not None
    assert bench.engine.cancel(ticket)
    for _ in range(5):
        bench.engine.poll()
    job.status[:] = before.status
    assert difference(job, before) == ""
    assert bench.engine.submit(session, spans(2)) is not None  # its lane is free again


def test_keys_beyond_the_first_table_and_their_end() -> None:
    bench = Bench()
    session = bench.engine.open(Operation.AEAD_SEAL)
    for slot in (0, 1, 700, 701):
        session.install_key(slot, KEY)
    job = packets(3, slot=700)
    run(bench.engine, session, job)
    assert (job.status == Status.DONE).all()
    table = bench.devices[0].table
    session.remove_key(700)
    session.remove_key(9999)
    assert not table[700 * 1024 : 701 * 1024].any()
    job = packets(3, slot=700)
    run(bench.engine, session, job)
    assert (job.status == Status.REJECTED).all()
    session.close()
    session.close()
    assert bench.devices[0].closed
    assert all(lane.closed for lane in bench.devices[0].lanes)
    with pytest.raises(ValueError, match="numbered from 0"):
        bench.engine.open(Operation.AEAD_SEAL).install_key(-1, KEY)


def test_without_memory_it_does_not_open() -> None:
    bench = Bench()
    bench.fault = Fault.MEMORY
    with pytest.raises(DriverError, match="no memory"):
        bench.engine.open(Operation.FEC_ENCODE)
    assert bench.devices[0].closed


def test_operations_that_it_does_not_have() -> None:
    engine = host_engine(operations=frozenset({Operation.FEC_ENCODE}))
    with pytest.raises(ValueError, match=r"cannot do aead\.seal"):
        engine.open(Operation.AEAD_SEAL)


def serve(bench: Bench, operation: Operation) -> tuple[Serving, EngineSession]:
    session = bench.engine.open(operation)
    spare = SimdAead() if operation in Kind.AEAD.operations else SimdFec()
    serving = Serving(bench.engine, session, [spare], clock=time.perf_counter_ns, seed=1)
    return serving, session


@pytest.mark.parametrize("fault", [Fault.LAUNCH, Fault.GONE, Fault.HANG], ids=lambda fault: fault.value)
def test_a_device_that_fails_under_load_loses_nothing(fault: Fault) -> None:
    bench = Bench()
    serving, _ = serve(bench, Operation.FEC_ENCODE)
    for turn in range(6):
        if turn == 2:
            bench.devices[0].fault = fault
        job = spans(20 + turn)
        wanted = expected(job, Operation.FEC_ENCODE)
        serving.run(job)
        assert difference(job, wanted) == ""
    assert serving.engine is not bench.engine


def test_a_device_that_is_back_serves_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accel.rung._TEST_PATIENCE", 120.0)  # what a busy machine takes is not what this is about
    bench = Bench()
    serving, _ = serve(bench, Operation.AEAD_SEAL)
    for slot in range(2):
        serving.session.install_key(slot, KEY)
    bench.devices[0].fault = Fault.LAUNCH
    job = packets(20)
    wanted = expected(job, Operation.AEAD_SEAL, (0, 1))
    serving.run(job)
    assert difference(job, wanted) == ""
    rung = serving.session.rungs[0]
    assert rearm(rung, serving.session.specs, 1.0)
    assert bench.devices[0].closed
    job = packets(20)
    run(bench.engine, rung.session, job)
    assert difference(job, wanted) == ""


def test_a_session_that_has_failed_says_so() -> None:
    bench = Bench()
    session = bench.engine.open(Operation.FEC_ENCODE)
    bench.devices[0].fault = Fault.LAUNCH
    assert bench.engine.submit(session, spans(1)) is not None
    with pytest.raises(DriverError, match="a launch failed"):
        bench.engine.poll()
    assert bench.engine.poll() == 0
    with pytest.raises(DriverError, match="open it again"):
        bench.engine.submit(session, spans(1))
    session.close()


def test_every_program_has_the_kernels_that_it_names() -> None:
    for name, kernels in KERNELS.items():
        assert all(f"KERNEL({kernel}, " in program(name) for kernel in kernels)
        assert "#include" not in program(name)
    assert program(FEC) != program(AEAD)


def test_fec_takes_no_keys() -> None:
    bench = Bench()
    fec = bench.engine.open(Operation.FEC_DECODE)
    with pytest.raises(TypeError, match="takes no keys"):
        fec.install_key(0, KEY)
    fec.remove_key(0)
