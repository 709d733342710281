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

from drivers.kernel import kernel
from drivers.linux.tun import VNET_HEADER
from drivers.linux.tun_kernel import SLOT, read_packet, scatter_packet, write_packet
from vantun.dataplane.tun_filter import judge_incoming, judge_outgoing
from vantun.dataplane.tun_tables import (
    DOWN,
    HEAD,
    IN,
    MALFORMED,
    NO_BUFFER,
    NO_ROOM,
    OK,
    OUT,
    REFUSED,
    TRUNCATED,
    TunTables,
)
from vantun.session.packets import (
    MAX_PACKET,
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
def _count(r: Any, direction: int, slot: int, reason: int, size: int) -> None:
    r.count[direction, reason] += 1
    if slot >= 0:
        entry = r.slot[slot]
        if reason == OK:
            entry.packets[direction] += 1
            entry.bytes[direction] += size - VNET_HEADER
        else:
            entry.dropped[direction] += 1


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
        data[have : have + part] = memory[start : start + part]
        have += part
        if have == data.size:
            break
    return have


@kernel
def _read_small(t: Tables, tun: TunTables, now: float) -> tuple[int, int, int]:
    """Read a packet to the staging memory, and copy it to where it belongs.

    Returns
    -------
    tuple[int, int, int]
        Its bytes (or -errno, and nothing else), its slot (-1 = none), and OK or why it was dropped.
    """
    r = tun.root[0]
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
    if reason == OK and size > 0:
        _gather_head(t.memory, base, tun.places, count, tun.staging[:size])
    abandon_packet(t, flow, tun.rows, count)
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
    """
    t = head(t)
    r = tun.root[0]
    state = r.state[0]
    total = 0
    for _ in range(CALL_PACKETS):
        if total >= CALL_BYTES:
            break
        if state.client:
            if state.slot < 0 or r.slot[state.slot].flow < 0:
                return EMPTY, total
            if packet_room(t, int64(r.slot[state.slot].flow)) < MAX_PACKET + 4:
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
        state.bulk = slot if reason == OK and size >= _LARGE else -1
        _count(r, OUT, slot, reason, size)
    return MORE, total


@kernel
def _skip_header(pieces: NDArray[np.uint64], count: int) -> None:
    """Take the vnet header off the pieces of a packet: another one is written."""
    left = uint64(VNET_HEADER)
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
def write_tun(t: Tables, tun: TunTables, slot: int, flow: int, base: int, now: float) -> tuple[int, int]:
    """Write the packets of a session's flow to the device; what may not pass is dropped and counted.

    Returns
    -------
    tuple[int, int]
        MORE or EMPTY, or -errno when the device cannot be written to; and the bytes of the packets.
    """
    t = head(t)
    r = tun.root[0]
    state = r.state[0]
    total = 0
    for _ in range(CALL_PACKETS):
        if total >= CALL_BYTES:
            break
        count, size = next_packet(t, flow, base, tun.pieces, now)
        if count == 0:
            return EMPTY, total
        total += size
        have = _gather_head(t.memory, base, tun.pieces, count, tun.head)
        reason = judge_incoming(r, tun.head, have, size, slot)
        gone = 0
        if reason == OK:
            _skip_header(tun.pieces, count)
            done = write_packet(int64(state.descriptor), tun.iov, 1 + count)
            if done < 0:
                reason = _why(done)
                if reason < 0:
                    reason, gone = DOWN, done
        _count(r, IN, slot, reason, size)
        packet_done(t, flow)
        if gone:
            return gone, total
    return MORE, total
