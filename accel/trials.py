"""Jobs to try engines with: every row and unit lies between guard bytes, at offsets that no device would choose."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from accel.engine import TAG_LENGTH, Engine, EngineSession, Job, OpenJob, SealJob, SpanJob
from drivers.errors import DriverError

GUARD = 0xA5
"""Fills whatever a job should not touch, and targets before they are written."""
PATIENCE = 5.0
"""Seconds that an asynchronous engine may take for one job."""

AnyJob = TypeVar("AnyJob", bound=Job)


@dataclass(frozen=True)
class SealRow:
    """A packet to be sealed; the header holds the key phase and the low half of ``number``."""

    slot: int
    number: int
    packet: bytes


@dataclass(frozen=True)
class OpenRow:
    """A packet to be opened, and the largest packet number before it."""

    slot: int
    largest: int
    packet: bytes


@dataclass(frozen=True)
class SpanRow:
    """A span: data units of equal length, the column of the first, matrix rows, and the positions lost (decode)."""

    units: tuple[bytes, ...]
    column: int
    rows: tuple[int, ...]
    lost: tuple[int, ...] = ()


def packet(number: int, phase: int, payload: bytes, connection: bytes = b"\x00dataCID") -> bytes:
    """Return a plain data packet."""
    return bytes([0x43 | phase << 2]) + connection + (number & 0xFFFFFFFF).to_bytes(4) + payload


def _spread(lengths: Sequence[int], lead: int, gap: int) -> tuple[NDArray[np.int64], int]:
    """Return offsets of rows with guard bytes around them, and the bytes that they need together."""
    offsets = np.zeros(len(lengths), np.int64)
    end = lead
    for i, length in enumerate(lengths):
        offsets[i] = end
        end += length + gap
    return offsets, end


def _lay_out(rows: Sequence[bytes], lead: int, gap: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    offsets, size = _spread([len(row) for row in rows], lead, gap)
    memory = np.full(size, GUARD, np.uint8)
    for offset, row in zip(offsets.tolist(), rows, strict=True):
        memory[offset : offset + len(row)] = np.frombuffer(row, np.uint8)
    return memory, offsets


def seal_job(rows: Sequence[SealRow]) -> SealJob:
    """Return a job that seals ``rows``."""
    source, source_offset = _lay_out([row.packet for row in rows], lead=3, gap=5)
    target_offset, size = _spread([len(row.packet) + TAG_LENGTH for row in rows], lead=9, gap=7)
    return SealJob(
        source=source,
        source_offset=source_offset,
        length=np.array([len(row.packet) for row in rows], np.int32),
        target=np.full(size, GUARD, np.uint8),
        target_offset=target_offset,
        slot=np.array([row.slot for row in rows], np.int32),
        number=np.array([row.number for row in rows], np.int64),
        status=np.zeros(len(rows), np.int8),
    )


def open_job(rows: Sequence[OpenRow]) -> OpenJob:
    """Return a job that opens ``rows``."""
    source, source_offset = _lay_out([row.packet for row in rows], lead=5, gap=3)
    target_offset, size = _spread([max(0, len(row.packet) - TAG_LENGTH) for row in rows], lead=7, gap=9)
    return OpenJob(
        source=source,
        source_offset=source_offset,
        length=np.array([len(row.packet) for row in rows], np.int32),
        target=np.full(size, GUARD, np.uint8),
        target_offset=target_offset,
        slot=np.array([row.slot for row in rows], np.int32),
        number=np.array([row.largest for row in rows], np.int64),
        status=np.zeros(len(rows), np.int8),
    )


def span_job(rows: Sequence[SpanRow]) -> SpanJob:
    """Return a job that encodes ``rows``; parity units are guard bytes until then."""
    lengths = [len(row.units[0]) for row in rows]
    parity = [bytes([GUARD]) * length for row, length in zip(rows, lengths, strict=True) for _ in row.rows]
    data = [unit for row in rows for unit in row.units]
    memory, offsets = _lay_out(parity + data, lead=3, gap=5)
    m = np.array([len(row.rows) for row in rows], np.int32)
    k = np.array([len(row.units) for row in rows], np.int32)
    lost = [row.lost or (0,) * len(row.rows) for row in rows]
    return SpanJob(
        memory=memory,
        data=offsets[len(parity) :].copy(),
        parity=offsets[: len(parity)].copy(),
        row=np.array([value for row in rows for value in row.rows], np.uint8),
        lost=np.array([value for each in lost for value in each], np.uint8),
        data_start=(np.cumsum(k) - k).astype(np.int32),
        parity_start=(np.cumsum(m) - m).astype(np.int32),
        k=k,
        m=m,
        column=np.array([row.column for row in rows], np.int32),
        length=np.array(lengths, np.int32),
        status=np.zeros(len(rows), np.int8),
    )


def lose_units(job: SpanJob) -> None:
    """Overwrite every data unit that a decode job is to rebuild."""
    for span in range(len(job.k)):
        begin = int(job.parity_start[span])
        for position in job.lost[begin : begin + job.m[span]].tolist():
            if position < job.k[span]:
                start = int(job.data[job.data_start[span] + position])
                job.memory[start : start + job.length[span]] = GUARD


def copy_job(job: AnyJob) -> AnyJob:
    """Return a job of its own memory."""
    return cast(AnyJob, job._replace(**{name: column.copy() for name, column in job._asdict().items()}))


def difference(job: Job, expected: Job) -> str:
    """Say where a finished job differs from what was expected; empty when nowhere, guard bytes and sources included."""
    for name, ours in job._asdict().items():
        theirs: NDArray[Any] = getattr(expected, name)
        places = np.flatnonzero(ours != theirs)
        if len(places):
            first = int(places[0])
            return f"{name}[{first}] is {ours[first]}, not {theirs[first]} ({len(places)} of {len(ours)} differ)"
    return ""


def rows_of(job: SealJob | OpenJob) -> list[bytes]:
    """Return what the target of each row of a finished job holds."""
    growth = TAG_LENGTH if isinstance(job, SealJob) else -TAG_LENGTH
    starts, sizes = job.target_offset.tolist(), job.length.tolist()
    return [
        job.target[start : start + max(0, size + growth)].tobytes() for start, size in zip(starts, sizes, strict=True)
    ]


def run(engine: Engine, session: EngineSession, job: Job, patience: float = PATIENCE) -> None:
    """Do a job to its end, within ``patience`` seconds.

    Raises
    ------
    DriverError
        When the engine takes too long.
    """
    deadline = time.monotonic() + patience
    ticket = engine.submit(session, job)
    while ticket is None or not ticket.done:
        if time.monotonic() > deadline:
            raise DriverError(f"engine {engine.name} did not finish a job in {patience:g} s; look at its device")
        engine.poll()
        if ticket is None:
            ticket = engine.submit(session, job)
