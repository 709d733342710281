"""Packets between the TUN device and the TUN flows of sessions: one nopython call moves a batch, at most a millisecond.

Out of the device a large packet is read right into shard rows; a small one is copied there, which costs less than the
fifty places that a packet of unknown size wants. Towards the device nothing is copied: the kernel gathers it from the
rows.
"""

from __future__ import annotations

from errno import EAGAIN, EINTR, EINVAL, EIO, ENOBUFS, ENOMEM
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.kernels.memory import copy_bytes
from drivers.kernel import kernel
from drivers.linux.tun import VNET_HEADER
from drivers.linux.tun_kernel import SLOT, read_packet, scatter_packet, write_packet
from vantun.dataplane.tun_filter import judge_incoming, judge_outgoing
from vantun.dataplane.tun_merge import begin_run, extend_run, finish_head, joins, segment_of
from vantun.dataplane.tun_parse import bucket_of
from vantun.dataplane.tun_tables import (
    AWAY_HEAD,
    DOWN,
    HEAD,
    IN,
    MALFORMED,
    NO_BUFFER,
    NO_ROOM,
    NO_ROUTE,
    OK,
    OUT,
    REFUSED,
    RUN_BUCKET,
    RUN_HEAD,
    RUN_OPEN,
    RUN_PACKETS,
    RUN_PIECES,
    RUN_SIZE,
    TRUNCATED,
    TunTables,
)
from vantun.session.packets import (
    MAX_PACKET,
    PACKET_PIECES,
    abandon_packet,
    commit_packet,
    next_packet,
    packet_done,
    packet_room,
    put_packet,
    reserve_packet,
)
from vantun.session.tables import Tables, head
from vantun.wire.integers import int64, uint64

CALL_PACKETS = 64
CALL_BYTES = 1 << 20
"""What a call moves at most: 16 superpackets, of 6 us to read or 23 us to write, or 64 packets."""

_LARGE = 16_384
"""Bytes from which on the next packet is expected to be large, too, and of the same session. A wrong guess costs: 58
rows taken in vain, 0.5 us, or 64 KB copied, 6 us."""

MORE, WAIT, EMPTY = 2, 1, 0
"""Why a call of :func:`read_tun` ended: its share is used up; the client's flow has no room; nothing waits."""


@kernel
def _count(tun: TunTables, direction: int, slot: int, reason: int, packets: int, size: int, bucket: int) -> None:
    r = tun.root[0]
    r.count[direction, reason] += packets
    size -= packets * VNET_HEADER
    if reason == OK:
        tun.buckets[bucket, 2 * direction] += packets
        tun.buckets[bucket, 2 * direction + 1] += size
    if slot >= 0:
        entry = r.slot[slot]
        if reason == OK:
            entry.packets[direction] += packets
            entry.bytes[direction] += size
        else:
            entry.dropped[direction] += packets


@kernel
def _gather_head(
    memory: NDArray[np.uint8], base: int, pieces: NDArray[np.uint64], count: int, data: NDArray[np.uint8]
) -> int:
    """Copy the beginning of a packet to ``data``, as much as fits; return its bytes."""
    have = 0
    for i in range(count):
        start = int64(pieces[i, 0]) - base
        part = min(int64(pieces[i, 1]), data.size - have)
        if start < 0 or start + part > memory.size:
            return 0
        copy_bytes(int64(data.ctypes.data) + have, int64(memory.ctypes.data) + start, part)
        have += part
        if have == data.size:
            break
    return have


@kernel
def _elsewhere(r: Any, reason: int, slot: int) -> bool:
    """Tell whether a packet that has no way here has one by another worker."""
    return bool(reason == NO_ROUTE and slot >= 0 and r.slot[slot].flow < 0 and r.slot[slot].away >= 0)


@kernel
def _put_away(tun: TunTables, slot: int, size: int) -> None:
    """Keep the packet in the staging memory for the worker that has its session's flow; there is room."""
    r = tun.root[0]
    state = r.state[0]
    place = int64(state.away)
    worker = int64(r.slot[slot].away)
    for i in range(4):
        tun.away[place + i] = worker >> 8 * i & 0xFF
        tun.away[place + 4 + i] = size >> 8 * i & 0xFF
    place += AWAY_HEAD
    copy_bytes(int64(tun.away.ctypes.data) + place, int64(tun.staging.ctypes.data), size)
    state.away = place + size


@kernel
def _read_small(t: Tables, tun: TunTables, now: float) -> tuple[int, int, int]:
    """Read a packet to the staging memory, and copy it to where it belongs.

    Returns
    -------
    tuple[int, int, int]
        Its bytes (or -errno, and nothing else), its slot (-1 = none), and OK or why it was dropped.
    """
    r = tun.root[0]
    if r.state[0].plain:
        size = read_packet(int64(r.state[0].descriptor), tun.staging, VNET_HEADER)
        tun.staging[:VNET_HEADER] = 0
        size += VNET_HEADER if size >= 0 else 0
    else:
        size = read_packet(int64(r.state[0].descriptor), tun.staging, 0)
    if size < 0:
        return size, -1, OK
    if size >= SLOT:
        return size, -1, TRUNCATED
    if size < VNET_HEADER:
        return size, -1, MALFORMED
    reason, slot = judge_outgoing(r, tun.staging, size)
    if reason == OK and put_packet(t, int64(r.slot[slot].flow), tun.staging, 0, size, now) != 1:
        reason = NO_ROOM
    if _elsewhere(r, reason, slot):
        _put_away(tun, slot, size)
    return size, slot, reason


