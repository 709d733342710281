"""What software does for a serving operation: work in the place of an engine, and compute results a second time."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from accel.audit import RowAudit
from accel.engine import Job, OpenJob, Operation, SpanJob, Status
from accel.isolation import Isolation, pick, pick_done
from accel.key_board import Keys
from accel.life import Cause, State
from accel.rung import Clock, Failure, Rung, unfinished

COUNTS = ("redone", "audited", "mismatched", "confirmed", "disputed", "lost")
"""Rows done again in software; computed twice; that differed; rejections of devices looked at again; that somebody who
used them found wrong; that nobody could do."""

Rows = NDArray[np.int64]


class Software(ABC):
    """The base of :class:`accel.serving.Serving`.

    Attributes
    ----------
    operation
        What is served.
    session
        Takes keys.
    spares
        Who stands in, best first.
    counts
        Rows by what befell them; see COUNTS.
    """

    def __init__(self, operation: Operation, clock: Clock) -> None:
        self.operation = operation
        self.counts = dict.fromkeys(COUNTS, 0)
        self.session = Keys(operation)
        self.session.on_failure = self._failed
        self.spares: list[Rung] = []
        self._clock = clock
        self._row_audit = RowAudit()

    def _now(self) -> float:
        return self._clock() * 1e-9

    def _spare_for(self, rung: Rung) -> Rung | None:
        """Return the software engine that stands in for another one: the best that is well, else a suspect one."""
        others = [other for other in (*self.spares, *self.session.rungs) if other.trusted and other is not rung]
        for state in (State.SERVING, State.SUSPECT):
            for other in others:
                if other.life.state is state:
                    return other
        return None

    def _audited(self, rung: Rung, job: Job, row: int) -> bool:
        """Return whether one row of a CPU engine's batch is right, as far as anybody here can tell."""
        spare = self._spare_for(rung)
        if spare is None or job.status[row] not in (Status.DONE, Status.REJECTED):
            return True
        if not isinstance(job, SpanJob):
            try:
                if self._row_audit.same(spare.engine, spare.session, job, row):
                    self.counts["audited"] += 1
                    return True
            except Exception as error:  # the auditor is sick, not the audited
                self._failed(spare, Failure(Cause.FAULT, f"{type(error).__name__}: {error}"))
                return True
        elif self.operation is Operation.FEC_ENCODE and job.m[row] > 1:
            job = job._replace(m=np.minimum(job.m, 1))  # one unit of parity stands for all
        return not self._differing(rung, job, np.array([row]))

    def _differing(self, rung: Rung, job: Job, rows: Rows | None = None) -> bool:
        """Return whether software computes other results than a job holds; that is the end of the engine's service."""
        spare = self._spare_for(rung)
        if spare is None:
            return False
        again = Isolation(job if rows is None else pick_done(job, rows), self.operation)
        self.counts["audited"] += len(again.job.status)
        try:
            spare.engine.submit(spare.session, again.job)
        except Exception as error:  # the auditor is sick, not the audited
            self._failed(spare, Failure(Cause.FAULT, f"{type(error).__name__}: {error}"))
            return False
        wrong = again.differing()
        if len(wrong):
            self.counts["mismatched"] += len(wrong)
            reason = f"{len(wrong)} of {len(again.job.status)} rows differ from what {spare.name} computes"
            self._failed(rung, Failure(Cause.WRONG, reason))
        return len(wrong) > 0

    def _in_software(self, rung: Rung, job: Job, rows: Rows, *, redo: bool = True) -> None:
        """Do rows in the place of an engine, from the untouched source, under the same packet numbers."""
        self.counts["redone"] += len(rows) if redo else 0
        again = job if len(rows) == len(job.status) else pick(job, rows)
        again.status[:] = Status.PENDING
        for _ in self.session.rungs:
            spare = self._spare_for(rung)
            if spare is None:
                break
            try:
                spare.engine.submit(spare.session, again)
            except Exception as error:  # then the next one
                self._failed(spare, Failure(Cause.FAULT, f"{type(error).__name__}: {error}"))
                continue
            break
        lost = unfinished(again.status)
        again.status[lost] = Status.FAULT
        self.counts["lost"] += len(lost)
        if again is not job:
            job.status[rows] = again.status
            if isinstance(job, OpenJob) and isinstance(again, OpenJob):
                job.number[rows] = again.number

    def _failed(self, rung: Rung, failure: Failure) -> None:
        if failure.cause is Cause.FULL and not failure.reason:
            return  # back-pressure is no fault
        rung.life.failed(failure.cause, failure.reason, self._now())
        self._rebuild()

    @abstractmethod
    def _rebuild(self) -> None:
        """Write down anew whom to call, after somebody's state has changed."""


def all_rows(job: Job) -> Rows:
    """Return the numbers of all rows."""
    return np.arange(len(job.status))
