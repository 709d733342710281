"""Contestants for one piece of work, those that are missing and why, and the rows that come of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import cycle

from accel.bench.contest import Contestant, Effort, Outcome, compete
from accel.engine import Engine, EngineSession, Job, Operation, Status
from benchmarks.engines_rows import Row
from drivers.cpu import read_cpu
from drivers.errors import DriverError

Pass = Callable[[], object]


WRONG = "wrong result"
"""Begins the reason of a contestant that must not have any speed."""


class WrongError(Exception):
    """Somebody came to another result: a speed would be worth nothing."""


@dataclass
class Field:
    """Who takes part.

    Attributes
    ----------
    size
        What a pass does, in bytes of data or in packets; rates are ``size`` per nanosecond or its inverse.
    """

    size: int
    contestants: list[Contestant] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, make: Callable[[], Pass]) -> None:
        """Let one take part; its absence is a reason."""
        try:
            self.contestants.append(Contestant(name, make()))
        except (DriverError, ImportError, TypeError, ValueError) as error:
            self.reasons[name] = str(error)
        except WrongError as error:
            self.reasons[name] = f"{WRONG}: {error}"

    def compete(self, effort: Effort) -> Result:
        """Let them compete."""
        return Result(self, compete(self.contestants, effort) if self.contestants else Outcome({}))


@dataclass(frozen=True)
class Result:
    """How it came out."""

    field: Field
    outcome: Outcome

    def row(self, row: Row, *, per_second: bool = True) -> Row:
        """Return a row with the ratio of its two contestants, or with the reason why there is none."""
        figures = self.rates(per_second=per_second)
        unit = "GB/s" if per_second else "ns/packet"
        row = replace(row, rates=figures, rate_unit=unit, repeated=self.outcome.repeated)
        for name in (row.engine, row.against):
            if name not in self.outcome.ns:
                return replace(row, reason=self.field.reasons.get(name, f"{name} did not take part"))
        return replace(row, measured=self.outcome.ratio(row.engine, row.against))

    def rates(self, *, per_second: bool) -> dict[str, float]:
        """Return GB/s, or nanoseconds for each unit of ``size``."""
        medians = {name: self.outcome.time(name).median for name in self.outcome.ns}
        return {name: self.field.size / ns if per_second else ns / self.field.size for name, ns in medians.items()}

    def fastest(self, prefix: str, default: str, suffix: str = "") -> str:
        """Return the fastest contestant whose name begins and ends so."""
        names = [name for name in self.outcome.ns if name.startswith(prefix) and name.endswith(suffix)]
        return min(names, key=lambda name: self.outcome.time(name).median, default=default)


def engine_pass(
    engine: Engine, operation: Operation, jobs: Sequence[Job], prepare: Callable[[EngineSession], None] = lambda _: None
) -> Pass:
    """Return what does the next of the jobs; every one has been done once, and every row was DONE."""
    session = engine.open(operation)
    prepare(session)
    for job in jobs:
        job.status[:] = Status.PENDING
        engine.submit(session, job)
        if not (job.status == Status.DONE).all():
            raise WrongError(f"{engine.name}, {operation.value}: status {sorted(set(job.status.tolist()))}")
    submit = engine.submit
    return in_turn([partial(submit, session, job) for job in jobs])


def need_flags(what: str, needs: Collection[str]) -> None:
    """Refuse code that this CPU cannot run (it would end the process)."""
    lacking = sorted(set(needs) - read_cpu().flags)
    if lacking:
        raise ValueError(f"{what} needs {', '.join(lacking)}, which this CPU does not have, or VANTUN_CPU hides")


def in_turn(passes: Sequence[Pass]) -> Pass:
    """Return what runs the next one, and begins again behind the last."""
    if len(passes) == 1:
        return passes[0]
    following = cycle(passes).__next__
    return lambda: following()()
