"""Stages encode, schedule and seal: parity, timers, packets on lanes, AEAD into the send arena. One call a batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.engine import SealJob
from accel.job_block import JobBlocks
from drivers.arena import Arena
from drivers.batch import PacketBatch, packet_batch
from vantun.dataplane.context import STAGES, Context
from vantun.dataplane.sizes import ENCODED, UNITS
from vantun.dataplane.stages.decode import SpanJobs
from vantun.dataplane.turn_kernels import ASK_ENCODE, DONE, Leaving, Sealed, depart, sealed
from vantun.session.coding import make_spans
from vantun.session.departures import Departures


class Outgoing(NamedTuple):
    """Sealed packets; ``batch`` holds ``packets`` of them, packet ``i`` leaves by UDP socket ``socket[i]``.

    ``more``: others may be waiting for the same call.
    """

    batch: PacketBatch
    packets: int
    socket: NDArray[np.int32]
    more: bool = True


def _departures(capacity: int) -> Departures:
    return Departures(
        source_offset=np.zeros(capacity, np.int64),
        length=np.zeros(capacity, np.int32),
        slot=np.zeros(capacity, np.int32),
        number=np.zeros(capacity, np.int64),
        status=np.zeros(capacity, np.int8),
        lane=np.zeros(capacity, np.int32),
        socket=np.zeros(capacity, np.int32),
        peer=np.zeros(capacity, np.int32),
        ecn=np.zeros(capacity, np.uint8),
        spare=np.zeros(capacity, np.int32),
        planned=np.zeros(1, np.int64),
        now=np.zeros(2, np.float64),
    )


def _sealed(capacity: int) -> Sealed:
    return Sealed(
        source_offset=np.zeros(capacity, np.int64),
        length=np.zeros(capacity, np.int32),
        target_offset=np.zeros(capacity, np.int64),
        slot=np.zeros(capacity, np.int32),
        number=np.zeros(capacity, np.int64),
        status=np.zeros(capacity, np.int8),
        socket=np.zeros(capacity, np.int32),
        spare=np.zeros(capacity, np.int32),
    )


class DepartStages:
    """Owns the send arena: ciphertext only, one batch of at most ``capacity`` packets, small enough for L2.

    ``work`` is what :func:`depart` works on.
    """

    def __init__(self, context: Context, peers: NDArray[np.uint8], capacity: int, packet_size: int) -> None:
        self._root: Any = context.tables.root
        self._memory = context.tables.memory
        self._engines = context.engines
        self._arena = Arena(capacity, packet_size)
        self._batch = packet_batch(self._arena.memory, capacity, peers)
        self._sealed = _sealed(capacity)
        self._spans = make_spans(ENCODED, UNITS)
        self._span_jobs = SpanJobs(context, self._spans)
        self._jobs: dict[int, SealJob] = {}
        """By batch size: engines know the jobs that they have seen before."""
        self._encode_clock, self._seal_clock = context.clock("encode"), context.clock("seal")
        first = STAGES.index("encode")
        assert STAGES[first : first + 3] == ("encode", "schedule", "seal")
        blocks = JobBlocks()
        self.work = Leaving(
            departures=_departures(capacity),
            spans=self._spans,
            sealed=self._sealed,
            batch=self._batch,
            floors=context.floors,
            encode_block=blocks.block(self._span_jobs.of(ENCODED)),
            encode_lease=context.engines.encode.lease.words,
            seal_block=blocks.block(self._job(0, capacity)),
            seal_part=np.zeros(16, np.int64),
            seal_lease=context.engines.seal.lease.words,
            counters=context.counters[first : first + 3],
            clock=np.zeros(2, np.int64),
        )
        self._nothing = Outgoing(self._batch, 0, self._sealed.socket, more=False)

    def run(self, now: float) -> tuple[Outgoing, float]:
        """Return the packets that leave now, valid until the next call, and when to call again."""
        return self.finish(depart(self._root, self.work, 0, now), now)

    def finish(self, found: tuple[int, int, int, float], now: float) -> tuple[Outgoing, float]:
        """Do what is left after a call of :func:`depart` that returned ``found``; return as :meth:`run`."""
        root, work = self._root, self.work
        status, first, count, due = found
        while status == ASK_ENCODE:
            self._encode()
            status, first, count, due = depart(root, work, count, now)
        if not count:
            return self._nothing, due
        if status == DONE:
            return Outgoing(self._batch, count, self._sealed.socket, count == len(self._sealed.length)), due
        self._seal_clock.start()
        self._engines.seal.run(self._job(first, count) if first else self._jobs.get(count) or self._add_job(count))
        sealed(root, work, first, count)
        self._seal_clock.stop(count - first)
        return Outgoing(self._batch, count, self._sealed.socket), due

    def sealed(self, count: int) -> Outgoing:
        """Return the packets of the last call again."""
        return Outgoing(self._batch, count, self._sealed.socket)

    def rehearse(self) -> None:
        """Call what is called only when somebody has to be asked; nothing happens."""
        sealed(self._root, self.work, 0, 0)

    def _encode(self) -> None:
        self._encode_clock.start()
        spans, _, parity = self._spans.used.tolist()
        self._engines.encode.run(self._span_jobs.of(spans))
        self._encode_clock.stop(parity)

    def _add_job(self, count: int) -> SealJob:
        job = self._jobs[count] = self._job(0, count)
        return job

    def _job(self, first: int, count: int) -> SealJob:
        s = self._sealed
        return SealJob(
            source=self._memory,
            source_offset=s.source_offset[first:count],
            length=s.length[first:count],
            target=self._batch.memory,
            target_offset=s.target_offset[first:count],
            slot=s.slot[first:count],
            number=s.number[first:count],
            status=s.status[first:count],
        )
