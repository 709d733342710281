"""Stage: AEAD seal, out of place, from rows into the send arena, grouped by lane so that GSO finds runs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.engine import TAG_LENGTH, SealJob
from drivers.arena import Arena
from drivers.batch import PacketBatch, packet_batch
from drivers.kernel import kernel
from vantun.dataplane.context import Context
from vantun.session.departures import Departures
from vantun.session.pool import release_row
from vantun.session.tables import Tables, head
from vantun.wire.integers import int64


class Outgoing(NamedTuple):
    """Sealed packets; ``batch`` holds ``packets`` of them, packet ``i`` leaves by UDP socket ``socket[i]``."""

    batch: PacketBatch
    packets: int
    socket: NDArray[np.int32]


class Sealed(NamedTuple):
    """The columns of the seal job, in order of sending."""

    source_offset: NDArray[np.int64]
    length: NDArray[np.int32]
    target_offset: NDArray[np.int64]
    slot: NDArray[np.int32]
    number: NDArray[np.int64]
    status: NDArray[np.int8]
    socket: NDArray[np.int32]
    spare: NDArray[np.int32]


@kernel
def arrange(d: Departures, s: Sealed, batch: PacketBatch, count: int, lanes: int) -> None:
    """Order packets by lane (stable) and lay them end to end, so that equal sizes of a lane make one GSO message."""
    starts = np.zeros(lanes + 1, np.int64)
    for i in range(count):
        starts[d.lane[i] + 1] += 1
    for lane in range(lanes):
        starts[lane + 1] += starts[lane]
    order = np.empty(count, np.int64)
    for i in range(count):
        order[starts[d.lane[i]]] = i
        starts[d.lane[i]] += 1
    end = 0
    for place in range(count):
        i = order[place]
        s.source_offset[place] = d.source_offset[i]
        s.length[place] = d.length[i]
        s.target_offset[place] = end
        s.slot[place] = d.slot[i]
        s.number[place] = d.number[i]
        s.status[place] = 0
        s.socket[place] = d.socket[i]
        s.spare[place] = d.spare[i]
        batch.offset[place] = end
        batch.length[place] = d.length[i] + TAG_LENGTH
        batch.peer[place] = d.peer[i]
        batch.ecn[place] = d.ecn[i]
        end += int64(d.length[i]) + TAG_LENGTH


@kernel
def release_spares(t: Tables, s: Sealed, count: int) -> None:
    """Free the rows that were only needed until now."""
    t = head(t)
    for i in range(count):
        if s.spare[i] >= 0:
            release_row(t, int64(s.spare[i]))


class SealStage:
    """Owns the send arena: ciphertext only, one batch, small enough for L2."""

    def __init__(self, context: Context, departures: Departures, peers: NDArray[np.uint8], packet_size: int) -> None:
        self._context = context
        self._clock = context.clock("seal")
        self._departures = departures
        capacity = len(departures.length)
        self._arena = Arena(capacity, packet_size)
        self._jobs: dict[int, SealJob] = {}
        """By batch size: engines know the jobs that they have seen before."""
        self._batch = packet_batch(self._arena.memory, capacity, peers)
        self._sealed = Sealed(
            source_offset=np.zeros(capacity, np.int64),
            length=np.zeros(capacity, np.int32),
            target_offset=np.zeros(capacity, np.int64),
            slot=np.zeros(capacity, np.int32),
            number=np.zeros(capacity, np.int64),
            status=np.zeros(capacity, np.int8),
            socket=np.zeros(capacity, np.int32),
            spare=np.zeros(capacity, np.int32),
        )

    def run(self, count: int) -> Outgoing:
        """Seal the first ``count`` departures; the result is valid until the next call."""
        self._clock.start()
        s, batch, t = self._sealed, self._batch, self._context.tables
        if count:
            arrange(self._departures, s, batch, count, int(self._departures.lane[:count].max()) + 1)
            self._context.engines.seal.run(self._jobs.get(count) or self._add_job(count))
            release_spares(t.root, s, count)
            self._clock.stop(count)
        return Outgoing(batch, count, s.socket)

    def _add_job(self, count: int) -> SealJob:
        s = self._sealed
        job = self._jobs[count] = SealJob(
            source=self._context.tables.memory,
            source_offset=s.source_offset[:count],
            length=s.length[:count],
            target=self._batch.memory,
            target_offset=s.target_offset[:count],
            slot=s.slot[:count],
            number=s.number[:count],
            status=s.status[:count],
        )
        return job
