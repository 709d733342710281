"""What the compiled packing of a ring does, row by row in plain Python: the reference of test_rows.py."""

from __future__ import annotations

from collections.abc import Iterator

from accel.engine import OpenJob, SealJob, SpanJob, Status
from accel.service.columns import Slot


def padded(length: int) -> int:
    return -(-length // 16) * 16


def room_of(packet: int) -> int:
    """Return the bytes that a packet takes: its payload begins at a multiple of 16, behind 13 bytes of header."""
    return 16 + padded(packet - 13)


# --- spans


def verdict_on_span(job: SpanJob, i: int, room: int, *, decode: bool) -> Status:
    k, m, start, length = int(job.k[i]), int(job.m[i]), int(job.parity_start[i]), int(job.length[i])
    if not 1 <= k <= 128 or (decode and m > k):
        return Status.REJECTED
    if not 0 <= m <= 127:
        return Status.FAULT
    rows, lost = job.row[start : start + m].tolist(), job.lost[start : start + m].tolist()
    if any(row > 126 for row in rows):
        return Status.REJECTED
    if decode and (any(each >= k for each in lost) or len(set(rows)) < m or len(set(lost)) < m):
        return Status.REJECTED
    return Status.FAULT if length < 0 or padded(length) * max(k, m) > room else Status.PENDING


def fitting_spans(job: SpanJob, begin: int, slot: Slot) -> tuple[list[int], int]:
    """Return the pending spans that a slot holds, and where to go on."""
    held: list[int] = []
    for i in range(begin, len(job.status)):
        if len(held) == len(slot.status):
            return held, i
        if job.status[i] != Status.PENDING:
            continue
        some = [*held, i]
        size = [padded(int(job.length[each])) for each in some]
        data = sum(each * int(job.k[span]) for each, span in zip(size, some, strict=True))
        parity = sum(each * int(job.m[span]) for each, span in zip(size, some, strict=True))
        units = sum(int(job.m[span]) for span in some)
        if data > len(slot.source) or parity > len(slot.target) or units > len(slot.row):
            return held, i
        held = some
    return held, len(job.status)


def units_of(job: SpanJob, rows: list[int], slot: Slot) -> Iterator[tuple[int, bool, int, memoryview, memoryview]]:
    """Yield every unit of spans in a slot: span, whether it is parity, its number, its place there and at home."""
    data = parity = 0
    for i in rows:
        length = int(job.length[i])
        for j in range(int(job.k[i])):
            home = int(job.data[job.data_start[i] + j])
            yield i, False, j, slot.source.data[data : data + length], job.memory.data[home : home + length]
            data += padded(length)
        for p in range(int(job.m[i])):
            home = int(job.parity[job.parity_start[i] + p])
            yield i, True, p, slot.target.data[parity : parity + length], job.memory.data[home : home + length]
            parity += padded(length)


def lost_in(job: SpanJob, i: int) -> list[int]:
    start = int(job.parity_start[i])
    return [int(each) for each in job.lost[start : start + int(job.m[i])]]


def pack_spans(job: SpanJob, begin: int, slot: Slot, *, decode: bool) -> tuple[list[int], int, int]:
    rows, after = fitting_spans(job, begin, slot)
    parities = 0
    for n, i in enumerate(rows):
        slot.words[:, n] = job.k[i], job.m[i], job.column[i], job.length[i]
        start = int(job.parity_start[i])
        for p in range(int(job.m[i])):
            slot.row[parities + p] = job.row[start + p]
            if decode:
                slot.lost[parities + p] = job.lost[start + p]
        parities += int(job.m[i])
    for i, is_parity, number, there, home in units_of(job, rows, slot):
        if decode if is_parity else not (decode and number in lost_in(job, i)):
            there[:] = home
    return rows, parities, after


def unpack_spans(job: SpanJob, slot: Slot, rows: list[int], *, decode: bool) -> None:
    verdicts = dict(zip(rows, slot.status.tolist(), strict=False))
    for i, is_parity, number, there, home in units_of(job, rows, slot):
        wanted = (not is_parity and number in lost_in(job, i)) if decode else is_parity
        if wanted and verdicts[i] == Status.DONE:
            home[:] = there
    for i, verdict in verdicts.items():
        job.status[i] = verdict


# --- packets


def choose_packets(job: SealJob | OpenJob, room: int) -> None:
    growth, shortest = (16, 17) if isinstance(job, SealJob) else (-16, 33)
    for i in range(len(job.status)):
        length, target = int(job.length[i]), int(job.target_offset[i])
        if length < shortest:
            job.status[i] = Status.REJECTED
            job.target[target : target + max(length + growth, 0)] = 0
        else:
            size = max(room_of(length), room_of(length + growth))
            job.status[i] = Status.FAULT if size > room else Status.PENDING


def pack_packets(job: SealJob | OpenJob, begin: int, slot: Slot) -> tuple[list[int], int]:
    growth = 16 if isinstance(job, SealJob) else -16
    rows: list[int] = []
    place = target = 0
    for i in range(begin, len(job.status)):
        if len(rows) == len(slot.status):
            return rows, i
        if job.status[i] != Status.PENDING:
            continue
        length = int(job.length[i])
        grown = room_of(length + growth)
        if place + room_of(length) > len(slot.source) or target + grown > len(slot.target):
            return rows, i
        slot.words[0, len(rows)], slot.words[1, len(rows)], slot.number[len(rows)] = length, job.slot[i], job.number[i]
        home = int(job.source_offset[i])
        slot.source[place + 3 : place + 3 + length] = job.source[home : home + length]
        place, target = place + room_of(length), target + grown
        rows.append(i)
    return rows, len(job.status)


def unpack_packets(job: SealJob | OpenJob, slot: Slot, rows: list[int]) -> None:
    growth = 16 if isinstance(job, SealJob) else -16
    place = 0
    for n, i in enumerate(rows):
        size, home = int(job.length[i]) + growth, int(job.target_offset[i])
        if slot.status[n] == Status.DONE:
            job.target[home : home + size] = slot.target[place + 3 : place + 3 + size]
            if isinstance(job, OpenJob):
                job.number[i] = slot.number[n]
        elif slot.status[n] == Status.REJECTED:
            job.target[home : home + size] = 0
        job.status[i] = slot.status[n]
        place += room_of(size)
