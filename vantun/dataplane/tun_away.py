"""Packets of the TUN that came to the queue of a worker without a flow for them: handed over to one that has one.

The kernel, or our program in it, chooses the queue by the packet; which workers have a flow of packets of its session,
neither knows at every moment. What is read by the wrong worker goes by the mesh (:mod:`vantun.dataplane.handover`),
once: a worker that has no flow for what it is given drops it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from drivers.batch import PacketBatch
from drivers.errors import DriverError
from drivers.shared import SharedPage
from vantun.dataplane.handover import Handover
from vantun.dataplane.tun_pump import put_handed
from vantun.dataplane.tun_sessions import TunSessions
from vantun.dataplane.tun_tables import NO_ROOM, OUT
from vantun.errors import ProtocolError
from vantun.tun_messages import BUCKET_NUMBERS, BUCKET_ROWS, BUCKETS

if TYPE_CHECKING:
    from vantun.dataplane.pipeline import Dataplane


class TunAway:
    """What a worker gives to others, and what it is given.

    Attributes
    ----------
    given, taken
        Packets.
    """

    def __init__(self, plane: Dataplane, sessions: TunSessions, clock: Callable[[], float]) -> None:
        self.given = 0
        self.taken = 0
        self._plane = plane
        self._sessions = sessions
        self._clock = clock
        self._handover: Handover | None = None

    def join(self, handover: Handover) -> None:
        """Use the mesh of the workers."""
        self._handover = handover
        handover.take_packets = self._take

    def pass_on(self, packets: list[tuple[int, memoryview]]) -> None:
        """Hand packets over, each to a worker; those that find no room there are dropped and counted."""
        if not packets:
            return
        of: dict[int, list[memoryview]] = {}
        for worker, packet in packets:
            of.setdefault(worker, []).append(packet)
        for worker, theirs in of.items():
            given = self._handover.give(worker, theirs) if self._handover is not None else 0
            self.given += given
            self._sessions.tables.root[0]["count"][OUT, NO_ROOM] += len(theirs) - given

    def _take(self, batch: PacketBatch, count: int) -> None:
        now, root, tables = self._clock(), self._plane.context.tables.root, self._sessions.tables
        self.taken += count
        for start, size in zip(batch.offset[:count].tolist(), batch.length[:count].tolist(), strict=True):
            put_handed(root, tables, batch.memory, start, size, now)

    def snapshot(self) -> dict[str, object]:
        """Return the counters."""
        return {"handed_over": self.given, "taken_over": self.taken}


def bucket_page(descriptors: list[int]) -> SharedPage:
    """Return the page that a command brought; raises ProtocolError."""
    try:
        return SharedPage.attach(os.dup(descriptors[0]), np.int64, (BUCKET_ROWS, BUCKETS, BUCKET_NUMBERS))
    except (IndexError, OSError, DriverError) as error:
        raise ProtocolError(f"the page of buckets was lost on its way: {error}") from None
