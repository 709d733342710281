"""What is done with each span of a submission, compiled: the client packs and unpacks, the service looks and lays out.

In a slot, data units lie behind each other in ``source`` and parity units in ``target``, each padded to a multiple of
16. To decode, a slot's parity units are input, and what is rebuilt stands in ``source`` where it was lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from accel.engine import SpanJob
from accel.gf256 import COLUMNS, ROWS
from accel.kernels.memory import copy_bytes, padded_length
from accel.kernels.spans import DONE, FAULT, PENDING, verdict_on_span
from drivers.kernel import kernel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from accel.service.columns import Own, Slot, SpanColumns

GOOD, BAD_K, BAD_M, BAD_LENGTH, BAD_PARITIES, MUCH_DATA, MUCH_PARITY = range(7)
"""What :func:`look_at_spans` finds."""

# --- at the client


@kernel
def choose_spans(job: SpanJob, decode: int, room: int) -> int:
    """Have every span that is worth asking for be PENDING, and give the others their statuses; return how many are.

    What cannot be computed is REJECTED; what a slot with ``room`` bytes for data and for parity does not hold is a
    FAULT: software does it.
    """
    pending = 0
    for i in range(len(job.status)):
        verdict = verdict_on_span(job, i, decode)
        if verdict == PENDING:
            if padded_length(int(job.length[i])) * max(int(job.k[i]), int(job.m[i])) > room:
                verdict = FAULT
            else:
                pending += 1
        job.status[i] = verdict
    return pending


@kernel
def pack_spans(job: SpanJob, decode: int, begin: int, slot: Slot, rows: NDArray[np.int64]) -> tuple[int, int, int]:
    """Copy pending spans from ``begin`` on into a slot until it is full; ``rows`` receives which.

    Returns how many, how many parity units they have, and where to go on.
    """
    data = parity = count = parities = 0
    i = begin
    while i < len(job.status) and count < len(slot.status):
        if job.status[i] == PENDING:
            k, m, size = int(job.k[i]), int(job.m[i]), padded_length(int(job.length[i]))
            if data + k * size > len(slot.source) or parity + m * size > len(slot.target):
                break
            if parities + m > len(slot.row):
                break
            slot.words[0, count], slot.words[1, count] = k, m
            slot.words[2, count], slot.words[3, count] = job.column[i], job.length[i]
            start = int(job.parity_start[i])
            for p in range(m):
                slot.row[parities + p] = job.row[start + p]
                if decode != 0:
                    slot.lost[parities + p] = job.lost[start + p]
            _copy_in(job, i, decode, slot.source.ctypes.data + data, slot.target.ctypes.data + parity)
            rows[count] = i
            data, parity, parities, count = data + k * size, parity + m * size, parities + m, count + 1
        i += 1
    return count, parities, i


@kernel
def _copy_in(job: SpanJob, i: int, decode: int, source: int, target: int) -> None:
    """Copy the data units of a span, and to decode its parity units but not what is lost."""
    memory, length, size = job.memory.ctypes.data, int(job.length[i]), padded_length(int(job.length[i]))
    units, start, m = int(job.data_start[i]), int(job.parity_start[i]), int(job.m[i])
    for j in range(int(job.k[i])):
        known = True
        if decode != 0:
            for p in range(start, start + m):
                known = known and job.lost[p] != j
        if known:
            copy_bytes(source + j * size, memory + job.data[units + j], length)
    if decode != 0:
        for p in range(m):
            copy_bytes(target + p * size, memory + job.parity[start + p], length)


@kernel
def unpack_spans(job: SpanJob, decode: int, slot: Slot, rows: NDArray[np.int64], count: int) -> None:
    """Copy parity, or rebuilt units, of spans that are DONE from a slot to the job's memory; give all a status."""
    memory, source, target = job.memory.ctypes.data, slot.source.ctypes.data, slot.target.ctypes.data
    for n in range(count):
        i = rows[n]
        length, size, m = int(job.length[i]), padded_length(int(job.length[i])), int(job.m[i])
        units, start = int(job.data_start[i]), int(job.parity_start[i])
        verdict = slot.status[n]
        if verdict == DONE:
            for p in range(m):
                if decode != 0:
                    lost = int(job.lost[start + p])
                    copy_bytes(memory + job.data[units + lost], source + lost * size, length)
                else:
                    copy_bytes(memory + job.parity[start + p], target + p * size, length)
        job.status[i] = verdict
        source, target = source + int(job.k[i]) * size, target + m * size


# --- at the service


@kernel
def look_at_spans(own: Own, count: int, parities: int, room: int) -> tuple[int, int, int]:
    """Bound a submission of which ``own`` is a copy that no client can change.

    Returns what is wrong with it, which value that is, and the bytes that it takes of a lane, in the larger direction.
    """
    data = parity = units = largest = 0
    for i in range(count):
        k, m, length = int(own.words[0, i]), int(own.words[1, i]), int(own.words[3, i])
        if k < 1 or k > COLUMNS:
            return BAD_K, k, 0
        if m < 0 or m > ROWS:
            return BAD_M, m, 0
        if length < 0 or length > room:
            return BAD_LENGTH, length, 0
        size = padded_length(length)
        data, parity, units, largest = data + k * size, parity + m * size, units + m, largest + max(k, m) * size
    if units != parities:
        return BAD_PARITIES, parities, 0
    if data > room:
        return MUCH_DATA, data, 0
    if parity > room:
        return MUCH_PARITY, parity, 0
    return GOOD, 0, largest


@kernel
def lay_spans(own: Own, count: int, tray: SpanColumns, at: tuple[int, int, int], source: int, target: int) -> int:
    """Append a submission that was looked at to a job of the device; return how many data units it has.

    ``at`` are the rows, data units and parity units that the job has, ``source`` and ``target`` where in its memory the
    slot's are.
    """
    row, unit, parity = at
    for i in range(count):
        k, m, size = int(own.words[0, i]), int(own.words[1, i]), padded_length(int(own.words[3, i]))
        for word in range(4):
            tray.words[word, row + i] = own.words[word, i]
        tray.data_start[row + i], tray.parity_start[row + i] = unit, parity
        tray.status[row + i] = PENDING
        for j in range(k):
            tray.data[unit + j] = source + j * size
        for p in range(m):
            tray.parity[parity + p] = target + p * size
            tray.row[parity + p], tray.lost[parity + p] = own.row[parity - at[2] + p], own.lost[parity - at[2] + p]
        source, target, unit, parity = source + k * size, target + m * size, unit + k, parity + m
    return unit - at[1]
