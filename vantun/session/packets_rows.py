"""Large packets of packet flows without a copy: rows are prepared first, and the packet is read right into them.

``reserve_packet`` describes where a packet of any size may be read to, ``commit_packet`` makes what came a packet of
the flow, ``abandon_packet`` gives the rows back. The bytes in the shards are the same as those of ``put_packet``, which
is cheaper for small packets.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel
from vantun.session.packets_out import (
    HEAD_MAX,
    LENGTH_SIZE,
    MAX_PACKET,
    WORTH,
    begin_record,
    flush_packets,
    note_packet,
    packet_room,
)
from vantun.session.pool import ROW_UNIT, release_row, take_row
from vantun.session.tables import CHANNELS, PACKETS, Tables, head
from vantun.wire.integers import int64, uint64
from vantun.wire.records import UNIT_HEAD, UNIT_TAIL, put_packets_head, set_packets_length

PIECES = 80
"""Rows of the iovec: a packet of MAX_PACKET bytes in shards of the shortest path (1200 B) has 58 pieces."""


@kernel
def _row_start(t: Tables, row: int) -> int:
    """Return where the record area of a row starts."""
    return int64(row * t.pool[0].stride + ROW_UNIT + UNIT_HEAD)


@kernel
def reserve_packet(t: Tables, index: int, iov: NDArray[np.uint64], rows: NDArray[np.int32], now: float) -> int:
    """Point ``iov`` at space for the flow's next packet of up to MAX_PACKET bytes; return its pieces, 0 = no room.

    The first piece is in the open row of the channel, whose record is begun if it has to be (``rows[0]`` = 1: it was),
    the others in ``rows[1:]``, which are taken from the pool. Ends with :func:`commit_packet` or
    :func:`abandon_packet`, before anything else is done with the session.
    """
    t = head(t)
    record = t.flow[index]
    session = int64(record.session)
    ch = t.channel[session * CHANNELS + PACKETS]
    area = int64(t.session[session].unit) - UNIT_HEAD - UNIT_TAIL
    if packet_room(t, index) < LENGTH_SIZE + MAX_PACKET:
        return 0
    if ch.open_row >= 0 and (ch.open_flow != index or area - ch.open_length < HEAD_MAX + WORTH):
        flush_packets(t, session, now)
    rows[0] = 1 if ch.open_row < 0 else 0
    space = begin_record(t, session * CHANNELS + PACKETS, index, 0, now)
    base = int64(t.memory.ctypes.data)
    iov[0, 0] = uint64(base + _row_start(t, int64(ch.open_row)) + ch.open_length + LENGTH_SIZE)
    iov[0, 1] = uint64(space - LENGTH_SIZE)
    left = MAX_PACKET - (space - LENGTH_SIZE)
    offset = int64(record.offset) + space
    count = 1
    while left > 0:
        row = take_row(t) if count < len(rows) else -1
        if row < 0:
            abandon_packet(t, index, rows, count)
            return 0
        start = _row_start(t, row)
        data = put_packets_head(t.memory, start, int64(record.id), offset, 0)
        space = min(area - int64(data - start), left)
        rows[count] = row
        iov[count, 0] = uint64(base + data)
        iov[count, 1] = uint64(space)
        offset += space
        left -= space
        count += 1
    return count


@kernel
def abandon_packet(t: Tables, index: int, rows: NDArray[np.int32], count: int) -> None:
    """Give back what :func:`reserve_packet` has taken for ``count`` pieces: nothing was read, or it goes nowhere."""
    t = head(t)
    ch = t.channel[t.flow[index].session * CHANNELS + PACKETS]
    for i in range(1, count):
        release_row(t, int64(rows[i]))
    if rows[0]:
        release_row(t, int64(ch.open_row))
        ch.open_row = -1
        ch.open_flow = -1


@kernel
def commit_packet(
    t: Tables, index: int, size: int, iov: NDArray[np.uint64], rows: NDArray[np.int32], count: int, now: float
) -> None:
    """Make the ``size`` bytes that were read into ``count`` pieces a packet of the flow; free the rows without any."""
    t = head(t)
    record = t.flow[index]
    session = int64(record.session)
    ch = t.channel[session * CHANNELS + PACKETS]
    total = LENGTH_SIZE + size
    note_packet(t, session, total, now)
    start = _row_start(t, int64(ch.open_row))
    for i in range(LENGTH_SIZE):
        t.memory[start + ch.open_length + i] = np.uint8((size >> (8 * (LENGTH_SIZE - 1 - i))) & 0xFF)
    done = min(total, LENGTH_SIZE + int64(iov[0, 1]))
    ch.open_length += done
    record.offset += done
    set_packets_length(t.memory, start + ch.open_record, int64(ch.open_length - ch.open_record))
    for i in range(1, count):
        row = int64(rows[i])
        if done == total:
            release_row(t, row)
            continue
        flush_packets(t, session, now)
        part = min(total - done, int64(iov[i, 1]))
        start = _row_start(t, row)
        data = put_packets_head(t.memory, start, int64(record.id), int64(record.offset), part)
        set_packets_length(t.memory, data, part)
        ch.open_row = row
        ch.open_flow = index
        ch.open_record = data - start
        ch.open_length = data - start + part
        record.offset += part
        done += part
