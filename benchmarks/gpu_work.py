"""The pieces of work of benchmarks/gpu.py, in the device's memory and from the host's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from accel.aead.simd import SimdAead
from accel.bench.compare import Candidate, Question, prepare
from accel.bench.work import install_keys, stride
from accel.device import packets, spans
from accel.device.engine import DeviceEngine
from accel.device.session import DeviceSession, PacketSession, SpanSession
from accel.device.span_rows import HEADER
from accel.engine import Engine, EngineSession, Job, Operation, Suite
from accel.fec.simd import SimdFec
from accel.trials import copy_job, difference, run
from benchmarks.gpu_rates import Rates, Roofline, code_roofline, repeated, settle, suite_roofline, timed
from drivers.errors import DriverError
from drivers.lanes import Batch, Room

ENCODE, DECODE, SEAL, _ = Operation
UNIT, PACKET = 1200, 1400
"""Bytes of a unit, and of a sealed packet."""
SHAPES = ((10, 4), (32, 8), (128, 16))
SUITES = (Suite.AES_128_GCM, Suite.CHACHA20_POLY1305)
_MOST_BYTES = 512 << 20
"""Of a job."""
_LATENCIES = 1000
"""Samples of a latency at most."""


@dataclass(frozen=True)
class Work:
    """One thing to do.

    Attributes
    ----------
    operation
        FEC_ENCODE, FEC_DECODE (a fresh pattern of m losses in every span), AEAD_SEAL.
    shape, suite
        (k, m) of spans; of packets.
    """

    operation: Operation
    shape: tuple[int, int] = (10, 4)
    suite: Suite = Suite.AES_128_GCM

    @property
    def is_fec(self) -> bool:
        """Whether it is about spans."""
        return self.operation is not SEAL

    @property
    def name(self) -> str:
        """What a table calls it."""
        if not self.is_fec:
            return f"seal {self.suite.value}"
        return f"{'encode' if self.operation is ENCODE else 'decode'} ({self.shape[0]},{self.shape[1]})"

    @property
    def size(self) -> int:
        """Bytes of a unit or packet."""
        return UNIT if self.is_fec else PACKET

    @property
    def row_bytes(self) -> int:
        """Bytes of data of a row."""
        return self.shape[0] * UNIT if self.is_fec else PACKET

    def question(self, *batches: int) -> Question:
        """Return it as ``vantun accel bench`` asks it."""
        return Question(self.operation, batches, self.size, self.shape, self.suite)

    def fitting(self, batches: tuple[int, ...]) -> tuple[int, ...]:
        """Return the batch sizes whose jobs are not too large, ascending."""
        rows = stride(self.size) * (sum(self.shape) if self.is_fec else 2)
        return tuple(batch for batch in sorted(batches) if batch * rows <= _MOST_BYTES) or (min(batches),)

    def roofline(self, rates: Rates, *, permute: bool) -> Roofline:
        """Return what the device could do at most."""
        if not self.is_fec:
            return suite_roofline(rates, self.suite)
        return code_roofline(rates, *self.shape, permute=permute, compiled=self.operation is ENCODE)


WORKS = (
    *(Work(ENCODE, shape) for shape in SHAPES),
    Work(DECODE),
    *(Work(SEAL, suite=suite) for suite in SUITES),
)


@dataclass(frozen=True)
class OnDevice:
    """A batch in the device's memory: bytes of data, seconds by the device's clock, joules (None = no meter)."""

    work: str
    batch: int
    octets: int
    seconds: float
    joules: float | None = None

    @property
    def rate(self) -> float:
        """Bytes of data per second."""
        return self.octets / self.seconds


@dataclass(frozen=True)
class EndToEnd:
    """A batch from the host's memory and back: wall and CPU seconds of this process, and what was copied each way."""

    work: str
    batch: int
    octets: int
    seconds: float
    cpu_seconds: float
    inward: int
    outward: int

    @property
    def rate(self) -> float:
        """Bytes of data per second."""
        return self.octets / self.seconds

    def of_bus(self, rates: Rates) -> float | None:
        """Return the share of the bus that is used, in the direction that is used more; None without a bus."""
        if not rates.inward or not rates.outward:
            return None
        return max(self.inward / rates.inward, self.outward / rates.outward) / self.seconds