@kernel
def _read_large(t: Tables, tun: TunTables, expected: int, count: int, now: float) -> tuple[int, int, int]:
    """Read a packet to the ``count`` places that were reserved for the session in slot ``expected``; see _read_small.

    A packet of another session is copied, as a small one is.
    """
    r = tun.root[0]
    flow = int64(r.slot[expected].flow)
    base = int64(t.memory.ctypes.data)
    size = scatter_packet(int64(r.state[0].descriptor), tun.places, count)
    slot = -1
    reason = OK
    if size >= SLOT:
        reason = TRUNCATED
    elif 0 <= size < VNET_HEADER:
        reason = MALFORMED
    elif size > 0:
        _gather_head(t.memory, base, tun.places, count, tun.staging[: min(size, HEAD)])
        reason, slot = judge_outgoing(r, tun.staging, size)
    if reason == OK and slot == expected:
        commit_packet(t, flow, size, tun.places, tun.rows, count, now)
        return size, slot, OK
    away = _elsewhere(r, reason, slot)
    if (reason == OK or away) and size > 0:
        _gather_head(t.memory, base, tun.places, count, tun.staging[:size])
    abandon_packet(t, flow, tun.rows, count)
    if away:
        _put_away(tun, slot, size)
    if reason == OK and size > 0 and put_packet(t, int64(r.slot[slot].flow), tun.staging, 0, size, now) != 1:
        reason = NO_ROOM
    return size, slot, reason


@kernel
def read_tun(t: Tables, tun: TunTables, now: float) -> tuple[int, int]:
    """Read packets from the device and put them into the flows they belong to.

    Returns
    -------
    tuple[int, int]
        MORE, WAIT, EMPTY, or -errno when the device cannot be read; and the bytes read.

    Packets of sessions that another worker serves are in ``tun.away`` then, ``state.away`` bytes, and to be taken from
    there before the next call.
    """
    t = head(t)
    r = tun.root[0]
    state = r.state[0]
    total = 0
    for _ in range(CALL_PACKETS):
        if total >= CALL_BYTES or state.away + AWAY_HEAD + SLOT > tun.away.size:
            break
        if state.client:
            if state.slot < 0:
                return EMPTY, total
            own = int64(r.slot[state.slot].flow)
            if own < 0 and r.slot[state.slot].away < 0:
                return EMPTY, total
            if own >= 0 and packet_room(t, own) < MAX_PACKET + 4:
                return WAIT, total
        expected = int64(state.bulk)
        count = 0
        if expected >= 0 and r.slot[expected].flow >= 0:
            count = reserve_packet(t, int64(r.slot[expected].flow), tun.places, tun.rows, now)
        if count > 0:
            size, slot, reason = _read_large(t, tun, expected, count, now)
        else:
            size, slot, reason = _read_small(t, tun, now)
        if size < 0:
            return (EMPTY if size == -EAGAIN or size == -EINTR else size), total
        total += size
        state.bulk = slot if reason == OK and size >= _LARGE and not state.plain else -1
        if not _elsewhere(r, reason, slot):
            _count(tun, OUT, slot, reason, 1, size, bucket_of(r.packet[0]))
    return MORE, total


@kernel
def put_handed(t: Tables, tun: TunTables, memory: NDArray[np.uint8], start: int, size: int, now: float) -> int:
    """Put a packet that another worker has read, ``memory[start : start + size]``, into the flow that it belongs to.

    Returns OK, or why it was dropped.
    """
    t = head(t)
    r = tun.root[0]
    if size < VNET_HEADER or size >= SLOT:
        reason, slot = MALFORMED, -1
    else:
        reason, slot = judge_outgoing(r, memory[start : start + size], size)
    if reason == OK and put_packet(t, int64(r.slot[slot].flow), memory, start, size, now) != 1:
        reason = NO_ROOM
    _count(tun, OUT, slot, reason, 1, size, bucket_of(r.packet[0]))
    return reason


@kernel
def _skip(pieces: NDArray[np.uint64], count: int, size: int) -> None:
    """Take the first ``size`` bytes off the pieces of a packet: others are written."""
    left = uint64(size)
    for i in range(count):
        part = min(pieces[i, 1], left)
        pieces[i, 0] += part
        pieces[i, 1] -= part
        left -= part
        if left == 0:
            break


