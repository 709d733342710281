"""The sending half of packet flows: bodies are copied into shards, as long as the queue has room.

While the packets of a session are few, each begins a shard, so that what loses one loses no other. When they are many,
the channel's open row is filled by those of every flow, one behind the other, and gets a number when it is full or the
next packets are planned.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accel.kernels.memory import copy_bytes
from drivers.kernel import kernel
from vantun.session.blocks import enter_shard, finish_unit, room
from vantun.session.pool import ROW_UNIT, release_row, take_row
from vantun.session.tables import CHANNELS, PACKETS, SESSION_LANES, Tables, head
from vantun.session.wheel import wake
from vantun.wire.integers import int64
from vantun.wire.records import UNIT_HEAD, UNIT_TAIL, put_packets_head, set_packets_length

MAX_PACKET = 65_600
"""Bytes of the largest body: an IP packet of 65,535 with its vnet header, or a UDP payload with its address."""
LENGTH_SIZE = 4
"""Bytes of the length before each body."""
HEAD_MAX = 21
"""Bytes of the longest PACKETS head."""
WORTH = 64
"""Bytes that must be left in a shard for a record to be begun there."""
_QUEUE_MIN = 2 * (MAX_PACKET + LENGTH_SIZE)
_QUEUE_MAX = 1 << 22
_QUEUE_SECONDS = 0.03
"""The queue holds this much of the lanes' rate: enough to bridge a reader's pause, and no more delay than that."""
_BURST_HALF = 0.25
_FEW = 16
"""Shards of packets that may wait while each packet begins one: more are many, however little came before."""


@kernel
def _queue_limit(t: Tables, session: int) -> int:
    """Return how many bytes of packets may wait to be sent."""
    rate = 0.0
    for i in range(SESSION_LANES):
        lane = t.session_lane[session, i]
        if lane >= 0:
            rate += t.lane[lane].pacing_rate
    return int64(min(max(rate * _QUEUE_SECONDS, float(_QUEUE_MIN)), float(_QUEUE_MAX)))


@kernel
def packet_room(t: Tables, flow_index: int) -> int:
    """Return the bytes of packets (4 more than the body each) that may be put now without exceeding the queue.

    Stop reading from outside while it is below ``MAX_PACKET + 4``, unless the packets are known to be smaller.
    """
    t = head(t)
    record = t.flow[flow_index]
    if not record.used or not record.tx_open:
        return 0
    session = int64(record.session)
    ch = t.channel[session * CHANNELS + PACKETS]
    area = int64(t.session[session].unit) - UNIT_HEAD - UNIT_TAIL
    left = _queue_limit(t, session) - ch.queued * area - ch.open_length
    pool = t.pool[0]
    # a row that has been begun needs a number too; the rows kept back are for what repairs and other channels need
    shards = min(room(t, session * CHANNELS + PACKETS), int64(pool.rows_free - pool.rows // 16)) - 1
    shards = min(shards, int64(pool.rows_free - t.session[session].rows))
    return int64(max(0, min(left, shards * (area - HEAD_MAX))))


@kernel
def put_packet(t: Tables, flow_index: int, memory: NDArray[np.uint8], start: int, length: int, now: float) -> int:
    """Copy one body, ``memory[start : start + length]``, into shards of the flow; 1 = accepted, 0 = no room.

    Many small packets are packed behind each other until the next plan. A packet that is not accepted, because there is
    no room, the flow has ended or it has more than MAX_PACKET bytes, is counted as dropped: nothing of it was sent.
    """
    t = head(t)
    record = t.flow[flow_index]
    channel = record.session * CHANNELS + PACKETS
    ch = t.channel[channel]
    total = LENGTH_SIZE + length
    outside = length < 0 or length > MAX_PACKET or start < 0 or start + length > len(memory)
    if outside or packet_room(t, flow_index) < total:
        ch.dropped_full += 1
        return 0
    note_packet(t, int64(record.session), total, now)
    if ch.queued < _FEW and ch.burst <= t.policy[0].bulk_after:
        flush_packets(t, int64(record.session), now)
    done = 0
    while done < total:
        space = begin_record(t, channel, flow_index, total - done if done > 0 else 0, now)
        part = min(space, total - done)
        place = ch.open_row * t.pool[0].stride + ROW_UNIT + UNIT_HEAD + ch.open_length
        for i in range(done, min(done + part, LENGTH_SIZE)):
            t.memory[place + i - done] = np.uint8((length >> (8 * (LENGTH_SIZE - 1 - i))) & 0xFF)
        body = max(done, LENGTH_SIZE)
        if done + part > body:
            source = start + body - LENGTH_SIZE
            size = done + part - body
            copy_bytes(int64(t.memory.ctypes.data) + place + body - done, int64(memory.ctypes.data) + source, size)
        ch.open_length += part
        record.offset += part
        base = ch.open_row * t.pool[0].stride + ROW_UNIT + UNIT_HEAD
        set_packets_length(t.memory, base + ch.open_record, int64(ch.open_length - ch.open_record))
        done += part
    return 1


@kernel
def note_packet(t: Tables, session: int, size: int, now: float) -> None:
    """Account for a packet that is put: ``size`` bytes of the stream."""
    ch = t.channel[session * CHANNELS + PACKETS]
    if now != ch.burst_at:
        ch.burst *= 0.5 ** ((now - ch.burst_at) / _BURST_HALF)
        ch.burst_at = now
    ch.burst += size
    ch.packets_in += 1
    wake(t, session)


@kernel
def begin_record(t: Tables, channel: int, flow_index: int, rest: int, now: float) -> int:
    """Return how many bytes of the flow fit the open row, where its record is open; needs :func:`packet_room`.

    ``rest`` = bytes of a packet that has begun in an earlier shard.
    """
    ch = t.channel[channel]
    record = t.flow[flow_index]
    area = int64(t.session[channel // CHANNELS].unit) - UNIT_HEAD - UNIT_TAIL
    if ch.open_row >= 0:
        if ch.open_flow == flow_index and ch.open_length < area:
            return area - int64(ch.open_length)
        if area - ch.open_length < HEAD_MAX + WORTH:
            flush_packets(t, channel // CHANNELS, now)
    if ch.open_row < 0:
        ch.open_row = take_row(t)
        ch.open_length = 0
    base = ch.open_row * t.pool[0].stride + ROW_UNIT + UNIT_HEAD
    data = put_packets_head(t.memory, base + ch.open_length, int64(record.id), int64(record.offset), 0)
    space = area - int64(data - base)
    if rest > 0:
        data = put_packets_head(
            t.memory, base + ch.open_length, int64(record.id), int64(record.offset), min(rest, space)
        )
    ch.open_length = data - base
    ch.open_record = data - base
    ch.open_flow = flow_index
    return space


@kernel
def flush_packets(t: Tables, session: int, now: float) -> bool:
    """Give the open row a number, so that it is sent; False if the window does not allow it now.

    A row that no longer fits the path is dropped: its packets were put before the path shrank.
    """
    channel = session * CHANNELS + PACKETS
    ch = t.channel[channel]
    if ch.open_row < 0:
        return True
    if room(t, channel) < 1:
        return False
    row = int64(ch.open_row)
    ch.open_row = -1
    ch.open_flow = -1
    if UNIT_HEAD + ch.open_length + UNIT_TAIL > t.session[session].unit:
        release_row(t, row)
        ch.expired += 1
        return True
    finish_unit(t, row, int64(ch.open_length))
    enter_shard(t, channel, row, now)
    return True