class _Kept:
    """An engine that remembers its sessions."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.sessions: list[EngineSession] = []
        self.submit, self.poll = engine.submit, engine.poll
        self.cancel, self.health = engine.cancel, engine.health
        self.name, self.operations = engine.name, engine.operations
        self.provenance, self.maturity = engine.provenance, engine.maturity

    def open(self, operation: Operation) -> EngineSession:
        self.sessions.append(self._engine.open(operation))
        return self.sessions[-1]


@contextmanager
def closing(candidate: Candidate) -> Iterator[Candidate]:
    """Yield the candidate; what is opened of it meanwhile is closed: a device has no memory for all measurements."""
    kept = _Kept(candidate.engine)
    try:
        yield replace(candidate, engine=kept)
    finally:
        for session in kept.sessions:
            session.close()


Meter = Callable[[], float | None]
"""Joules that the device has taken so far."""


class Prepared:
    """A batch that lies in a device's memory, computed once and found right."""

    def __init__(self, engine: DeviceEngine, work: Work, batch: int) -> None:
        """Lay it out, compute it, compare it with ``simd``. Raises DriverError when it is wrong, or does not fit."""
        session = engine.open(work.operation)
        assert isinstance(session, (SpanSession, PacketSession))
        self._session: DeviceSession = session
        laid: Any
        self.work, self.batch = work, batch
        if not work.is_fec:
            install_keys(session, work.suite)
        job: Any = work.question(batch).job(batch)
        expected = right(work, job)
        rows = np.arange(batch)
        needs = (spans if work.is_fec else packets).needs(job, rows).sum(0).tolist()
        device = session._device
        self.lane = timed(device.lane(Room(needs[0], needs[1], needs[2] + HEADER, needs[3] + HEADER)))
        laid = session.lay_out(job, rows, self.lane)
        self.launched: Batch = laid.batch
        self.lane.begin(self.launched)
        settle(self.lane)
        session.take_back(job, laid, self.lane)
        wrong = difference(job, expected)
        if wrong:
            raise DriverError(f"{engine.name}: {work.name}, {batch} rows came out wrong: {wrong}; report it, please")

    def measure(self, budget: float, meter: Meter) -> OnDevice:
        """Measure for about ``budget`` seconds of the device, and its energy for as long."""
        octets = self.batch * self.work.row_bytes
        seconds = repeated(lambda times: self.lane.compute_seconds(self.launched, times), budget)
        before = meter()
        joules = None
        if before is not None:
            times = max(1, int(budget / seconds))
            self.lane.compute_seconds(self.launched, times)
            after = meter()
            joules = None if after is None else (after - before) / (times + 1)
        return OnDevice(self.work.name, self.batch, octets, seconds, joules)

    def close(self) -> None:
        """Give everything back."""
        self.lane.close()
        self._session.close()


def right(work: Work, job: Job) -> Job:
    """Return what ``simd`` makes of a job."""
    engine: Engine = SimdFec() if work.is_fec else SimdAead()
    session = engine.open(work.operation)
    if not work.is_fec:
        install_keys(session, work.suite)
    expected = copy_job(job)
    run(engine, session, expected)
    session.close()
    return expected


def end_to_end(candidate: Candidate, work: Work, batch: int, budget: float) -> EndToEnd:
    """Measure an engine as a worker calls it, for about ``budget`` seconds. Raises DriverError."""
    wall: list[float] = []
    cpu: list[float] = []
    with closing(candidate) as each:
        once = prepare(work.question(batch), each, batch)
        once()
        until = time.perf_counter() + budget
        while len(wall) < 3 or time.perf_counter() < until:
            spent, begun = time.process_time(), time.perf_counter()
            once()
            wall.append(time.perf_counter() - begun)
            cpu.append(time.process_time() - spent)
    inward, outward = moved(work, batch)
    octets = batch * work.row_bytes
    return EndToEnd(work.name, batch, octets, float(np.median(wall)), float(np.median(cpu)), inward, outward)


def moved(work: Work, batch: int) -> tuple[int, int]:
    """Return the bytes that a batch copies to a device and back."""
    k, m = work.shape
    if work.is_fec:
        return batch * k * UNIT, batch * m * UNIT
    return batch * PACKET, batch * PACKET


def latencies(candidate: Candidate, work: Work, batch: int, budget: float) -> list[float]:
    """Return seconds that single batches took, ascending, for about ``budget`` seconds. Raises DriverError."""
    found: list[float] = []
    with closing(candidate) as each:
        once = prepare(work.question(batch), each, batch)
        once()
        until = time.perf_counter() + budget
        while len(found) < 5 or (len(found) < _LATENCIES and time.perf_counter() < until):
            begun = time.perf_counter()
            once()
            found.append(time.perf_counter() - begun)
    return sorted(found)