@kernel
def _why(number: int) -> int:
    """Return the reason behind a -errno of writing; -1 = the device is gone."""
    if number == -EINVAL:
        return REFUSED
    if number in (-EAGAIN, -EINTR, -ENOBUFS, -ENOMEM):
        return NO_BUFFER
    if number == -EIO:
        return DOWN
    return -1


@kernel
def _write_run(tun: TunTables, slot: int) -> int:
    """Write the datagrams that were gathered, if any, as one packet; return 0, or -errno when the device is gone."""
    run, packets = tun.run, int64(tun.run[RUN_PACKETS])
    if packets == 0:
        return 0
    finish_head(tun.run_head, run)
    tun.iov[0, 0], tun.iov[0, 1] = uint64(tun.run_head.ctypes.data), uint64(run[RUN_HEAD])
    done = write_packet(int64(tun.root[0].state[0].descriptor), tun.iov, 1 + int64(run[RUN_PIECES]))
    reason, gone = OK, 0
    if done < 0:
        reason = _why(done)
        if reason < 0:
            reason, gone = DOWN, done
    size = int64(run[RUN_SIZE]) + packets * int64(run[RUN_HEAD])
    _count(tun, IN, slot, reason, packets, size, int64(run[RUN_BUCKET]))
    run[RUN_PACKETS], run[RUN_PIECES], run[RUN_OPEN] = 0, 0, 0
    return gone


@kernel
def _write_alone(tun: TunTables, count: int) -> int:
    """Write the packet in ``iov[1 : 1 + count]``; return its bytes or -errno."""
    state = tun.root[0].state[0]
    _skip(tun.iov[1:], count, VNET_HEADER)
    if state.plain:
        return write_packet(int64(state.descriptor), tun.iov[1:], count)
    tun.iov[0, 0], tun.iov[0, 1] = uint64(tun.head.ctypes.data), uint64(VNET_HEADER)
    return write_packet(int64(state.descriptor), tun.iov, 1 + count)


@kernel
def _pass_on(tun: TunTables, slot: int, count: int, size: int, segment: int) -> int:
    """Write a packet that may pass, ``iov[1 + RUN_PIECES :]``, or gather it; return 0, or -errno."""
    run, bucket = tun.run, bucket_of(tun.root[0].packet[0])
    p = tun.root[0].packet[0]
    used = int64(run[RUN_PIECES])
    if segment > 0 and run[RUN_PACKETS] > 0 and joins(tun.run_head, run, tun.head, segment, p):
        _skip(tun.iov[1 + used :], count, int64(run[RUN_HEAD]))
        extend_run(run, segment, count)
        return 0
    gone = _write_run(tun, slot)
    if gone:
        return gone
    for i in range(count if used > 0 else 0):
        tun.iov[1 + i, 0], tun.iov[1 + i, 1] = tun.iov[1 + used + i, 0], tun.iov[1 + used + i, 1]
    if segment > 0:
        begin_run(tun.run_head, run, tun.head, segment, bucket, p)
        _skip(tun.iov[1:], count, int64(run[RUN_HEAD]))
        extend_run(run, segment, count)
        return 0
    done = _write_alone(tun, count)
    reason = OK
    if done < 0:
        reason = _why(done)
        if reason < 0:
            reason, gone = DOWN, done
    _count(tun, IN, slot, reason, 1, size, bucket)
    return gone


@kernel
def write_tun(t: Tables, tun: TunTables, slot: int, flow: int, base: int, now: float) -> tuple[int, int]:
    """Write the packets of a session's flow to the device; what may not pass is dropped and counted.

    Datagrams of one UDP flow that follow each other are gathered and written as one. Their rows are free meanwhile,
    but nobody takes any before this returns.

    Returns
    -------
    tuple[int, int]
        MORE or EMPTY, or -errno when the device cannot be written to; and the bytes of the packets.
    """
    t = head(t)
    r = tun.root[0]
    total = 0
    status = MORE
    gone = 0
    tun.run[RUN_PACKETS], tun.run[RUN_PIECES], tun.run[RUN_OPEN] = 0, 0, 0
    for _ in range(CALL_PACKETS):
        if total >= CALL_BYTES or gone:
            break
        if tun.run[RUN_PIECES] >= PACKET_PIECES:
            gone = _write_run(tun, slot)
            if gone:
                break
        count, size = next_packet(t, flow, base, tun.iov[1 + int64(tun.run[RUN_PIECES]) :][:PACKET_PIECES], now)
        if count == 0:
            status = EMPTY
            break
        total += size
        have = _gather_head(t.memory, base, tun.iov[1 + int64(tun.run[RUN_PIECES]) :], count, tun.head)
        reason = judge_incoming(r, tun.head, have, size, slot)
        if reason == OK:
            segment = segment_of(tun.head, size, int64(r.state[0].offloads), r.packet[0])
            gone = _pass_on(tun, slot, count, size, segment)
        else:
            _count(tun, IN, slot, reason, 1, size, 0)
        packet_done(t, flow)
    if not gone:
        gone = _write_run(tun, slot)
    return (gone if gone else status), total
