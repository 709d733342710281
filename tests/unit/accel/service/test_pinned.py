"""A device that copies from and to its clients' memory directly, and what is done when that is refused."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from accel.calls import address_of
from accel.device.cuda import cuda_engine
from accel.engine import Operation, Status
from accel.selftest import self_test
from accel.service import desk
from accel.service.ring import SIZE
from accel.trials import difference, run
from tests.fake_cupy import FakeCupy, stand_in
from tests.service import HostService, expected, spans, until

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler: apt-get install g++")
ENCODE = Operation.FEC_ENCODE


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


def test_what_is_decoded_is_copied(cupy: FakeCupy) -> None:
    with serving(Operation.FEC_DECODE) as service:
        service.client().open(Operation.FEC_DECODE)
        until(lambda: service.server.report()["clients"] == 1)
        assert rings(cupy) == []
        assert service.server.report()["copied_because"] == ""


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
