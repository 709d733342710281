"""Stage: bytes in order go to their ports, straight from the rows; credit follows what the ports have taken."""

from __future__ import annotations

import math

import numpy as np

from vantun.dataplane.context import Context
from vantun.dataplane.flows import Flow, FlowBook
from vantun.dataplane.stream_kernels import IOVECS, StreamWork, drain_streams
from vantun.session.flows import delivered, gather, grant_credit, want_delivery
from vantun.session.lane_frames import fastest_lane
from vantun.session.layout import pool_dtype
from vantun.session.packets_in import packets_over
from vantun.session.users import receive_wait, take_received

_TURN = 8
"""Rows (10 kB) that one of a limited user's flows writes at once, when others may wait for the rate, too."""
_DELIVERS, _LENT = map((pool_dtype.names or ()).index, ("delivers", "lent"))
"""Words of the pool, all of whose fields are words: item access on a memoryview costs a third of numpy's."""


class DeliverStage:
    """Writes to ports, by one call to those whose sockets are lent.

    A port that is full keeps its flow's bytes in their rows, and so its credit.

    So does a user whose rate is used up: those of his flows that have written come again behind those that have not,
    and the first may write in any case, or packets, which never wait, would take all that there is.

    Attributes
    ----------
    due
        When to run again for those (inf = nobody waits).
    """

    def __init__(self, context: Context, book: FlowBook, work: StreamWork) -> None:
        self._t = context.tables
        self._work = work
        self._base = context.address
        self._counts = context.tables.pool.view(np.int64).data
        self._book = book
        self._clock = context.clock("deliver")
        self._iov = np.zeros((IOVECS, 2), np.uint64)
        self._credit_waits: list[Flow] = []
        self._held: dict[int, None] = {}
        self._again: dict[int, None] = {}
        """Held, too, but they have just written."""
        self._limited: dict[int, None] = {}
        """Those that were held when it was last their turn."""
        self._first = -1
        self.due = math.inf

    def run(self, now: float) -> None:
        """Deliver to every flow on the list."""
        t = self._t
        if now >= self.due:
            self._limited = self._held | self._again
            self._held, self._again, self.due = {}, {}, math.inf
            self._first = next(iter(self._limited), -1)
            for index in self._limited:
                want_delivery(t.root, index)
        count = self._counts[_DELIVERS]
        if not count and not self._credit_waits:
            return
        self._clock.start()
        size = int(drain_streams(t.root, self._work, self._base, now)) if count and self._counts[_LENT] else 0
        left = self._counts[_DELIVERS]
        self._counts[_DELIVERS] = 0
        for index in t.deliver[:left].tolist():
            t.flow[index]["deliver"] = 0
            flow = self._book.by_index(index)
            if flow is None or not t.flow[index]["used"]:
                continue
            if t.flow[index]["owed"]:
                t.flow[index]["owed"] = 0
                self._grant(flow, now)
            try:
                if flow.packets is not None:
                    size += self._drain(flow, now)
                elif flow.port is not None:
                    size += self._write(flow, now)
            except ConnectionError:
                self._book.port_failed(flow, now)
        waits, self._credit_waits = self._credit_waits, []
        for flow in waits:
            if self._book.by_index(flow.index) is flow:
                self._grant(flow, now)
        self._clock.stop(count, size)

    @property
    def waiting(self) -> bool:
        """Whether credit waits for room."""
        return bool(self._credit_waits)

    def _drain(self, flow: Flow, now: float) -> int:
        """Let the port of a packet flow take what there is, and end the flow if that was all; return the bytes."""
        if flow.packets is None or not flow.accepted:
            return 0
        size = flow.packets.drain(flow.index, now)
        if self._book.by_index(flow.index) is flow and packets_over(self._t.root, flow.index, now):
            self._book.close(flow)
        return size

    def _write(self, flow: Flow, now: float) -> int:
        """Write until the port is full or nothing is in order; return the bytes taken."""
        t, index = self._t, flow.index
        record = t.flow[index]
        port = flow.port
        total = 0
        while port is not None:
            if record["final"] >= 0 and record["next"] >= record["final"] and flow.accepted:
                self._book.finish_receiving(flow)
                return total
            if not record["writable"]:
                break
            rows = int(gather(t.root, index, self._base, self._iov))
            if rows == 0 or self._must_wait(flow, now, wrote=total > 0):
                break
            taken = port.writev(self._iov, min(rows, _TURN) if index in self._limited else rows)
            if taken < 0:
                record["writable"] = 0
                break
            delivered(t.root, index, taken)
            take_received(t.root, flow.session, taken)
            total += taken
        if total:
            self._grant(flow, now)
        return total

    def _must_wait(self, flow: Flow, now: float, *, wrote: bool) -> bool:
        """Return whether the user's rate is used up; then the flow comes again when it is not."""
        if flow.index == self._first:
            self._first = -1
            return False
        wait = float(receive_wait(self._t.root, flow.session, now))
        if wait > 0.0:
            if flow.index not in self._again:
                (self._again if wrote else self._held)[flow.index] = None
            self.due = min(self.due, now + wait)
        return wait > 0.0

    def _grant(self, flow: Flow, now: float) -> None:
        lane = int(fastest_lane(self._t.root, flow.session))
        rtt = float(self._t.lane[lane]["srtt"]) if lane >= 0 else 0.1
        if not grant_credit(self._t.root, flow.index, rtt, now):
            self._credit_waits.append(flow)
