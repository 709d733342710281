"""A device that has rested: tested a step at a time, between packets, and given its keys again."""

from __future__ import annotations

from accel.aead.cryptography import CryptographyAead
from accel.engine import Engine, EngineSession, Job, Operation, Status, Ticket
from accel.life import State
from accel.selftest import all_cases, slot_keys
from accel.serving import Serving
from accel.trials import SealRow, packet, seal_job
from accel.unreliable import UnreliableEngine
from tests.lab.drill import TICK
from tests.unit.accel.test_serving import SEAL, first, seal_rows, serve


def pass_time(serving: Serving, seconds: float) -> None:
    for _ in range(int(seconds * 1e9) // TICK):
        serving._clock()


def carry_until_tested(serving: Serving) -> None:
    """Carry packets, some every 60 ms, until an engine that is out has been tested."""
    for _ in range(200):
        if first(serving).life.state is not State.QUARANTINED:
            break
        pass_time(serving, 0.06)
        serving.run(seal_rows(64))


def test_a_dead_device_is_tested_and_gets_its_keys_back() -> None:
    device = UnreliableEngine(CryptographyAead())
    serving = serve(device)
    device.dead = True
    key = slot_keys()[0]
    for slot in (40, 41):
        serving.session.install_key(slot, key)  # the device cannot take them, and is out
    assert first(serving).life.state is State.QUARANTINED
    device.dead = False
    pass_time(serving, 3.0)
    carry_until_tested(serving)
    assert first(serving).life.state is State.SUSPECT
    for _ in range(900):
        serving.run(seal_job([SealRow(40, 1, packet(1, 0, bytes(40)))]))
    assert first(serving).life.state is State.SERVING
    assert serving.engine is device
    assert serving.counts["lost"] == serving.counts["mismatched"] == 0


class Counting(UnreliableEngine):
    """Counts what it is asked for, and what of that is open."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.asked = 0
        self.sessions: list[EngineSession] = []

    def open(self, operation: Operation) -> EngineSession:
        self.asked += 1
        self.sessions.append(super().open(operation))
        return self.sessions[-1]

    def submit(self, session: EngineSession, job: Job) -> Ticket | None:
        self.asked += 1
        return super().submit(session, job)


def out(device: Counting) -> Serving:
    """Return what a device has served until it died, which is back now."""
    serving = serve(device)
    device.dead = True
    serving.session.install_key(40, slot_keys()[0])
    assert first(serving).life.state is State.QUARANTINED
    device.dead = False
    pass_time(serving, 3.0)
    return serving


def test_packets_pass_between_the_steps_of_a_test() -> None:
    device = Counting(CryptographyAead())
    serving = out(device)
    steps = []
    while first(serving).life.state is State.QUARANTINED:
        before = device.asked
        pass_time(serving, 0.06)
        serving.run(seal_rows(64))
        steps.append(device.asked - before)
        assert len(steps) < 200
    assert max(steps) == 1
    assert sum(steps) == 1 + len(all_cases(SEAL)) + 1
    assert serving.counts["lost"] == 0


def test_a_test_that_goes_on_is_closed_with_the_rest() -> None:
    device = Counting(CryptographyAead())
    serving = out(device)
    for _ in range(40):
        pass_time(serving, 0.06)
        serving.run(seal_rows(64))
        if first(serving).being_tested:
            break
    assert first(serving).being_tested
    tested = device.sessions[-1]
    assert tested is not first(serving).session
    serving.close()
    assert not first(serving).being_tested
    job = seal_rows(1)
    device.submit(tested, job)
    device.poll()
    assert job.status.tolist() != [Status.DONE]  # it has no keys any more
