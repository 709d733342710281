"""Stage: ports are read straight into shard rows, as far as credit, window and queue allow; the rest waits outside."""

from __future__ import annotations

import numpy as np

from vantun.dataplane.context import Context
from vantun.dataplane.flows import Flow, FlowBook
from vantun.dataplane.ports import WOULD_BLOCK
from vantun.dataplane.stream_kernels import LARGE, MOST_ROWS, ROWS, StreamWork, fill_streams, queue_room
from vantun.session.flows import Reserved, commit, note_burst, reserve
from vantun.session.layout import pool_dtype

_REFILLS = (pool_dtype.names or ()).index("refills")
"""Its word in the pool, all of whose fields are words."""


class RefillStage:
    """Reads ports in turn: by one call those whose sockets are lent, then each of the others."""

    def __init__(self, context: Context, book: FlowBook, work: StreamWork) -> None:
        self._t = context.tables
        self._counts = context.tables.pool.view(np.int64).data
        self._work = work
        self._base = context.address
        self._book = book
        self._clock = context.clock("refill")
        self._reserved = Reserved(iov=np.zeros((MOST_ROWS, 2), np.uint64), rows=np.zeros(MOST_ROWS, np.int32))

    def run(self, now: float) -> None:
        """Give every waiting flow one turn."""
        ready = self._book.ready
        lent = self._counts[_REFILLS]
        if not ready and not lent:
            return
        self._clock.start()
        quota: dict[int, int] = {}
        size = int(fill_streams(self._t.root, self._work, self._base, now)) if lent else 0
        most = max(ROWS, MOST_ROWS // max(len(ready), 1))
        for _ in range(len(ready)):
            flow = ready.popleft()
            flow.queued = False
            if flow.outside is None or flow.finished_sending or self._book.by_index(flow.index) is not flow:
                continue
            try:
                if flow.packets is not None:
                    flow.packets.fill(now)
                else:
                    size += self._turn(flow, quota, most, now)
            except ConnectionError:
                self._book.port_failed(flow, now)
        self._clock.stop(len(quota), size)

    def _turn(self, flow: Flow, quota: dict[int, int], most: int, now: float) -> int:
        t = self._t
        channel = int(note_burst(t.root, flow.index, 0, now))
        left = quota.get(channel)
        if left is None:
            left = quota[channel] = int(queue_room(t.root, channel))
        if left <= 0:
            self._book.readable(flow)
            return 0
        limit = min(left, most if flow.large else ROWS)
        count = int(reserve(t.root, flow.index, self._base, limit, self._reserved))
        if count == 0:
            if not t.flow[flow.index]["starved"]:
                self._book.readable(flow)  # no row is free; a starved flow is woken by its credit instead
            return 0
        got = 0
        try:
            assert flow.port is not None
            got = flow.port.readv(self._reserved.iov, count)
        finally:
            commit(t.root, flow.index, channel, max(got, 0), count, self._reserved, now)
        if count >= ROWS:
            flow.large = got >= LARGE
        if got == 0:
            self._book.finish_sending(flow, now)
        elif got != WOULD_BLOCK:
            note_burst(t.root, flow.index, got, now)
            quota[channel] = left - count
            self._book.readable(flow)
        return max(got, 0)
