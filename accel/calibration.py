"""Measuring engines: per operation, shape and batch size, medians of wall and CPU time and the 99th percentile.

Engines take turns within each cell, so that what else the machine does hits all of them. A device is measured with the
copies that it is given in service.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np

from accel.engine import (
    HEADER_LENGTH,
    TAG_LENGTH,
    Engine,
    Job,
    KeySpec,
    OpenJob,
    Operation,
    SealJob,
    SpanJob,
    Suite,
)
from accel.isolation import Isolation
from accel.profile import Cell
from accel.rung import Rung, unfinished
from drivers.errors import DriverError

BATCHES = (1, 4, 16, 32, 64, 256, 512, 1024)
"""Rows, or spans."""
BUDGET = 3.0
"""Seconds of CPU time for all of it."""
_LEAST_BUDGET = 0.8
_SAMPLE_NS = 30_000
"""Nanoseconds that a sample takes at least: small batches are repeated."""
_SAMPLES = (3, 101)
_LARGEST = 12 << 20
"""Bytes of a job; larger batches of a shape are left out. 256 spans of (32,8), the most that a worker submits, fit."""
_KEYS = KeySpec(Suite.AES_128_GCM, bytes(range(16)), bytes(12), bytes(range(16, 32)))
_SLOT = 0


@dataclass(frozen=True)
class Shape:
    """What the rows of a batch look like: packets of ``size`` bytes, or spans of k + m units of that length."""

    size: int
    k: int = 0
    m: int = 0

    def __str__(self) -> str:
        return f"({self.k},{self.m}) {self.size} B" if self.k else f"{self.size} B"

    @property
    def octets(self) -> int:
        """Bytes of a row that count: a packet, or the data of a span."""
        return self.size * max(1, self.k)


PACKETS = (Shape(64), Shape(576), Shape(1350))
SPANS = (Shape(256, 4, 1), Shape(1200, 10, 4), Shape(1200, 32, 8))


def shapes_of(operation: Operation) -> tuple[Shape, ...]:
    """Return the shapes that an operation is measured in."""
    return SPANS if operation in (Operation.FEC_ENCODE, Operation.FEC_DECODE) else PACKETS


def calibrate(
    engines: Mapping[Operation, Sequence[Engine]], budget: float, clock: Callable[[], float] = time.process_time
) -> Iterator[Cell]:
    """Measure engines that have passed their self-test, within ``budget`` seconds of ``clock``; yield what was found.

    An engine that raises is left out of the cells that follow.
    """
    until = clock() + max(budget, _LEAST_BUDGET)
    work = [(operation, shape) for operation, some in engines.items() if some for shape in shapes_of(operation)]
    for place, (operation, shape) in enumerate(work):
        share = max(0.0, until - clock()) / (len(work) - place)
        yield from measure(engines[operation], operation, shape, share, clock=clock)


def measure(
    engines: Sequence[Engine],
    operation: Operation,
    shape: Shape,
    budget: float,
    batches: Iterable[int] = BATCHES,
    clock: Callable[[], float] = time.process_time,
) -> Iterator[Cell]:
    """Measure one shape in every batch size; yield a cell for each engine and size."""
    until = clock() + budget
    rungs = []
    for engine in engines:
        try:
            rung = Rung(engine, engine.open(operation), time.perf_counter_ns)
            if not shape.k:
                for phase in (0, 1):
                    rung.session.install_key(_SLOT + phase, _KEYS)
        except (DriverError, OSError, ValueError):
            continue
        rungs.append(rung)
    some = [batch for batch in batches if batch * (shape.octets + shape.m * shape.size) <= _LARGEST or batch == 1]
    jobs = make_jobs(operation, shape, some)
    for place, batch in enumerate(some):
        for turn, rung in enumerate(rungs[:]):
            left = max(0.0, until - clock()) / ((len(some) - place) * len(rungs) - turn)
            cell = _cell(rung, jobs[batch], shape, left)
            if cell is None:
                rungs.remove(rung)
            else:
                yield cell
    for rung in rungs:
        rung.session.close()


def _cell(rung: Rung, job: Job, shape: Shape, budget: float) -> Cell | None:
    """Measure one engine on one job, for about ``budget`` seconds."""
    work = _work(rung, job)
    wall: list[float] = []
    cpu: list[float] = []
    try:
        work()
        begun = time.perf_counter_ns()
        work()
        repeat = max(1, _SAMPLE_NS // max(1, time.perf_counter_ns() - begun))
        until = time.perf_counter_ns() + int(budget * 1e9)
        while len(wall) < _SAMPLES[0] or (len(wall) < _SAMPLES[1] and time.perf_counter_ns() < until):
            spent, begun = time.process_time_ns(), time.perf_counter_ns()
            for _ in range(repeat):
                work()
            wall.append((time.perf_counter_ns() - begun) / repeat)
            cpu.append((time.process_time_ns() - spent) / repeat)
    except Exception:  # whatever it raises, it is not measured
        return None
    if len(unfinished(job.status)):
        return None
    rows = len(job.status)
    return Cell(
        engine=rung.name,
        operation=rung.operation.value,
        shape=str(shape),
        size=shape.size,
        batch=rows,
        wall_ns=round(float(np.median(wall)), 1),
        cpu_ns=round(max(float(np.median(cpu)), 1.0), 1),
        p99_ns=round(sorted(wall)[int(0.99 * len(wall))], 1),
        octets=rows * shape.octets,
    )


def _work(rung: Rung, job: Job) -> Callable[[], object]:
    """Return what has an engine do a job as it would in service."""
    if rung.trusted:
        return partial(rung.engine.submit, rung.session, job)
    rows = np.arange(len(job.status))

    def work() -> None:
        isolation = Isolation(job, rung.operation)
        failure = rung.attempt(isolation)
        if failure is not None:
            raise DriverError(failure.reason or "it is full")
        isolation.write_back(rows)

    return work


def make_jobs(operation: Operation, shape: Shape, batches: Sequence[int]) -> dict[int, Job]:
    """Return a job that can be done again and again, for each batch size, all in the same memory."""
    largest = max(batches)
    if shape.k:
        return {batch: _span_job(shape, batch) for batch in batches}
    whole = _seal_job(shape, largest)
    if operation is Operation.AEAD_OPEN:
        whole_open = _opened(whole)
        return {batch: cast(OpenJob, _first(whole_open, batch)) for batch in batches}
    return {batch: cast(SealJob, _first(whole, batch)) for batch in batches}


def _first(job: SealJob | OpenJob, batch: int) -> Job:
    names = ("source_offset", "length", "target_offset", "slot", "number", "status")
    return job._replace(**{name: getattr(job, name)[:batch].copy() for name in names})


def _seal_job(shape: Shape, rows: int) -> SealJob:
    size = max(shape.size, HEADER_LENGTH + 4)
    stride = size + TAG_LENGTH + 64 & -64
    source = np.random.default_rng(1).integers(0, 256, rows * stride, np.uint8)
    offset = np.arange(rows, dtype=np.int64) * stride
    number = np.arange(rows, dtype=np.int64)
    source[offset] = 0x43
    for byte in range(4):
        source[offset + 9 + byte] = number >> 8 * (3 - byte) & 0xFF
    return SealJob(
        source=source,
        source_offset=offset,
        length=np.full(rows, size, np.int32),
        target=np.zeros(rows * stride, np.uint8),
        target_offset=offset.copy(),
        slot=np.full(rows, _SLOT, np.int32),
        number=number,
        status=np.zeros(rows, np.int8),
    )


def _opened(job: SealJob) -> OpenJob:
    """Return the job that opens what a job seals; sealed by the engine that is always there."""
    from accel.aead.cryptography import CryptographyAead

    engine = CryptographyAead()
    session = engine.open(Operation.AEAD_SEAL)
    for phase in (0, 1):
        session.install_key(_SLOT + phase, _KEYS)
    engine.submit(session, job)
    session.close()
    return OpenJob(
        source=job.target,
        source_offset=job.target_offset,
        length=job.length + np.int32(TAG_LENGTH),
        target=np.zeros_like(job.target),
        target_offset=job.target_offset.copy(),
        slot=job.slot,
        number=job.number.copy(),
        status=np.zeros_like(job.status),
    )


def _span_job(shape: Shape, batch: int) -> SpanJob:
    units = shape.k + shape.m
    stride = shape.size + 64 & -64
    offset = (np.arange(batch * units, dtype=np.int64) * stride).reshape(batch, units)
    generator = np.random.default_rng(2)
    lost = np.array([generator.permutation(shape.k)[: shape.m] for _ in range(batch)], np.uint8)
    return SpanJob(
        memory=generator.integers(0, 256, batch * units * stride, np.uint8),
        data=offset[:, : shape.k].ravel(),
        parity=offset[:, shape.k :].ravel(),
        row=np.tile(np.arange(shape.m, dtype=np.uint8), batch),
        lost=lost.ravel(),
        data_start=(np.arange(batch) * shape.k).astype(np.int32),
        parity_start=(np.arange(batch) * shape.m).astype(np.int32),
        k=np.full(batch, shape.k, np.int32),
        m=np.full(batch, shape.m, np.int32),
        column=np.zeros(batch, np.int32),
        length=np.full(batch, shape.size, np.int32),
        status=np.zeros(batch, np.int8),
    )
