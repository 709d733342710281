"""Writing the control channel: small records are collected in one open row and leave together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel
from vantun.session.blocks import enter_shard, finish_unit, room
from vantun.session.pool import ROW_UNIT, take_row
from vantun.session.tables import CHANNELS, CONTROL, Tables, head
from vantun.session.wheel import wake
from vantun.wire.integers import int64
from vantun.wire.records import ACCEPT, UNIT_HEAD, UNIT_TAIL, put_pair
from vantun.wire.varint import put_varint

_PAIR_MAX = 17
"""Bytes of the longest record of two integers."""


@kernel
def signal_space(t: Tables, session: int, size: int, now: float) -> int:
    """Return where ``size`` bytes of records may be written in the open row of the control channel, or -1.

    -1 means: no row, or the channel's window is full. Nothing was changed then; try again when RECEIPTs have come.
    """
    channel = session * CHANNELS + CONTROL
    ch = t.channel[channel]
    area = t.session[session].unit - UNIT_HEAD - UNIT_TAIL
    if size > area:
        return -1
    if ch.open_row >= 0 and ch.open_length + size > area and not flush_signals(t, session, now):
        return -1
    if ch.open_row < 0:
        row = take_row(t)
        if row < 0:
            return -1
        ch.open_row = row
        ch.open_length = 0
    wake(t, session)
    return int64(ch.open_row * t.pool[0].stride + ROW_UNIT + UNIT_HEAD + ch.open_length)


@kernel
def signal_pair(t: Tables, session: int, kind: int, first: int, second: int, now: float) -> bool:
    """Write a record of two integers; False if there is no room now."""
    t = head(t)
    start = signal_space(t, session, _PAIR_MAX, now)
    if start < 0:
        return False
    t.channel[session * CHANNELS + CONTROL].open_length += put_pair(t.memory, start, kind, first, second) - start
    return True


@kernel
def signal_accept(t: Tables, session: int, flow: int, now: float) -> bool:
    """Write ACCEPT; False if there is no room now."""
    t = head(t)
    start = signal_space(t, session, _PAIR_MAX, now)
    if start < 0:
        return False
    t.memory[start] = np.uint8(ACCEPT)
    t.channel[session * CHANNELS + CONTROL].open_length += put_varint(t.memory, start + 1, flow) - start
    return True


@kernel
def signal_bytes(t: Tables, session: int, kind: int, flow: int, data: NDArray[np.uint8], now: float) -> bool:
    """Write a record of one integer and counted bytes (OPEN); False if there is no room now."""
    t = head(t)
    start = signal_space(t, session, _PAIR_MAX + len(data), now)
    if start < 0:
        return False
    end = put_pair(t.memory, start, kind, flow, len(data))
    t.memory[end : end + len(data)] = data
    t.channel[session * CHANNELS + CONTROL].open_length += end + len(data) - start
    return True


@kernel
def flush_signals(t: Tables, session: int, now: float) -> bool:
    """Give the open row a number, so that it is sent; False if the window does not allow it now."""
    channel = session * CHANNELS + CONTROL
    ch = t.channel[channel]
    if ch.open_row < 0:
        return True
    if room(t, channel) < 1:
        return False
    row = int64(ch.open_row)
    finish_unit(t, row, int64(ch.open_length))
    ch.open_row = -1
    enter_shard(t, channel, row, now)
    return True
