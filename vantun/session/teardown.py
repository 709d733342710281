"""Giving back what a session's channel holds."""

from __future__ import annotations

from drivers.kernel import kernel
from vantun.session.blocks import release_block
from vantun.session.pool import release_row
from vantun.session.span_store import complete_block
from vantun.session.tables import WINDOW, Tables, head
from vantun.wire.integers import int64


@kernel
def empty_channel(t: Tables, channel: int) -> None:
    """Free every row of a channel, both directions."""
    t = head(t)
    ch = t.channel[channel]
    if ch.open_row >= 0:
        release_row(t, int64(ch.open_row))
        ch.open_row = -1
    row = int64(ch.parity_head)
    while row >= 0:
        following = int64(t.row_next[row])
        release_row(t, row)
        row = following
    ch.parity_head = -1
    for slot in range(WINDOW):
        block = t.block[channel, slot]
        if block.used:
            release_block(t, channel, block)
        arriving = t.rx_block[channel, slot]
        if arriving.used and not arriving.complete:
            complete_block(t, channel, arriving)
        arriving.used = 0
