"""An operation that is being served, by whichever engine is best for a batch and well at the moment.

The fast path is that of a CPU engine: a table by batch size says whom to call, and the statuses are compared with what
a good batch leaves. About one row in 1024 is computed a second time by another software engine, of a busy operation one
in half a second. Devices work on a copy of the job (:mod:`accel.isolation`), under a deadline, and software does
again what they do not do, or do wrong: from the untouched source, under the same packet numbers, by an engine that has
held the same keys from the start. A batch is complete, and in order, when :meth:`Serving.run` returns.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from accel.engine import Engine, EngineSession, Job, Operation, Status, Ticket
from accel.finished import FINISHED, Finished
from accel.isolation import Isolation
from accel.lease import LEFT, Lease
from accel.life import PROBATION_SHARE, Cause, State
from accel.rung import Clock, Failure, Rung, Step, unfinished
from accel.software import Rows, Software, all_rows
from accel.weight import octets_of
from drivers.errors import DriverError

AUDIT_SHARE = 1024
"""One row in so many is computed twice, on average."""
REBUILT_SHARE = 8 * AUDIT_SHARE
"""The same of rebuilt spans, each shard of which has a CRC that is looked at anyway."""
AUDIT_EVERY = 2.0
"""Seconds from one to the next, on average, of an operation with so many rows that the share would be more often: one
costs Python a millisecond when its code has fallen out of the caches, at 500 Mbit/s a quarter of a worker."""
_MOST_APART = 16
"""Times the share that two are apart at most, however busy the operation is: it may be idle soon, and stay so."""
_LOOK_EVERY = 0.05
"""Seconds between looks at everybody's health, while there are packets."""
_SOON = 64
"""Rows until the next look, while an engine is being tested: a step at each."""
_TABLE = 1024
"""Rows of a batch beyond which it does not matter how many there are."""
_LEAST_TIMED = 20_000
"""Nanoseconds of a CPU engine's batch below which reading the clock is too coarse."""
_DONE = [bytes([Status.DONE]) * count for count in range(_TABLE + 1)]
_SETTLED = Finished()
"""The ticket of a batch that has had all the care there is."""
_Submit = Callable[[Any, Any], Ticket | None]


