"""Faults of the device, and the death of either side: no row is lost."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from accel import rung as rung_module
from accel.aead.simd import SimdAead
from accel.child import environment
from accel.engine import (
    Engine,
    Maturity,
    Operation,
    Provenance,
    Status,
)
from accel.fec.simd import SimdFec
from accel.service import desk
from accel.service.client import ServiceEngine, ServiceSession
from accel.serving import Serving
from accel.trials import difference, run
from drivers.errors import DriverError
from tests.host_device import ALL, Fault
from tests.rearming import rearm
from tests.service import HostService, expected, fresh_name, key, knock, packets, spans, until

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler: apt-get install g++")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every batch more time than the stand-in takes on any machine."""
    monkeypatch.setattr(rung_module, "UNKNOWN_DEADLINE", 30_000_000_000)
    monkeypatch.setattr(rung_module, "_TEST_PATIENCE", 30.0)


def serve(engine: Engine, operation: Operation) -> Serving:
    spare = SimdAead() if operation in (Operation.AEAD_SEAL, Operation.AEAD_OPEN) else SimdFec()
    return Serving(engine, engine.open(operation), [spare], seed=1)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("fault", [Fault.LAUNCH, Fault.GONE], ids=lambda fault: fault.value)
def test_a_device_that_fails_loses_nothing(fault: Fault) -> None:
    with HostService((Operation.FEC_ENCODE,)) as service:
        serving = serve(service.client(), Operation.FEC_ENCODE)
        for turn in range(6):
            if turn == 2:
                service.fail(fault)
            job = spans(20 + turn)
            wanted = expected(job, Operation.FEC_ENCODE)
            serving.run(job)
            assert difference(job, wanted) == ""
        assert serving.engine.name != "host"
        until(lambda: service.ended != "")
        assert "VANTUN-FAKE device" in serving.session.rungs[0].life.history[1].reason
        serving.close()


def test_a_device_that_hangs_loses_nothing() -> None:
    with HostService((Operation.FEC_ENCODE,)) as service:
        service.fail(Fault.HANG)
        serving = serve(service.client(), Operation.FEC_ENCODE)
        for turn in range(3):
            job = spans(20 + turn)
            wanted = expected(job, Operation.FEC_ENCODE)
            serving.run(job)
            assert difference(job, wanted) == ""
        assert not serving.session.rungs[0].serves
        serving.close()


def test_a_device_that_does_not_answer_for_long_ends_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    with HostService((Operation.FEC_ENCODE,)) as service:
        service.fail(Fault.HANG)
        monkeypatch.setattr(desk, "HUNG", 0)
        engine = service.client()
        session = engine.open(Operation.FEC_ENCODE)
        with pytest.raises(DriverError, match="did not finish a job within"):
            run(engine, session, spans(1))


def test_a_client_that_dies_leaves_nothing() -> None:
    """Its keys are wiped and its memory given back, only when the device has done what is on its way."""
    with HostService((Operation.AEAD_SEAL,), polls=1000) as service:
        device = service.devices[0]
        session, engine = knock(service, Operation.AEAD_SEAL)
        for slot in (0, 1):
            session.install_key(slot, key(slot))
        assert engine.submit(session, packets(3)) is not None
        until(lambda: service.server.report()["launches"] == 1)
        session._socket.close()
        until(lambda: service.server.report()["clients"] == 0)
        until(lambda: not device.table.any())
        for _ in range(3):  # its place is free
            other, engine = knock(service, Operation.AEAD_SEAL)
            job = packets(1)
            run(engine, other, job)
            assert job.status.tolist() == [Status.REJECTED]
            other.close()


def test_a_page_of_keys_is_nobody_elses_while_its_packets_are_on_their_way() -> None:
    """Else packets of one client would be sealed with keys of another."""
    with HostService((Operation.AEAD_SEAL,)) as service:
        device = service.devices[0]
        device.polls = 1 << 40
        first, engine = knock(service, Operation.AEAD_SEAL)
        for slot in (0, 1):
            first.install_key(slot, key(slot))
        before = device.table.copy()
        assert engine.submit(first, packets(3)) is not None
        until(lambda: service.server.report()["launches"] == 1)
        for slot in (0, 1):
            first.remove_key(slot)
        second, _ = knock(service, Operation.AEAD_SEAL)
        for slot in (0, 1):
            second.install_key(slot, key(7 + slot))
        assert not device.table[before != 0].any()  # the pages of the second are others
        for lane in device.lanes:
            lane._left = 0
        until(lambda: not service.server._desks[Operation.AEAD_SEAL].busy)
        third, _ = knock(service, Operation.AEAD_SEAL)
        third.install_key(0, key(9))
        assert device.table[before != 0].any()


@contextmanager
def child(name: str, *operations: Operation) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """Yield a service that is a process, once it is ready."""
    offered = ",".join(each.value for each in operations)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            line = [sys.executable, "-m", "tests.service_child", name, str(theirs.fileno()), offered]
            process = subprocess.Popen(line, pass_fds=[theirs.fileno()], env=environment())
        try:
            ours.settimeout(60)
            said = json.loads(ours.recv(60_000))
            assert said["ready"]
            yield process, ours
        finally:
            process.kill()
            process.wait()


@pytest.mark.slow
@pytest.mark.usefixtures("patient")
def test_killing_it_in_the_middle_costs_no_row_and_the_next_one_serves() -> None:
    name = fresh_name()
    engine = ServiceEngine("host", ALL, name, Provenance.FAKE, Maturity.UNTESTED)
    keys = {0: key(0), 1: key(1)}
    operations = Operation.AEAD_SEAL, Operation.FEC_ENCODE
    with child(name, *operations) as (process, _):
        seal, encode = serve(engine, Operation.AEAD_SEAL), serve(engine, Operation.FEC_ENCODE)
        for slot, spec in keys.items():
            seal.session.install_key(slot, spec)
        for turn in range(12):
            if turn == 4:
                process.send_signal(signal.SIGKILL)
            for serving, job in ((seal, packets(20 + turn)), (encode, spans(20 + turn))):
                operation = serving.operation
                wanted = expected(job, operation, keys if serving is seal else None)
                serving.run(job)
                assert difference(job, wanted) == ""
    assert (seal.counts["lost"], encode.counts["lost"]) == (0, 0)
    for serving in (seal, encode):
        rung = serving.session.rungs[0]
        assert not rung.serves
        assert not rearm(rung, serving.session.specs, 1.0)
        assert "is not there" in rung.life.reason
    with child(name, *operations):
        for serving, job in ((seal, packets(9)), (encode, spans(9))):
            rung = serving.session.rungs[0]
            assert rearm(rung, serving.session.specs, 2.0), rung.life.reason
            wanted = expected(job, serving.operation, keys if serving is seal else None)
            run(engine, rung.session, job)
            assert difference(job, wanted) == ""
    engine.close()


@pytest.mark.slow
def test_the_process_ends_with_its_parent_and_not_by_a_signal_to_everybody() -> None:
    name = fresh_name()
    with child(name, Operation.FEC_ENCODE) as (process, control):
        engine = ServiceEngine("host", ALL, name, Provenance.FAKE, Maturity.UNTESTED)
        session = engine.open(Operation.FEC_ENCODE)
        assert isinstance(session, ServiceSession)
        run(engine, session, spans(3))
        said = json.loads(control.recv(60_000))
        assert said["clients"] == 1
        process.terminate()
        run(engine, session, spans(4))
        control.close()
        assert process.wait(30) == 0
        assert not engine.health().usable
        assert "told to end" in session.lost
        engine.close()
