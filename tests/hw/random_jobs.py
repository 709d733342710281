"""Random jobs in large batches, made by numpy: packets of any length, key and number; spans of any shape and losses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accel.calls import address_of, copy_ranges
from accel.engine import TAG_LENGTH, OpenJob, SealJob, SpanJob
from accel.trials import GUARD
from tests.engines.engine_list import NO_KEY, PHASE_0_ONLY, SUITE_SLOT
from tests.ragged import ragged

_SLOTS = np.array([*list(SUITE_SLOT.values()) * 8, PHASE_0_ONLY, NO_KEY], np.int32)
"""Most packets have keys."""
_LONGEST_PACKET, _LONGEST_UNIT, _WIDEST, _MOST_ROWS = 1500, 400, 128, 127
_Places = NDArray[np.int64]


def random_packets(generator: np.random.Generator, count: int) -> SealJob:
    """Return ``count`` packets to be sealed, between guard bytes, at offsets that no device would choose."""
    length = generator.integers(17, _LONGEST_PACKET, count, np.int32)
    number = generator.integers(0, 1 << 62, count) >> generator.integers(0, 62, count)
    source_offset, size = _places(generator, length)
    target_offset, room = _places(generator, length + TAG_LENGTH)
    source = generator.integers(0, 256, size, np.uint8)
    source[source_offset] = 0x43 | generator.integers(0, 2, count) << 2
    for byte in range(4):
        source[source_offset + 9 + byte] = number >> (24 - 8 * byte) & 0xFF
    return SealJob(
        source=source,
        source_offset=source_offset,
        length=length,
        target=np.full(room, GUARD, np.uint8),
        target_offset=target_offset,
        slot=generator.choice(_SLOTS, count),
        number=number,
        status=np.zeros(count, np.int8),
    )


def arriving(generator: np.random.Generator, sealed: SealJob) -> OpenJob:
    """Return the packets of a finished job as they arrive: one in four damaged, misaddressed or out of its window."""
    count = len(sealed.status)
    source, slot = sealed.target.copy(), sealed.slot.copy()
    length, number = sealed.length + np.int32(TAG_LENGTH), sealed.number - 1
    fate = generator.integers(0, 12, count)
    hit = np.flatnonzero(fate == 0)
    place = sealed.target_offset[hit] + generator.integers(0, length[hit])
    source[place] ^= (1 << generator.integers(0, 8, len(hit))).astype(np.uint8)
    slot[fate == 1] = generator.choice(_SLOTS, int((fate == 1).sum()))
    number[fate == 2] = generator.integers(-1, 1 << 62, int((fate == 2).sum()))
    target_offset, room = _places(generator, sealed.length)
    return OpenJob(
        source=source,
        source_offset=sealed.target_offset.copy(),
        length=length,
        target=np.full(room, GUARD, np.uint8),
        target_offset=target_offset,
        slot=slot,
        number=number,
        status=np.zeros(count, np.int8),
    )


def random_spans(generator: np.random.Generator, count: int) -> SpanJob:
    """Return ``count`` spans of random data; parity units are guard bytes, and each has a loss pattern of its own.

    Every other one, about, is as the pipeline has them, column 0 and the first rows: there are kernels for these.
    """
    k = np.minimum(generator.integers(1, 20, count) * 8 ** generator.integers(0, 2, count), _WIDEST)
    m = np.minimum(generator.integers(0, 10, count) * 4 ** generator.integers(0, 2, count), k)
    length = generator.integers(1, _LONGEST_UNIT, count)
    units = k + m
    start, size = _places(generator, np.repeat(length, units))
    first = np.cumsum(units) - units
    data, parity = start[ragged(first, k)], start[ragged(first + k, m)]
    memory = generator.integers(0, 256, size, np.uint8)
    _fill(memory, parity, np.repeat(length, m))
    turn = np.arange(_MOST_ROWS)
    first_rows = generator.integers(0, 2, count).astype(bool)
    places = np.where(first_rows[:, None], turn / _MOST_ROWS, generator.random((count, _MOST_ROWS)))
    rows = np.argsort(places, 1)[turn < m[:, None]]
    order = np.where(np.arange(_WIDEST) < k[:, None], generator.random((count, _WIDEST)), 2.0)
    lost = np.argsort(order, 1)[:, :_MOST_ROWS][turn < m[:, None]]
    return SpanJob(
        memory=memory,
        data=data,
        parity=parity,
        row=rows.astype(np.uint8),
        lost=lost.astype(np.uint8),
        data_start=(np.cumsum(k) - k).astype(np.int32),
        parity_start=(np.cumsum(m) - m).astype(np.int32),
        k=k.astype(np.int32),
        m=m.astype(np.int32),
        column=np.where(first_rows, 0, generator.integers(0, 256, count)).astype(np.int32),
        length=length.astype(np.int32),
        status=np.zeros(count, np.int8),
    )


def losing(encoded: SpanJob) -> SpanJob:
    """Return the job that rebuilds what a finished job would lose, with those units gone."""
    memory = encoded.memory.copy()
    lost = np.repeat(encoded.data_start, encoded.m) + encoded.lost
    _fill(memory, encoded.data[lost], np.repeat(encoded.length, encoded.m).astype(np.int64))
    return encoded._replace(memory=memory, status=np.zeros_like(encoded.status))


def some_rows(job: SealJob | OpenJob, rows: _Places) -> SealJob | OpenJob:
    """Return a job of a few rows, in memory of its own."""
    columns = ("source_offset", "length", "target_offset", "slot", "number", "status")
    return job._replace(target=job.target.copy(), **{name: getattr(job, name)[rows] for name in columns})


def some_spans(job: SpanJob, spans: _Places) -> SpanJob:
    """Return a job of a few spans, in memory of its own."""
    columns = ("data_start", "parity_start", "k", "m", "column", "length", "status")
    return job._replace(memory=job.memory.copy(), **{name: getattr(job, name)[spans] for name in columns})


def _places(generator: np.random.Generator, length: NDArray[np.integer]) -> tuple[_Places, int]:
    """Return offsets of rows with up to 20 bytes between them, and the bytes that they need together."""
    gap = generator.integers(0, 21, len(length) + 1)
    ends = np.cumsum(length + gap[:-1])
    return ends - length, int(ends[-1] if len(ends) else 0) + int(gap[-1])


def _fill(memory: NDArray[np.uint8], place: _Places, length: _Places) -> None:
    """Fill ranges with guard bytes."""
    guard = np.full(_LONGEST_UNIT, GUARD, np.uint8)
    copy_ranges(address_of(memory) + place, np.full(len(place), address_of(guard)), length)