class Serving(Software):
    """An operation, whoever computes it.

    Attributes
    ----------
    operation
        What is served.
    session
        Takes keys.
    counts
        Rows by what befell them; see COUNTS.
    opening
        Which engine is wanted and being opened, in words that begin with its name; empty when none is.
    lease
        By which compiled code may call the engine that serves, between two rows that are computed twice.
    """

    def __init__(
        self,
        engine: Engine,
        session: EngineSession,
        spares: Sequence[Engine] = (),
        *,
        clock: Clock = time.perf_counter_ns,
        seed: int | None = None,
    ) -> None:
        """Serve by ``engine``, of which ``session`` is one; ``spares`` are CPU engines that stand in, best first."""
        super().__init__(session.operation, clock)
        self._random = random.Random(seed)
        self._size = 0.0
        self._class = 0
        self._turn = 0
        self._looked = 0.0
        first = Rung(engine, session, clock)
        self.spares = [Rung(spare, spare.open(self.operation), clock) for spare in spares if spare is not engine]
        self.session.rungs = [first, *self.spares]
        self._ladders: dict[int, list[tuple[int, Rung]]] = {0: [(0, first)]}
        self.opening = ""
        self.lease = Lease()
        self._words = self.lease.view
        self._audit_rows, self._audit_at, self._pace = 0, self._now(), 0.0
        self._words[LEFT] = self._next_audit()
        self._rebuild()

    @property
    def engine(self) -> Engine:
        """The engine that serves large batches now, if it is well."""
        rung = self._who[-1]
        if rung.life.state is State.SUSPECT:
            rung = self._spare_for(rung) or rung
        return rung.engine

    def run(self, job: Job) -> None:
        """Do ``job`` now: every row has its status on return."""
        count = len(job.status)
        self._words[LEFT] = left = self._words[LEFT] - count
        if left <= 0:
            self._watched(job, count)
            return
        submit, session = self._table[count] if count < _TABLE else self._table[_TABLE]
        try:
            ticket = submit(session, job)
        except Exception as error:  # whatever an engine raises, its packets are not lost
            self._raised(job, error)
            return
        if ticket is not FINISHED or job.status.tobytes() != (_DONE[count] if count <= _TABLE else b""):
            self._settle(job, ticket)

    def dispute(self, job: Job, rows: Rows) -> bool:
        """Compute ``rows`` of a job that was just run again: their results are wrong, as whoever used them has seen.

        Return whether software has other results, which are in their places then; False = the input is to blame.
        """
        self.counts["disputed"] += len(rows)
        rung = self._rung_of(len(job.status))
        if not self._differing(rung, job, rows):
            return False
        self._in_software(rung, job, rows)
        return True

    def adopt(
        self, ladders: Mapping[int, Sequence[Step]], opened: MutableMapping[int, EngineSession] | None = None
    ) -> None:
        """Serve by other engines from now on: weight of a row -> steps by batch size, the first from 0 rows on.

        ``opened`` has sessions by the ``id`` of their engines; what is used of it is taken out. Engines that serve
        already go on with their sessions and their lives; others are opened and get every key.
        Raises DriverError when one cannot be opened; then nothing has changed.
        """
        known = {id(rung.engine): rung for rung in self.session.rungs}
        news: dict[int, Rung] = {}
        try:
            for step in (step for steps in ladders.values() for step in steps):
                if id(step.engine) not in known and id(step.engine) not in news:
                    session = (opened or {}).pop(id(step.engine), None) or step.engine.open(self.operation)
                    rung = Rung(step.engine, session, self._clock)
                    news[id(step.engine)] = rung
                    for slot, spec in self.session.specs.items():
                        rung.session.install_key(slot, spec)
        except (DriverError, OSError, ValueError) as error:
            for rung in news.values():
                rung.session.close()
            raise DriverError(f"{self.operation.value} goes on as before: {error}") from None
        every = known | news
        for step in (step for steps in ladders.values() for step in steps):
            every[id(step.engine)].expect = step.expect
        self._ladders = {
            size: [(step.from_rows, every[id(step.engine)]) for step in steps] for size, steps in ladders.items()
        }
        used = [id(rung) for steps in self._ladders.values() for _, rung in steps] + [id(rung) for rung in self.spares]
        for rung in list(every.values()):
            if id(rung) not in used and rung.serves:  # whoever is in disgrace stays, so that it is not forgotten
                del every[id(rung.engine)]
                rung.session.close()
        self.session.rungs = list(every.values())
        self._rebuild()

    def quarantine(self, name: str, reason: str) -> None:
        """Take the engine ``name`` out until somebody clears it: it was wrong, as another process has seen."""
        for rung in self.session.rungs:
            if rung.name == name:
                self._failed(rung, Failure(Cause.TOLD, reason))

    def clear(self, name: str = "") -> None:
        """Test anew, while packets wait, the engine ``name``, or every one that stays out until somebody clears it."""
        now = self._now()
        for rung in self.session.rungs:
            if not name or rung.name == name:
                rung.life.clear(now)
                while rung.life.due(now) and rung.rearm(self.session.specs, now) is None:
                    pass
        self._rebuild()

    def close(self) -> None:
        """Release every engine and wipe every key."""
        for rung in self.session.rungs:
            rung.give_up_test()
        self.session.close()

    def report(self) -> dict[str, object]:
        """Return who serves, how everybody is, and the counters, as JSON."""
        wanted = self._wanted(_TABLE)
        return {
            "operation": self.operation.value,
            "engine": self.engine.name,
            "wanted": self.opening.partition(" ")[0] or wanted.name,
            "fallback": not wanted.serves or bool(self.opening),
            "reason": (wanted.serves and self.opening) or wanted.life.reason,
            "rungs": [rung.report() for rung in self.session.rungs],
            **self.counts,
        }

    # --- whom to call

    def _next_audit(self) -> int:
        """Return after how many rows one is computed again; at the present pace they take AUDIT_EVERY at least."""
        share = REBUILT_SHARE if self.operation is Operation.FEC_DECODE else AUDIT_SHARE
        now = self._now()
        passed, self._audit_at = now - self._audit_at, now
        pace = self._audit_rows / passed * AUDIT_EVERY if passed > 0.0 else 0.0
        steady, self._pace = min(pace, self._pace), pace  # of the last two: one burst makes no busy operation
        apart = min(max(share, steady), _MOST_APART * share)
        self._audit_rows = 1 + int(self._random.expovariate(1 / apart))
        return self._audit_rows

    def _size_class(self) -> int:
        return max((size for size in self._ladders if size <= self._size), default=min(self._ladders))

    def _wanted(self, count: int) -> Rung:
        return max((step for step in self._ladders[self._class] if step[0] <= count), key=lambda step: step[0])[1]

    def _rung_of(self, count: int) -> Rung:
        return self._who[min(count, _TABLE)]

    def _rebuild(self) -> None:
        """Write down, for every size of batch, whom to call."""
        self._class = self._size_class()
        self._who: list[Rung] = []
        self._table: list[tuple[_Submit, Any]] = []
        entries: dict[int, tuple[_Submit, Any]] = {}
        for count in range(_TABLE + 1):
            rung = self._wanted(count)
            if rung.life.state in (State.QUARANTINED, State.RETIRED):
                rung = self._spare_for(rung) or rung
            if id(rung) not in entries:
                entries[id(rung)] = self._entry(rung)
            self._who.append(rung)
            self._table.append(entries[id(rung)])
        self.lease.give(self._who)

    def _entry(self, rung: Rung) -> tuple[_Submit, Any]:
        if rung.life.state in (State.QUARANTINED, State.RETIRED) and not rung.trusted:
            return self._by_nobody, rung
        if rung.life.state is State.SUSPECT:
            return self._on_probation, rung
        return (rung.engine.submit, rung.session) if rung.trusted else (self._by_device, rung)

    # --- what befalls a batch

    def _raised(self, job: Job, error: Exception) -> None:
        rung = self._rung_of(len(job.status))
        self._failed(rung, Failure(Cause.FAULT, f"{type(error).__name__}: {error}"))
        self._in_software(rung, job, all_rows(job))

    def _settle(self, job: Job, ticket: Ticket | None) -> None:
        """Look at a batch of the fast path that was not all good."""
        if ticket is _SETTLED:
            return
        rung = self._rung_of(len(job.status))
        if ticket is None or not ticket.done:
            self._failed(rung, Failure(Cause.FAULT, "it returned before its work was done"))
            self._in_software(rung, job, all_rows(job))
            return
        bad = unfinished(job.status)
        if len(bad):
            self._failed(rung, Failure(Cause.FAULT, f"{len(bad)} of {len(job.status)} rows have no verdict"))
            self._in_software(rung, job, bad)

    def _by_device(self, rung: Rung, job: Job) -> Ticket:
        """Do a batch on a device, and in software what it did not do, or did wrong."""
        self._at_device(rung, job, whole=False)
        return _SETTLED

    def _by_nobody(self, rung: Rung, job: Job) -> Ticket:
        """Leave a batch undone: the only engine is a device that is out, and no other one may serve."""
        self._in_software(rung, job, all_rows(job))
        return _SETTLED

    def _on_probation(self, rung: Rung, job: Job) -> Ticket:
        """Give a suspect one batch in a hundred and check all of it; do the others in software."""
        self._turn += 1
        spare = self._spare_for(rung)
        if self._turn % PROBATION_SHARE and spare is not None:
            self._in_software(rung, job, all_rows(job), redo=False)
        elif not rung.trusted:
            self._at_device(rung, job, whole=True)
        else:
            rung.engine.submit(rung.session, job)
            if spare is not None and len(unfinished(job.status)) == 0 and not self._differing(rung, job):
                rung.life.worked(self._now())
                self._rebuild()
            elif spare is not None:
                self._in_software(rung, job, all_rows(job))
        return _SETTLED

    def _at_device(self, rung: Rung, job: Job, *, whole: bool) -> None:
        isolation = Isolation(job, self.operation)
        failure = rung.attempt(isolation)
        if failure is None and not isolation.guards_intact():
            failure = Failure(Cause.GUARD, "it wrote outside of its rows")
        if failure is not None:
            self._failed(rung, failure)
            self._in_software(rung, job, all_rows(job))
            return
        bad = unfinished(isolation.job.status)
        good = np.setdiff1d(all_rows(job), bad)
        isolation.write_back(good)
        if len(bad):
            self._failed(rung, Failure(Cause.FAULT, f"{len(bad)} of {len(job.status)} rows have no verdict"))
            self._in_software(rung, job, bad)
        if len(good) and self._differing(rung, job, self._suspicious(isolation, good, whole=whole)):
            self._in_software(rung, job, all_rows(job))
        elif whole and not len(bad):
            rung.life.worked(self._now())
            self._rebuild()

    def _suspicious(self, isolation: Isolation, good: Rows, *, whole: bool) -> Rows:
        """Return the rows of a device's batch that are computed again before anybody sees them.

        One of every batch, so that a device gone mad never gets through; every row that it has rejected; and all
        parity, because a peer that decodes with a wrong one takes this end for an attacker.
        """
        if whole or self.operation is Operation.FEC_ENCODE:
            return good
        rejected = good[isolation.job.status[good] == Status.REJECTED]
        self.counts["confirmed"] += len(rejected)
        return np.union1d(rejected, good[[self._random.randrange(len(good))]])

    # --- the watch

    def _watched(self, job: Job, count: int) -> None:
        """Do a batch, compute one row of it again, measure it, and now and then look after everybody."""
        place = self._words[LEFT] + count - 1
        self._words[LEFT] = self._next_audit()
        rung = self._rung_of(count)
        submit, session = self._table[min(count, _TABLE)]
        begun = time.thread_time_ns()
        try:
            ticket = submit(session, job)
        except Exception as error:  # as in run
            self._raised(job, error)
            return
        took = time.thread_time_ns() - begun
        if ticket is not FINISHED or job.status.tobytes() != (_DONE[count] if count <= _TABLE else b""):
            self._settle(job, ticket)
        size = octets_of(job, place)
        if rung.trusted and rung.serves:
            if rung.expect is not None and rung.expect.batch_ns(count, size) >= _LEAST_TIMED:
                rung.timed(count, size, took)
            if not self._audited(rung, job, place):
                self._in_software(rung, job, all_rows(job))
        now = self._now()
        if not 0 <= now - self._looked < _LOOK_EVERY:
            self._looked = now
            self._look_after()
        self._size += (size - self._size) * 0.25
        if len(self._ladders) > 1 and self._size_class() != self._class:
            self._rebuild()

    def _look_after(self) -> None:
        now = self._now()
        for rung in self.session.rungs:
            if rung.life.due(now):
                if rung.rearm(self.session.specs, now) is not None:
                    self._rebuild()
                elif self._words[LEFT] > _SOON:
                    self._words[LEFT] = self._audit_rows = _SOON
            elif rung.life.state in (State.SERVING, State.SUSPECT):
                failure = rung.look_after(now)
                if failure is not None:
                    self._failed(rung, failure)
