"""A device that copies from and to its clients' memory directly, and what is done when that is refused."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from accel.calls import address_of
from accel.device.cuda import cuda_engine
from accel.device.engine import ROOM
from accel.engine import Operation, Status
from accel.selftest import self_test
from accel.service import desk
from accel.service.client import ServiceSession
from accel.service.ring import SIZE
from accel.trials import OpenRow, SpanRow, difference, open_job, run, span_job
from tests.fake_cupy import FakeCupy, stand_in
from tests.service import HostService, expected, key, packets, spans, until
from tests.spans_of_reference import decoded

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler: apt-get install g++")
ENCODE, DECODE, SEAL, OPEN = Operation


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> FakeCupy:
    return stand_in(monkeypatch)


def serving(operation: Operation = ENCODE) -> HostService:
    return HostService((operation,), engine=cuda_engine(frozenset({operation})))


def rings(cupy: FakeCupy) -> list[int]:
    """Return where clients' memories are that are registered."""
    return [address for address, size in cupy.pinned.items() if size == SIZE]


def of_rings(cupy: FakeCupy) -> list[int]:
    """Return the bytes of every copy between the device and a client's memory; there is none from now on."""
    found = [size for address, size in cupy.copied for ring in rings(cupy) if ring <= address < ring + SIZE]
    cupy.copied.clear()
    return found


def test_it_copies_from_and_to_clients_directly(cupy: FakeCupy) -> None:
    """A copy in and a copy out for each submission, of padded units, and nothing by the processor."""
    with serving() as service:
        engine = service.client()
        sessions = [engine.open(ENCODE) for _ in range(2)]
        until(lambda: len(rings(cupy)) == 2)
        cupy.copied.clear()
        for session in sessions:
            job = spans(7, 5, 2, 100)
            run(engine, session, job, patience=30.0)
            assert difference(job, expected(spans(7, 5, 2, 100), ENCODE)) == ""
            assert of_rings(cupy) == [7 * 5 * 112, 7 * 2 * 112]
        report = service.server.report()
        assert (report["pinned"], report["copied_because"]) == (2, "")
        sessions[0].close()
        until(lambda: len(rings(cupy)) == 1)
        assert service.server.report()["pinned"] == 1
    assert rings(cupy) == []


def test_the_self_test_passes_over_it(cupy: FakeCupy) -> None:
    with serving() as service:
        verdict = self_test(service.client(), ENCODE, 30.0)
        assert verdict.passed, verdict.reason
        assert cupy.copied


def test_what_is_refused_is_copied_and_told(cupy: FakeCupy) -> None:
    cupy.largest_pin = SIZE - 1
    with serving() as service:
        engine = service.client()
        session, job = engine.open(ENCODE), spans(7)
        run(engine, session, job, patience=30.0)
        assert difference(job, expected(spans(7), ENCODE)) == ""
        assert rings(cupy) == []
        report = service.server.report()
        assert report["pinned"] == 0
        assert "registering memory failed: cudaError 2" in str(report["copied_because"])
        assert "nvidia-smi" in str(report["copied_because"])


def test_no_more_is_registered_than_may_be(cupy: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "MOST_PINNED", SIZE)
    with serving() as service:
        engine = service.client()
        sessions = [engine.open(ENCODE) for _ in range(2)]
        for session in sessions:
            job = spans(3)
            run(engine, session, job, patience=30.0)
            assert difference(job, expected(spans(3), ENCODE)) == ""
        assert len(rings(cupy)) == 1
        assert "which is the most" in str(service.server.report()["copied_because"])


def test_what_is_decoded_is_read_directly(cupy: FakeCupy) -> None:
    """Data and parity in a copy each; what is rebuilt goes to the places of losses by the processor."""
    lost = span_job([SpanRow(tuple(bytes([9 * n + j]) * 100 for j in range(5)), 3, (4, 0), (n % 5, 2)) for n in (0, 1)])
    wanted = decoded(lost)
    with serving(DECODE) as service:
        engine = service.client()
        session = engine.open(DECODE)
        until(lambda: len(rings(cupy)) == 1)
        cupy.copied.clear()
        run(engine, session, lost, patience=30.0)
        assert difference(lost, wanted) == ""
        assert of_rings(cupy) == [2 * 5 * 112, 2 * 2 * 112]
        verdict = self_test(service.client(), DECODE, 30.0)
        assert verdict.passed, verdict.reason


def test_what_is_decoded_is_copied_where_both_do_not_fit_a_lane(cupy: FakeCupy) -> None:
    """(2, 2): the parity units take as much again as the data, of which two fill most of a lane."""
    size = ROOM.source // 2 - 4096
    lost = span_job([SpanRow((b"a" * size, b"b" * size), 0, (0, 1), (0, 1))])
    wanted = decoded(lost)
    with serving(DECODE) as service:
        engine = service.client()
        session = engine.open(DECODE)
        until(lambda: len(rings(cupy)) == 1)
        cupy.copied.clear()
        run(engine, session, lost, patience=60.0)
        assert difference(lost, wanted) == ""
        assert of_rings(cupy) == []


