from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import accel.serving
from accel.aead.cryptography import CryptographyAead
from accel.engine import Engine, EngineSession, Job, KeySpec, Maturity, Operation, Provenance, SealJob, Status, Ticket
from accel.fec.simd import SimdFec
from accel.finished import FINISHED, Synchronous
from accel.life import State
from accel.rung import Rung, Step
from accel.selftest import all_cases, slot_keys
from accel.serving import AUDIT_EVERY, AUDIT_SHARE, Serving
from accel.trials import SealRow, SpanRow, copy_job, difference, packet, seal_job, span_job
from accel.unreliable import Mood, UnreliableEngine
from drivers.errors import DriverError
from tests.lab.drill import TICK, Ticks

ENCODE, DECODE, SEAL, OPEN = Operation


class CpuEngine(Synchronous):
    """A CPU engine that does something to its finished jobs."""

    provenance = Provenance.CPU
    maturity = Maturity.UNTESTED

    def __init__(self, engine: Engine, spoil: Callable[[Job], None] = lambda _: None, name: str = "cpu") -> None:
        self.name = name
        self.operations = engine.operations
        self.spoil = spoil
        self.jobs: list[int] = []
        self._engine = engine

    def open(self, operation: Operation) -> EngineSession:
        return self._engine.open(operation)

    def submit(self, session: EngineSession, job: Job) -> Ticket:
        self._engine.submit(session, job)
        self.jobs.append(len(job.status))
        self.spoil(job)
        return FINISHED


