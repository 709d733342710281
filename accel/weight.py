"""How much work a row is, in bytes that count: those of a packet, or of all data units of a span.

Who serves is decided by it, and what a batch should take is judged by it: spans of (10, 4) and of (32, 8) have units of
the same size, and one is three times the other.
"""

from __future__ import annotations

from accel.engine import Job, SpanJob


def octets_of(job: Job, row: int) -> int:
    """Return the bytes of a row that count."""
    return int(job.length[row]) * (int(job.k[row]) if isinstance(job, SpanJob) else 1)


def mean_octets(job: Job) -> float:
    """Return the mean over all rows of a job that has some."""
    return float((job.length * job.k if isinstance(job, SpanJob) else job.length).mean())
