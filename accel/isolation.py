"""A job in memory of its own: what a device works on, and what software computes a second time to compare.

A device that missed its deadline may still write, whenever it likes. It never gets the rows of the pipeline, but a
copy of the job between guard bytes; what it writes late hits nobody. Copying is one compiled loop over calls of memcpy.
"""

from __future__ import annotations

import ctypes
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from accel.calls import address_of, copy_ranges
from accel.engine import TAG_LENGTH, Job, OpenJob, Operation, SealJob, SpanJob, Status

GUARD = 0xA5
GUARD_LENGTH = 32
"""Bytes behind every row, and in front of the first."""
_ALIGNMENT = 64

Words = NDArray[np.int64]
AnyJob = TypeVar("AnyJob", bound=Job)


def pick(job: AnyJob, rows: Words) -> AnyJob:
    """Return a job of some rows, or spans, of another, in the same memory; their statuses are PENDING."""
    status = np.zeros(len(rows), np.int8)
    names: tuple[str, ...]
    if isinstance(job, SpanJob):
        names = ("data_start", "parity_start", "k", "m", "column", "length")
    else:
        names = ("source_offset", "length", "target_offset", "slot", "number")
    return cast(AnyJob, job._replace(status=status, **{name: getattr(job, name)[rows] for name in names}))


def pick_done(job: AnyJob, rows: Words) -> AnyJob:
    """Return a job of rows that were done, with their statuses, to be compared with what software computes."""
    some = pick(job, rows)
    some.status[:] = job.status[rows]
    return some


def _lay_out(length: Words, start: int) -> tuple[Words, int]:
    """Return aligned offsets of rows with guard bytes behind each, from ``start`` on, and the end of the last."""
    room = (length + (GUARD_LENGTH + _ALIGNMENT - 1)) & -_ALIGNMENT
    ends = start + np.cumsum(room)
    return ends - room, int(ends[-1]) if len(ends) else start


class Isolation:
    """A copy of ``original`` in private memory.

    Attributes
    ----------
    job
        The copy.
    """

    def __init__(self, original: Job, operation: Operation) -> None:
        self.original = original
        self.job: Job
        if isinstance(original, SpanJob):
            self._take_spans(original, operation)
        else:
            self._take_rows(original)

    def guards_intact(self) -> bool:
        """Return whether nothing was written in front of and behind any row."""
        spots = self._guards[:, None] + np.arange(GUARD_LENGTH)
        return bool((self._memory[spots] == GUARD).all())

    def write_back(self, rows: NDArray[np.int64]) -> None:
        """Copy the results of some rows to where they belong."""
        some = np.isin(self._owner, rows)
        if isinstance(self.job, SpanJob):
            some &= self.job.status[self._owner] == Status.DONE  # nothing is written of what was rejected
        copy_ranges(self._home[some], self._mine[some] + address_of(self._memory), self._length[some])
        self.original.status[rows] = self.job.status[rows]
        if isinstance(self.job, OpenJob):
            assert isinstance(self.original, OpenJob)
            self.original.number[rows] = self.job.number[rows]

    def differing(self) -> NDArray[np.int64]:
        """Return the rows of which the original's results are not those of the copy."""
        wrong = set(np.flatnonzero(self.original.status != self.job.status).tolist())
        if isinstance(self.job, OpenJob):
            assert isinstance(self.original, OpenJob)
            wrong |= set(np.flatnonzero(self.original.number != self.job.number).tolist())
        done = self.job.status == Status.DONE
        columns = (self._owner.tolist(), self._home.tolist(), self._mine.tolist(), self._length.tolist())
        for owner, home, mine, length in zip(*columns, strict=True):
            if isinstance(self.job, SpanJob) and not done[owner]:
                continue
            if ctypes.string_at(home, length) != self._memory[mine : mine + length].tobytes():
                wrong.add(owner)
        return np.array(sorted(wrong), np.int64)

    def _take_rows(self, job: SealJob | OpenJob) -> None:
        growth = TAG_LENGTH if isinstance(job, SealJob) else -TAG_LENGTH
        size = np.maximum(job.length.astype(np.int64), 0)
        self._length = np.maximum(size + growth, 0)
        source_offset, end = _lay_out(size, _ALIGNMENT)
        target_offset, total = _lay_out(self._length, end)
        memory = self._memory = np.full(total + GUARD_LENGTH, GUARD, np.uint8)
        copy_ranges(source_offset + address_of(memory), job.source_offset + address_of(job.source), size)
        self._owner = np.arange(len(size))
        self._mine = target_offset
        self._home = job.target_offset + address_of(job.target)
        self._guards = np.concatenate(
            (
                source_offset - GUARD_LENGTH,
                source_offset + size,
                target_offset - GUARD_LENGTH,
                target_offset + self._length,
            )
        )
        self.job = job._replace(
            source=memory,
            source_offset=source_offset,
            length=job.length.copy(),
            target=memory,
            target_offset=target_offset,
            slot=job.slot.copy(),
            number=job.number.copy(),
            status=np.zeros(len(size), np.int8),
        )

    def _take_spans(self, job: SpanJob, operation: Operation) -> None:
        k, m = (np.maximum(column.astype(np.int64), 0) for column in (job.k, job.m))
        span_of_data, span_of_parity = np.repeat(np.arange(len(k)), k), np.repeat(np.arange(len(m)), m)
        data_start, parity_start = np.cumsum(k) - k, np.cumsum(m) - m
        data = job.data_start[span_of_data] + np.arange(len(span_of_data)) - data_start[span_of_data]
        parity = job.parity_start[span_of_parity] + np.arange(len(span_of_parity)) - parity_start[span_of_parity]
        length = np.maximum(job.length.astype(np.int64), 0)
        unit_length = np.concatenate((length[span_of_data], length[span_of_parity]))
        offset, total = _lay_out(unit_length, _ALIGNMENT)
        memory = self._memory = np.full(total + GUARD_LENGTH, GUARD, np.uint8)
        home = np.concatenate((job.data[data], job.parity[parity])) + address_of(job.memory)
        copy_ranges(offset + address_of(memory), home, unit_length)
        self._guards = np.concatenate((offset - GUARD_LENGTH, offset + unit_length))
        count = len(span_of_data)
        if operation is Operation.FEC_ENCODE:
            targets = np.arange(count, len(offset))
            self._owner = span_of_parity
        else:
            position = job.lost[parity].astype(np.int64)
            inside = position < k[span_of_parity]
            self._owner = span_of_parity[inside]
            targets = data_start[self._owner] + position[inside]
        self._mine, self._home, self._length = offset[targets], home[targets], unit_length[targets]
        self.job = SpanJob(
            memory=memory,
            data=offset[:count],
            parity=offset[count:],
            row=job.row[parity],
            lost=job.lost[parity],
            data_start=data_start.astype(np.int32),
            parity_start=parity_start.astype(np.int32),
            k=job.k.copy(),
            m=job.m.copy(),
            column=job.column.copy(),
            length=job.length.copy(),
            status=np.zeros(len(k), np.int8),
        )
