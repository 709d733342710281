"""What can be asked of a device, or of a service: the verdict on a span before it is computed."""

from __future__ import annotations

from accel.engine import SpanJob, Status
from accel.gf256 import COLUMNS, ROWS
from drivers.kernel import kernel

PENDING, DONE, REJECTED, FAULT = int(Status.PENDING), int(Status.DONE), int(Status.REJECTED), int(Status.FAULT)


@kernel
def verdict_on_span(job: SpanJob, i: int, decode: int) -> int:
    """Return PENDING for a span that can be computed, REJECTED for one that nobody can.

    A FAULT is one of odd sizes, which software is left to judge.
    """
    k, m, start = int(job.k[i]), int(job.m[i]), int(job.parity_start[i])
    if k < 1 or k > COLUMNS or (decode != 0 and m > k):
        return REJECTED
    if m < 0 or m > ROWS:
        return FAULT
    for p in range(start, start + m):
        if job.row[p] >= ROWS or (decode != 0 and job.lost[p] >= k):
            return REJECTED
        if decode != 0:
            for before in range(start, p):
                if job.row[before] == job.row[p] or job.lost[before] == job.lost[p]:
                    return REJECTED
    return FAULT if job.length[i] < 0 else PENDING
