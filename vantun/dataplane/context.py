"""What every stage shares: the tables, the engines, and a line of counters per stage."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.engine import Engine, EngineSession, Job
from vantun.session.tables import Tables

STAGES = ("open", "accept", "decode", "deliver", "refill", "encode", "schedule", "seal")
"""In the order of a packet's journey, first in, then out."""
COUNTER_FIELDS = ("calls", "packets", "bytes", "ns")


@dataclass(frozen=True)
class Serving:
    """An engine that serves an operation, and its session."""

    engine: Engine
    session: EngineSession

    def run(self, job: Job) -> None:
        """Do ``job`` now; an asynchronous engine is polled until every row has its status."""
        ticket = self.engine.submit(self.session, job)
        while ticket is None:
            self.engine.poll()
            ticket = self.engine.submit(self.session, job)
        while not ticket.done:
            self.engine.poll()


@dataclass(frozen=True)
class Engines:
    """The engine that serves each operation."""

    encode: Serving
    decode: Serving
    seal: Serving
    open: Serving


class Clock:
    """Counts one stage: calls, packets, bytes, nanoseconds, in shared memory."""

    __slots__ = ("_line", "_started")

    def __init__(self, line: NDArray[np.int64]) -> None:
        self._line = line.data  # item access on a memoryview costs a third of numpy's
        self._started = 0

    def start(self) -> None:
        """Begin one call."""
        self._started = time.perf_counter_ns()

    def stop(self, packets: int, size: int = 0) -> None:
        """End the call that :meth:`start` began."""
        line = self._line
        line[0] += 1
        line[1] += packets
        line[2] += size
        line[3] += time.perf_counter_ns() - self._started


@dataclass(frozen=True)
class Context:
    """Handed to every stage."""

    tables: Tables
    address: int
    """Address of ``tables.memory``."""
    engines: Engines
    counters: NDArray[np.int64]
    """[shape=(len(STAGES), 4), dtype=int64] see COUNTER_FIELDS."""
    floors: NDArray[Any]
    """[shape=(1,), dtype=floors_dtype] the page of packet-number floors."""

    def clock(self, stage: str) -> Clock:
        """Return the counter line of ``stage``."""
        return Clock(self.counters[STAGES.index(stage)])
