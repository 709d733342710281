"""Blocks of packets that can no longer arrive in time: they are given up, and the peer is told to forget them."""

from __future__ import annotations

import numpy as np

from drivers.kernel import kernel
from vantun.session.blocks import release_block
from vantun.session.pool import get_bit
from vantun.session.signals import signal_pair
from vantun.session.tables import CHANNELS, PACKETS, WINDOW, Tables
from vantun.wire.records import ABANDON

_RETRY = 0.001


@kernel
def expire_blocks(t: Tables, session: int, now: float) -> float:
    """Give up the overdue blocks of a session's packets; return when the next will be (inf = none is open)."""
    channel = session * CHANNELS + PACKETS
    ch = t.channel[channel]
    if now < ch.expiry:
        return float(ch.expiry)
    due = np.inf
    for number in range(ch.una_block, ch.block + 1):
        block = t.block[channel, number & (WINDOW - 1)]
        if not block.used or block.number != number:
            continue
        if now < block.expires:
            due = min(due, float(block.expires))
        elif block.k == 0 and block.acked_count >= block.n and block.length <= t.session[session].unit:
            block.expires = np.inf  # nothing of it waits for an answer: it goes on filling
        elif not signal_pair(t, session, ABANDON, PACKETS, number, now):
            due = now + _RETRY
        else:
            _give_up(t, channel, block)
    ch.expiry = due
    return due


@kernel
def _give_up(t: Tables, channel: int, block: np.record) -> None:
    ch = t.channel[channel]
    if block.number == ch.block:
        ch.block += 1
        block.k = block.n
    for column in range(block.n):
        if not get_bit(block.acked, column):
            ch.expired += 1
    release_block(t, channel, block)