@pytest.fixture(autouse=True)
def by_share_alone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have audits depend on rows only: the clock of these tests goes on when somebody looks at it, not with rows."""
    if "rows_per_s" not in request.fixturenames:
        monkeypatch.setattr(accel.serving, "AUDIT_EVERY", 0.0)


def serve(engine: Engine, operation: Operation = SEAL, spares: tuple[Engine, ...] | None = None) -> Serving:
    if spares is None:
        spares = (CryptographyAead() if operation in (SEAL, OPEN) else SimdFec(),)
    serving = Serving(engine, engine.open(operation), spares, clock=Ticks(), seed=1)
    if operation in (SEAL, OPEN):
        for slot, spec in slot_keys().items():
            serving.session.install_key(slot, spec)
    return serving


def seal_rows(count: int) -> SealJob:
    return seal_job([SealRow(0, number, packet(number, 0, bytes(64))) for number in range(count)])


def run_cases(serving: Serving) -> None:
    for case in all_cases(serving.operation):
        job = copy_job(case.job)
        serving.run(job)
        assert difference(job, case.expected) == "", case.name


def first(serving: Serving) -> Rung:
    return serving.session.rungs[0]


def forget_status(job: Job) -> None:
    job.status[::2] = Status.PENDING


def fail_rows(job: Job) -> None:
    job.status[-1] = Status.FAULT


def fail(job: Job) -> None:
    job.status[:] = Status.DONE
    raise OSError("the library is gone")


@pytest.mark.parametrize("operation", Operation, ids=lambda operation: operation.value)
@pytest.mark.parametrize("spoil", [lambda _: None, forget_status, fail_rows, fail], ids=[*"0123"])
def test_a_cpu_engine_that_fails_loses_nothing(spoil: Callable[[Job], None], operation: Operation) -> None:
    make = SimdFec if operation in (ENCODE, DECODE) else CryptographyAead
    serving = serve(CpuEngine(make(), spoil), operation)
    run_cases(serving)
    assert serving.counts["lost"] == 0


@pytest.mark.parametrize("operation", Operation, ids=lambda operation: operation.value)
@pytest.mark.parametrize("mood", Mood, ids=lambda mood: mood.value)
def test_a_device_that_fails_loses_nothing(mood: Mood, operation: Operation) -> None:
    make = SimdFec if operation in (ENCODE, DECODE) else CryptographyAead
    device = UnreliableEngine(make())
    serving = serve(device, operation)
    device.mood = mood
    for _ in range(3):
        if mood is Mood.WRONG and operation is OPEN:
            device.rate = 1.0  # one row of each batch is looked at; a batch where only another one is wrong passes
        run_cases(serving)
    assert serving.counts["lost"] == 0
    if mood in (Mood.WRONG, Mood.DENYING, Mood.OVERRUNNING):
        assert first(serving).life.until_cleared
        assert serving.engine is not device
        assert serving.report()["fallback"] is True


def test_a_quiet_mistake_of_a_cpu_engine_is_found_by_audit() -> None:
    def spoil(job: Job) -> None:
        assert isinstance(job, SealJob)
        job.target[job.target_offset + 20] ^= 1

    serving = serve(CpuEngine(CryptographyAead(), spoil))
    done = 0
    while first(serving).serves:
        serving.run(seal_rows(64))
        done += 64
        assert done < 20 * AUDIT_SHARE
    assert first(serving).life.reason == "1 of 1 rows differ from what cryptography computes"
    run_cases(serving)  # the other one serves


@pytest.mark.parametrize(
    ("rows_per_s", "audits"),
    [
        (1024 / AUDIT_EVERY / 4, 126),  # one row in 1024, however seldom that is; two in a batch count as one
        (1024 / AUDIT_EVERY * 5, 40),  # a busy operation: one in AUDIT_EVERY
        (1024 / AUDIT_EVERY * 1e6, 200 / 16),  # and at least every 16th of the share
    ],
)
def test_one_row_in_1024_is_audited_or_as_many_as_time_allows(rows_per_s: float, audits: float) -> None:
    engine = CpuEngine(CryptographyAead())
    clock = Ticks()
    serving = Serving(engine, engine.open(SEAL), (CryptographyAead(),), clock=clock, seed=1)
    for slot, spec in slot_keys().items():
        serving.session.install_key(slot, spec)
    job = seal_rows(1024)
    for _ in range(200):
        serving.run(job)
        clock.now += int(1024 / rows_per_s * 1e9)
    assert audits / 3 <= serving.counts["audited"] <= audits * 1.5
    assert engine.jobs == [1024] * 200


def test_a_batch_that_is_no_good_does_not_touch_the_source() -> None:
    def spoil(job: Job) -> None:
        raise RuntimeError

    job = seal_rows(5)
    before = job.source.copy()
    serving = serve(CpuEngine(CryptographyAead(), spoil))
    serving.run(job)
    assert (job.status == Status.DONE).all()
    assert (job.source == before).all()


def test_who_is_to_blame() -> None:
    serving = serve(CpuEngine(SimdFec()), DECODE)
    case = all_cases(DECODE)[1]
    job = copy_job(case.job)
    serving.run(job)
    every = np.arange(len(job.status))
    assert not serving.dispute(job, every)
    assert first(serving).serves
    job.memory[job.data[job.data_start[0] + job.lost[job.parity_start[0]]]] ^= 1  # type: ignore[union-attr]
    assert serving.dispute(job, every)
    assert difference(job, case.expected) == ""
    assert first(serving).life.until_cleared


def test_no_other_engine_and_a_device_that_is_out() -> None:
    device = UnreliableEngine(CryptographyAead())
    serving = serve(device, spares=())
    device.mood = Mood.FAULTY
    for _ in range(300):
        job = seal_rows(3)
        serving.run(job)
        assert (job.status == Status.FAULT).all()
    assert first(serving).life.state is State.QUARANTINED
    assert serving.counts["lost"] == 900


def test_a_cpu_engine_that_is_all_there_is_goes_on() -> None:
    calls = 0

    def spoil(job: Job) -> None:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise OSError("now and then")

    serving = serve(CpuEngine(CryptographyAead(), spoil), spares=())
    statuses = []
    for _ in range(10):
        job = seal_rows(2)
        serving.run(job)
        statuses.append(int(job.status[0]))
    assert statuses == [Status.FAULT, Status.DONE] * 5


def test_keys_are_held_by_all() -> None:
    device = UnreliableEngine(CryptographyAead())
    serving = serve(device)
    device.dead = True
    key: KeySpec = slot_keys()[0]
    serving.session.install_key(40, key)
    serving.session.install_key(41, key)
    job = seal_job([SealRow(40, 1, packet(1, 0, bytes(40)))])
    serving.run(job)
    assert job.status.tolist() == [Status.DONE]
    serving.session.remove_key(40)
    serving.run(job)
    assert job.status.tolist() == [Status.REJECTED]


def test_late_memory_is_kept_until_it_is_free() -> None:
    device = UnreliableEngine(CryptographyAead())
    serving = serve(device)
    device.mood = Mood.HANGING
    serving.run(seal_rows(3))
    assert len(first(serving).late) == 1
    for _ in range(40):
        serving.run(seal_rows(64))
    assert len(first(serving).late) == 1
    device.mood = Mood.WELL
    for _ in range(10**9 // TICK):
        serving._clock()
    for _ in range(80):
        serving.run(seal_rows(64))
    assert first(serving).late == []


class Expected:
    """What nobody has measured."""

    def __init__(self, nanoseconds: float) -> None:
        self.nanoseconds = nanoseconds

    def batch_ns(self, rows: int, size: float) -> float:
        return self.nanoseconds

    def p99_ns(self, rows: int, size: float) -> float:
        return self.nanoseconds


def test_a_device_that_has_become_slow_is_suspect() -> None:
    device = UnreliableEngine(CryptographyAead())
    serving = serve(device)
    serving.adopt({0: [Step(0, device, Expected(3 * TICK))]})
    for _ in range(100):
        serving.run(seal_rows(64))
    assert first(serving).serves
    device.mood, device.polls = Mood.SLOW, 18
    for _ in range(100):
        serving.run(seal_rows(64))
    assert first(serving).life.state is State.SUSPECT
    assert "times the time that calibration has measured" in first(serving).life.reason


def test_engines_by_batch_size_and_by_row_size() -> None:
    small, large, long = (CpuEngine(CryptographyAead(), name=name) for name in ("small", "large", "long"))
    serving = serve(small)
    serving.adopt({0: [Step(0, small), Step(16, large)], 1000: [Step(0, long)]})
    for count in (1, 15, 16, 64):
        serving.run(seal_rows(count))
    assert (small.jobs, large.jobs, long.jobs) == ([1, 15], [16, 64], [])
    rows = [SealRow(0, number, packet(number, 0, bytes(1300))) for number in range(64)]
    for _ in range(200):
        serving.run(seal_job(rows))
    assert len(long.jobs) > 50
    assert serving.report()["wanted"] == "long"


def test_spans_of_many_units_are_other_rows_than_spans_of_few() -> None:
    few, many = CpuEngine(SimdFec(), name="few"), CpuEngine(SimdFec(), name="many")
    serving = serve(few, Operation.FEC_ENCODE)
    serving.adopt({0: [Step(0, few)], 20 * 100: [Step(0, many)]})
    for units, name in ((10, "few"), (32, "many"), (10, "few")):
        job = span_job([SpanRow((bytes(100),) * units, 0, (0, 1)) for _ in range(64)])
        for _ in range(800):
            serving.run(job)
        assert serving.report()["wanted"] == name
    assert many.jobs


def test_an_engine_that_does_not_open_is_not_adopted() -> None:
    class Closed(CpuEngine):
        def open(self, operation: Operation) -> EngineSession:
            raise DriverError("no such device")

    good = CpuEngine(CryptographyAead())
    serving = serve(good)
    with pytest.raises(DriverError, match=r"aead\.seal goes on as before: no such device"):
        serving.adopt({0: [Step(0, Closed(CryptographyAead()))]})
    run_cases(serving)
    assert serving.engine is good


def test_an_engine_in_disgrace_is_not_forgotten_by_a_change() -> None:
    device = UnreliableEngine(CryptographyAead())
    serving = serve(device)
    device.mood = Mood.OVERRUNNING
    serving.run(seal_rows(3))
    other = CpuEngine(CryptographyAead())
    serving.adopt({0: [Step(0, other)]})
    serving.adopt({0: [Step(0, device)]})
    assert first(serving).life.state is State.QUARANTINED
    device.mood = Mood.WELL
    serving.clear("unreliable")
    assert first(serving).life.state is State.SUSPECT
