"""Stage: ports are read straight into shard rows, as far as credit, window and queue allow; the rest waits outside."""

from __future__ import annotations

import numpy as np

from vantun.dataplane.context import Context
from vantun.dataplane.flows import Flow, FlowBook
from vantun.dataplane.ports import WOULD_BLOCK
from vantun.session.blocks import room
from vantun.session.flows import Reserved, commit, note_burst, reserve
from vantun.session.tables import CHANNELS, SESSION_LANES

_ROWS = 64
"""Rows a flow may fill before the next flow's turn."""
_MOST_ROWS = 256
"""Rows of all flows together, if more, where reads are large: they share what a round of all flows, and of the stages
behind them, costs in Python, some 50 us. With 64 a download took 1.6 times the processor time."""
_LARGE = 65_536
"""Bytes of a read from which on the flow's next one is expected to be large, too: rows that nothing is read into are
prepared in vain."""
_MIN_QUEUE = 96
_MAX_QUEUE = 4096
_QUEUE_SECONDS = 0.004
"""How much is read ahead of the pacer: more would only be latency for the requests behind it."""


class RefillStage:
    """Reads ports in turn."""

    def __init__(self, context: Context, book: FlowBook) -> None:
        self._t = context.tables
        self._base = context.address
        self._book = book
        self._clock = context.clock("refill")
        self._reserved = Reserved(iov=np.zeros((_MOST_ROWS, 2), np.uint64), rows=np.zeros(_MOST_ROWS, np.int32))

    def run(self, now: float) -> None:
        """Give every waiting flow one turn."""
        ready = self._book.ready
        if not ready:
            return
        self._clock.start()
        quota: dict[int, int] = {}
        size = 0
        most = max(_ROWS, _MOST_ROWS // len(ready))
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
            left = quota[channel] = self._quota(channel)
        if left <= 0:
            self._book.readable(flow)
            return 0
        limit = min(left, most if flow.large else _ROWS)
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
        if count >= _ROWS:
            flow.large = got >= _LARGE
        if got == 0:
            self._book.finish_sending(flow, now)
        elif got != WOULD_BLOCK:
            note_burst(t.root, flow.index, got, now)
            quota[channel] = left - count
            self._book.readable(flow)
        return max(got, 0)

    def _quota(self, channel: int) -> int:
        """Return how many shards may be queued now."""
        t = self._t
        rate = 0.0
        for lane in t.session_lane[channel // CHANNELS, :SESSION_LANES].tolist():
            if lane >= 0:
                rate += float(t.lane[lane]["pacing_rate"])
        limit = min(max(int(rate * _QUEUE_SECONDS / 1200.0), _MIN_QUEUE), _MAX_QUEUE)
        # no session holds more rows than are free: two a third each, and so on
        share = int(t.pool[0]["rows_free"]) - int(t.session[channel // CHANNELS]["rows"])
        return min(int(room(t.root, channel)), limit - int(t.channel[channel]["queued"]), share)
