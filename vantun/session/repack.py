"""When packets must become smaller: undelivered records go again in smaller shards, their old block is abandoned.

Blocks of packet flows are only abandoned. At a black hole their packets are lost already and would come too late; and
records that came twice, in different shards, would be delivered twice.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel
from vantun.session.blocks import enter_shard, finish_unit, release_block, room
from vantun.session.pool import ROW_UNIT, get_bit, take_row
from vantun.session.signals import signal_pair, signal_space
from vantun.session.tables import CHANNELS, CONTROL, PACKETS, WINDOW, Tables, head
from vantun.wire.integers import int64
from vantun.wire.records import (
    ABANDON,
    RECORD_FIELDS,
    STREAM,
    STREAM_LENGTH,
    UNIT_HEAD,
    UNIT_TAIL,
    get_record,
    put_stream_head,
    stream_head_size,
)


@kernel
def repack_session(t: Tables, session: int, now: float) -> bool:
    """Move every undelivered record of blocks that no longer fit.

    False if windows or rows do not allow all of it now.
    """
    t = head(t)
    unit = int64(t.session[session].unit)
    for kind in range(CHANNELS):
        channel = session * CHANNELS + kind
        ch = t.channel[channel]
        last = int64(ch.block)
        for number in range(ch.una_block, last + 1):
            block = t.block[channel, number & (WINDOW - 1)]
            if not block.used or block.number != number or block.length <= unit:
                continue
            if kind == PACKETS:
                block.expires = 0.0
                ch.expiry = 0.0
            elif not _repack_block(t, channel, block, unit, now):
                return False
    return True


@kernel
def _repack_block(t: Tables, channel: int, block: np.record, unit: int, now: float) -> bool:
    session = channel // CHANNELS
    ch = t.channel[channel]
    pieces = (int64(block.length) + unit - 1) // (unit - 64) + 1
    if room(t, channel) < block.n * pieces or t.pool[0].rows_free < block.n * pieces:
        return False
    if not signal_pair(t, session, ABANDON, channel % CHANNELS, block.number, now):
        return False
    if block.number == ch.block:
        ch.block += 1
        block.k = block.n
    slot = block.number & (WINDOW - 1)
    record = np.empty(RECORD_FIELDS, np.int64)
    for column in range(block.n):
        if get_bit(block.acked, column):
            continue
        row = int64(t.tx_row[channel, slot, column])
        start = row * t.pool[0].stride + ROW_UNIT
        end = start + t.row_unit[row] - UNIT_TAIL
        position = start + UNIT_HEAD
        while position < end:
            first = position
            position = get_record(t.memory, position, end, record)
            if position < 0:
                break
            if record[0] in (STREAM, STREAM_LENGTH):
                _split(t, channel, record, unit, now)
            elif channel % CHANNELS == CONTROL and not _copy_signal(t, session, first, position, now):
                return False
    release_block(t, channel, block)
    return True


@kernel
def _split(t: Tables, channel: int, record: NDArray[np.int64], unit: int, now: float) -> None:
    """Put the bytes of a STREAM record, as get_record() reads it, into shards of at most ``unit`` bytes."""
    flow, offset, start, size = record[1], record[2], record[3], record[4]
    stride = t.pool[0].stride
    while size > 0:
        row = take_row(t)
        head = row * stride + ROW_UNIT + UNIT_HEAD
        part = min(size, unit - UNIT_HEAD - UNIT_TAIL - stream_head_size(flow, offset))
        data = put_stream_head(t.memory, head, flow, offset)
        t.memory[data : data + part] = t.memory[start : start + part]
        finish_unit(t, row, data - head + part)
        enter_shard(t, channel, row, now)
        offset += part
        start += part
        size -= part


@kernel
def _copy_signal(t: Tables, session: int, start: int, end: int, now: float) -> bool:
    """Write a control record again; END records are not copied."""
    if t.memory[start] == 0:
        return True
    place = signal_space(t, session, end - start, now)
    if place < 0:
        return False
    t.memory[place : place + end - start] = t.memory[start:end]
    t.channel[session * CHANNELS + CONTROL].open_length += end - start
    return True
