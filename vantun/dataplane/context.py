"""What every stage shares: the tables, the engines, and a line of counters per stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.serving import Serving
from vantun.session.tables import Tables

STAGES = ("open", "accept", "decode", "deliver", "refill", "encode", "schedule", "seal")
"""In the order of a packet's journey, first in, then out."""
COUNTER_FIELDS = ("calls", "packets", "bytes", "ns")


@dataclass(frozen=True)
class Engines:
    """Who serves each operation."""

    encode: Serving
    decode: Serving
    seal: Serving
    open: Serving

    def __iter__(self) -> Iterator[Serving]:
        """Return all four, in the order of Operation."""
        return iter((self.encode, self.decode, self.seal, self.open))


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
