"""What is done with each span of a batch for a device, compiled: its units are packed, its matrix and place described.

Words of a lane's work, as code1.h reads them::

    | header | matrices | spans of the general kernel | rows of matrices | strips | places of every span's units |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from accel.device.parts import add_to_part, is_larger
from accel.device.runs import append_run, are_pinned
from accel.engine import SpanJob
from accel.gf256 import COLUMNS
from accel.kernels.memory import copy_bytes, padded_length
from accel.kernels.spans import FAULT, PENDING, verdict_on_span
from drivers.kernel import kernel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNIT = 16
"""Bytes that an item works on; units are padded to a multiple of it."""
HEADER = 24
"""Words before the first descriptor."""
DESCRIPTOR = 8
"""Words of a matrix, and of a span."""
ITEMS = 5
"""Word of the header where the items of the launches are."""
COEFFICIENT = 8
"""Words of a coefficient's table."""
GROUP = 4
"""Targets of an item."""
_UNIT, _MATRIX, _OWNER, _FIRST = range(4)
"""Rows of the scratch: place of a span's units, matrix of a span; span that has a matrix, coefficients before it."""


@kernel
def admit_spans(
    job: SpanJob, decode: int, room: NDArray[np.int64], rows: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[int, int]:
    """Have every span that can be computed be PENDING, and give the others their statuses; part them over lanes.

    A lane has ``room`` for bytes of source and target, words of work and of scratch; a span that is larger than that is
    a FAULT. ``rows`` receives the pending ones, ``ends`` how many there are at the end of each part. Returns how many
    rows, and parts, there are.
    """
    count = parts = 0
    used = (0, 0, 0, 0)
    for i in range(len(job.status)):
        verdict = verdict_on_span(job, i, decode)
        if verdict == PENDING:
            k, m, size = int(job.k[i]), int(job.m[i]), padded_length(int(job.length[i]))
            need = k * size, m * size, 2 * DESCRIPTOR + 3 * m + k, COEFFICIENT * k * m
            if is_larger(need, room):
                verdict = FAULT
            else:
                used, parts = add_to_part(need, used, room, ends, count, parts)
                rows[count] = i
                count += 1
        job.status[i] = verdict
    if count:
        ends[parts] = count
        parts += 1
    return count, parts


@kernel
def lay_spans(
    job: SpanJob,
    places: NDArray[np.int64],
    how: tuple[int, int, int],
    shape: NDArray[np.int64],
    lane: tuple[NDArray[np.uint8], NDArray[np.uint32]],
    scratch: NDArray[np.int64],
    table: NDArray[np.int64],
) -> tuple[int, int, int, int, int, int]:
    """Copy spans into a lane and describe them.

    To decode, the parity units stand where something is lost; those that a device copies, behind all data units.

    Parameters
    ----------
    places
        The spans.
    how
        Whether to decode, words to leave free for strips, and whether to copy the units, which a device may do itself.
    shape
        [spans] -1 = it goes to the general kernel.
    lane
        Source and work.
    scratch
        [4, spans] receives in its first row the word where each span's units are described.
    table
        Zeroed, a power of two, at least twice the spans.

    Returns
    -------
    tuple
        Bytes of source and target, words of work, coefficients, items of the general kernel, and where strips go.
    """
    decode, extra, copying = how
    source, work = lane
    for word in range(HEADER):
        work[word] = 0
    matrices, general = _number_matrices(job, places, decode, shape, scratch, table)
    begin, coefficients = _describe_matrices(job, places, decode, (matrices, general), work, scratch)
    free = begin + extra
    items = data = target = turn = 0
    parity = _data_bytes(job, places)
    for i in range(len(places)):
        span = places[i]
        k, m, size = int(job.k[span]), int(job.m[span]), padded_length(int(job.length[span]))
        scratch[_UNIT, i] = free
        if shape[i] < 0:
            at = HEADER + DESCRIPTOR * (matrices + turn)
            work[at], work[at + 1], work[at + 2], work[at + 3] = items, k, m, free
            work[at + 4], work[at + 5] = scratch[_FIRST, scratch[_MATRIX, i]], size // UNIT
            items += size // UNIT * ((m + GROUP - 1) // GROUP)
            turn += 1
        if copying != 0:
            _copy_in(job, span, decode, source.ctypes.data + data)
        for j in range(k):
            work[free + j] = (data + j * size) // UNIT
        if decode != 0 and copying == 0:
            for p in range(m):
                lost = int(job.lost[job.parity_start[span] + p])
                work[free + lost] = (parity + p * size) // UNIT
            parity += m * size
        for p in range(m):
            work[free + k + p] = (target + p * size) // UNIT
        free, data, target = free + k + m, data + k * size, target + m * size
    work[0], work[1], work[ITEMS], work[ITEMS + 1] = matrices, general, coefficients, items
    return parity if decode != 0 and copying == 0 else data, target, free, coefficients, items, begin


@kernel
def _data_bytes(job: SpanJob, places: NDArray[np.int64]) -> int:
    """Return the bytes of all data units: where parity units begin that a device copies behind them, to decode."""
    size = 0
    for i in range(len(places)):
        size += int(job.k[places[i]]) * padded_length(int(job.length[places[i]]))
    return size


@kernel
def _copy_in(job: SpanJob, span: int, decode: int, source: int) -> None:
    """Copy the data units of a span; to decode, the parity units stand where something is lost."""
    memory, length, size = job.memory.ctypes.data, int(job.length[span]), padded_length(int(job.length[span]))
    units, start = int(job.data_start[span]), int(job.parity_start[span])
    for j in range(int(job.k[span])):
        home = job.data[units + j]
        if decode != 0:
            for p in range(start, start + int(job.m[span])):
                if job.lost[p] == j:
                    home = job.parity[p]
        copy_bytes(source + j * size, memory + home, length)


@kernel
def _number_matrices(
    job: SpanJob,
    places: NDArray[np.int64],
    decode: int,
    shape: NDArray[np.int64],
    scratch: NDArray[np.int64],
    table: NDArray[np.int64],
) -> tuple[int, int]:
    """Give every span of the general kernel the number of its matrix; return how many there are, of matrices and spans.

    Spans that are encoded with the same k, column and rows share one; what was lost is another matrix each time.
    """
    matrices = general = 0
    for i in range(len(places)):
        if shape[i] >= 0:
            continue
        general += 1
        place = _hash(job, places[i]) & (len(table) - 1)
        while decode == 0 and table[place] > 0:
            if _same_matrix(job, places[scratch[_OWNER, table[place] - 1]], places[i]):
                break
            place = (place + 1) & (len(table) - 1)
        if decode != 0 or table[place] == 0:
            scratch[_OWNER, matrices] = i
            matrices += 1
            table[place] = matrices
            scratch[_MATRIX, i] = matrices - 1
        else:
            scratch[_MATRIX, i] = table[place] - 1
    return matrices, general


@kernel
def _hash(job: SpanJob, span: int) -> int:
    found = int(job.k[span]) + 131 * int(job.column[span]) + 8191 * int(job.m[span])
    start = int(job.parity_start[span])
    for p in range(start, start + int(job.m[span])):
        found = (found * 31 + int(job.row[p])) & 0x3FFFFFFF
    return found ^ (found >> 13)


@kernel
def _same_matrix(job: SpanJob, one: int, other: int) -> bool:
    if job.k[one] != job.k[other] or job.m[one] != job.m[other] or job.column[one] != job.column[other]:
        return False
    for p in range(int(job.m[one])):
        if job.row[job.parity_start[one] + p] != job.row[job.parity_start[other] + p]:
            return False
    return True


@kernel
def _describe_matrices(
    job: SpanJob,
    places: NDArray[np.int64],
    decode: int,
    counts: tuple[int, int],
    work: NDArray[np.uint32],
    scratch: NDArray[np.int64],
) -> tuple[int, int]:
    """Describe the matrices; return the first word behind their rows, and how many coefficients they have."""
    matrices, general = counts
    free, coefficients = HEADER + DESCRIPTOR * (matrices + general), 0
    for number in range(matrices):
        span = places[scratch[_OWNER, number]]
        k, m, start = int(job.k[span]), int(job.m[span]), int(job.parity_start[span])
        at = HEADER + DESCRIPTOR * number
        scratch[_FIRST, number] = coefficients
        work[at], work[at + 1], work[at + 2] = coefficients, k, m
        work[at + 3], work[at + 4], work[at + 5] = int(job.column[span]) & (COLUMNS - 1), free, decode
        for p in range(m):
            work[free + p] = job.row[start + p]
            if decode != 0:
                work[free + m + p] = job.lost[start + p]
        free, coefficients = free + (2 * m if decode != 0 else m), coefficients + k * m
    return free, coefficients


@kernel
def take_spans(job: SpanJob, places: NDArray[np.int64], decode: int, target: NDArray[np.uint8], done: int) -> None:
    """Copy parity, or rebuilt units, to the job's memory; the spans have the status ``done`` then."""
    memory, place = job.memory.ctypes.data, target.ctypes.data
    for i in range(len(places)):
        span = places[i]
        length, size = int(job.length[span]), padded_length(int(job.length[span]))
        units, start = int(job.data_start[span]), int(job.parity_start[span])
        for p in range(start, start + int(job.m[span])):
            home = job.data[units + int(job.lost[p])] if decode != 0 else job.parity[p]
            copy_bytes(memory + home, place, length)
            place += size
        job.status[span] = done


@kernel
def find_runs(
    job: SpanJob, places: NDArray[np.int64], parity: int, pinned: NDArray[np.int64], runs: NDArray[np.int64]
) -> int:
    """Find the runs of memory that the data units, or the ``parity`` units, of spans are, padded as in a lane.

    ``runs`` [most, 2] receives address and bytes of each. Returns how many there are; -1 when there are more, or one is
    not within a range of ``pinned`` [n, 2], of addresses and bytes.
    """
    memory, count = job.memory.ctypes.data, 0
    for i in range(len(places)):
        span = places[i]
        size, many = padded_length(int(job.length[span])), int(job.m[span] if parity != 0 else job.k[span])
        start = int(job.parity_start[span] if parity != 0 else job.data_start[span])
        for unit in range(start, start + many):
            count = append_run(runs, count, memory + (job.parity[unit] if parity != 0 else job.data[unit]), size)
    return are_pinned(runs, count, pinned)
