"""What the reference makes of spans."""

from __future__ import annotations

from accel.engine import Operation, SpanJob
from accel.reference.engine import ReferenceEngine
from accel.trials import copy_job


def encoded(job: SpanJob) -> SpanJob:
    return _done(job, Operation.FEC_ENCODE)


def decoded(job: SpanJob) -> SpanJob:
    return _done(job, Operation.FEC_DECODE)


def _done(job: SpanJob, operation: Operation) -> SpanJob:
    engine, copy = ReferenceEngine(), copy_job(job)
    engine.submit(engine.open(operation), copy)
    return copy