def room_of(packet: int) -> int:
    return 16 + -(-(packet - 13) // 16) * 16


def test_packets_are_sealed_directly(cupy: FakeCupy) -> None:
    """A copy in and a copy out for each submission, and the verdicts beside it."""
    keys = {0: key(0), 1: key(2)}
    with serving(SEAL) as service:
        engine = service.client()
        sessions = [engine.open(SEAL) for _ in range(2)]
        until(lambda: len(rings(cupy)) == 2)
        for session in sessions:
            for slot, spec in keys.items():
                session.install_key(slot, spec)
        for length in (4, 15, 16, 300):
            for phase, session in enumerate(sessions):
                cupy.copied.clear()
                job = packets(7, length=length, phase=phase)
                run(engine, session, job, patience=30.0)
                assert difference(job, expected(packets(7, length=length, phase=phase), SEAL, keys)) == ""
                assert of_rings(cupy) == [7 * room_of(13 + length), 7 * room_of(13 + length + 16)]
        report = service.server.report()
        assert (report["pinned"], report["copied_because"]) == (2, "")


def test_packets_are_opened_directly_and_rejected_ones_leave_nothing_in_the_memory(cupy: FakeCupy) -> None:
    keys = {0: key(1), 1: key(2)}
    sealed = expected(packets(6, length=200), SEAL, keys)
    whole = [sealed.target[start : start + 229].tobytes() for start in sealed.target_offset.tolist()]
    whole[2] = whole[2][:-1] + bytes([whole[2][-1] ^ 1])
    job = open_job([OpenRow(0, number - 1, packet) for number, packet in enumerate(whole)])
    wanted = expected(job, OPEN, keys)
    assert wanted.status.tolist().count(Status.REJECTED) == 1
    with serving(OPEN) as service:
        engine = service.client()
        session = engine.open(OPEN)
        assert isinstance(session, ServiceSession)
        until(lambda: len(rings(cupy)) == 1)
        for slot, spec in keys.items():
            session.install_key(slot, spec)
        cupy.copied.clear()
        run(engine, session, job, patience=30.0)
        assert difference(job, wanted) == ""
        assert of_rings(cupy) == [6 * room_of(229), 6 * room_of(213)]
        there = session._ring.slots[0].target[: 6 * room_of(213)].reshape(6, -1)[:, 3:216]
        assert there.any(1).tolist() == [True, True, False, True, True, True]
        verdict = self_test(service.client(), OPEN, 30.0)
        assert verdict.passed, verdict.reason


def test_nothing_of_others_lies_between_packets(cupy: FakeCupy) -> None:
    """What is copied into a client's memory beside its packets is zeros, or what it wrote itself."""
    with serving(SEAL) as service:
        engine = service.client()
        first, second = (engine.open(SEAL) for _ in range(2))
        assert isinstance(second, ServiceSession)
        until(lambda: len(rings(cupy)) == 2)
        for session in (first, second):
            session.install_key(0, key(0))
        for memory in cupy.memory.values():
            if len(memory) == ROOM.target:  # of a lane, not the keys
                memory[:] = 0xEE  # what somebody has left
        run(engine, second, packets(9, length=21), patience=30.0)
        rows = second._ring.slots[0].target[: 9 * room_of(50)].reshape(9, -1)
        assert not rows[:, :3].any()
        assert not rows[:, 53:].any()


def test_a_job_whose_memory_is_registered_is_not_free_before_it_is_done(cupy: FakeCupy) -> None:
    """Only what lies as in a lane is left to the device: units behind each other, at multiples of 16 apart."""
    engine = cuda_engine(frozenset({ENCODE}))
    session = engine.open(ENCODE)
    memory = np.zeros(3 * 4096, np.uint8)
    start = -address_of(memory) % 4096
    memory = memory[start : start + 8192]
    assert session.pin(address_of(memory), 8192) == ""  # type: ignore[attr-defined]
    loose = spans(1, 2, 1, 64)
    memory[:128] = np.arange(128)
    tight = loose._replace(memory=memory, data=np.array([0, 64]), parity=np.array([4096]), status=np.zeros(1, np.int8))
    cupy.copied.clear()
    ticket = engine.submit(session, tight)
    assert ticket is not None
    assert not engine.cancel(ticket)
    while not engine.cancel(ticket):
        engine.poll()
    assert (address_of(memory), 128) in cupy.copied
    job = tight._replace(status=np.zeros(1, np.int8))
    run(engine, session, job)
    assert job.status.tolist() == [Status.DONE]
    assert memory[4096:4160].any()
    cupy.copied.clear()
    run(engine, session, loose)
    assert difference(loose, expected(spans(1, 2, 1, 64), ENCODE)) == ""
    session.unpin(address_of(memory))  # type: ignore[attr-defined]
    cupy.copied.clear()
    run(engine, session, tight._replace(status=np.zeros(1, np.int8)))
    assert (address_of(memory), 128) not in cupy.copied
    session.close()
