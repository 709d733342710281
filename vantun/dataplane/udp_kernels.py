"""The loops over UDP packets in nopython code: datagrams to bodies (``address | payload``) and back.

Inwards (from a socket into the tunnel) every kernel reads a received batch and lists bodies, which ``put_bodies`` gives
to the flows. Outwards ``take_bodies`` collects bodies, and one kernel turns them into a batch to be sent. What none of
them may carry is counted in ``drops``, by the columns DROPS.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.batch import PacketBatch
from drivers.kernel import kernel
from vantun.dataplane.udp_bodies import FOREIGN, FRAGMENT, MALFORMED, NO_ROOM, NOT_ALLOWED, STRANGER, Bodies
from vantun.dataplane.udp_table import ALLOWED, REFUSED, Table, find_row
from vantun.session.packets import MAX_PACKET, next_packet, packet_done, put_packet
from vantun.session.tables import Tables, head
from vantun.wire.addresses import address_size, get_row, put_row
from vantun.wire.integers import int64

RELAY_HEAD = 3
"""Bytes of RFC 1928, section 7, before the address: reserved (2), fragment (1)."""
SOURCE_KEY = 28


class Program(NamedTuple):
    """The one program of a SOCKS5 relay."""

    host: NDArray[np.uint8]
    """[19] its address as bytes (vantun.wire.addresses), with port 0 as long as any port may be its."""
    size: NDArray[np.int64]
    """[2] bytes of ``host``; whether ``address`` is known (0 or 1)."""
    address: NDArray[np.uint8]
    """[1, 28] where answers go."""


class Listening(NamedTuple):
    """A listening socket with its sources."""

    sources: Table
    """By normalised socket address; ``number`` is the flow index."""
    mode: NDArray[np.int64]
    """[2] what the address of a body is: TO_TARGET, TO_ORIGINAL, OF_SOURCE; bytes of ``target``."""
    target: NDArray[np.uint8]
    """[259] the fixed address of a forward."""
    original: NDArray[np.uint8]
    """[messages, 28] the address that each message of the batch was sent to."""


TO_TARGET, TO_ORIGINAL, OF_SOURCE = range(3)


# --- into the tunnel


@kernel
def put_bodies(
    t: Tables, memory: NDArray[np.uint8], bodies: Bodies, count: int, drops: NDArray[np.int64], now: float
) -> int:
    """Give ``count`` bodies, which lie in ``memory``, to their flows; return how many were taken."""
    taken = 0
    for i in range(count):
        if put_packet(t, bodies.flow[i], memory, bodies.start[i], bodies.length[i], now):
            taken += 1
        else:
            drops[NO_ROOM] += 1
    return taken


@kernel
def _is_program(program: Program, rows: NDArray[np.uint8], row: int, scratch: NDArray[np.uint8]) -> bool:
    size = put_row(scratch, 0, rows, row)
    if size != program.size[0]:
        return False
    for i in range(size - 2):
        if scratch[i] != program.host[i]:
            return False
    any_port = program.host[size - 2] == 0 and program.host[size - 1] == 0
    same = program.host[size - 2] == scratch[size - 2] and program.host[size - 1] == scratch[size - 1]
    return bool(any_port or same)


@kernel
def read_relay(
    batch: PacketBatch, count: int, program: Program, bodies: Bodies, flow: int, drops: NDArray[np.int64]
) -> int:
    """List what the program of a relay sent; return how many. Bodies lie in ``batch.memory``, behind their headers.

    Any other sender is ignored. The first datagram that counts says from which port the program sends.
    """
    scratch = np.zeros(32, np.uint8)
    found = 0
    for i in range(count):
        peer = int64(batch.peer[i])
        if not _is_program(program, batch.address, peer, scratch):
            drops[FOREIGN] += 1
            continue
        start, end = batch.offset[i], batch.offset[i] + int64(batch.length[i])
        if end - start < RELAY_HEAD or address_size(batch.memory, start + RELAY_HEAD, end) < 0:
            drops[MALFORMED] += 1
            continue
        if batch.memory[start + 2]:
            drops[FRAGMENT] += 1
            continue
        if program.size[1] == 0:
            size = program.size[0]
            program.size[1] = 1
            program.host[size - 2] = scratch[size - 2]
            program.host[size - 1] = scratch[size - 1]
            program.address[0] = batch.address[peer]
        bodies.start[found] = start + RELAY_HEAD
        bodies.length[found] = end - start - RELAY_HEAD
        bodies.flow[found] = flow
        found += 1
    return found


@kernel
def _copy(batch: PacketBatch, i: int, memory: NDArray[np.uint8], at: int) -> int:
    """Copy the payload of packet ``i`` to ``memory[at:]``; return the end of it."""
    start, size = batch.offset[i], int64(batch.length[i])
    for j in range(size):
        memory[at + j] = batch.memory[start + j]
    return at + size


@kernel
def name_answers(
    batch: PacketBatch, count: int, hosts: Table, bodies: Bodies, flow: int, drops: NDArray[np.int64]
) -> int:
    """Put the source's address before each answer; return how many. Only hosts that were spoken to may answer."""
    at = 0
    found = 0
    for i in range(count):
        size = put_row(bodies.memory, at, batch.address, int64(batch.peer[i]))
        if size < 0 or at + size + int64(batch.length[i]) > len(bodies.memory):
            drops[MALFORMED] += 1
            continue
        if find_row(hosts, bodies.memory, at, size - 2) < 0:
            drops[STRANGER] += 1
            continue
        end = _copy(batch, i, bodies.memory, at + size)
        bodies.start[found] = at
        bodies.length[found] = end - at
        bodies.flow[found] = flow
        found += 1
        at = end
    return found


@kernel
def prefix_answers(batch: PacketBatch, count: int, peer: NDArray[np.uint8], bodies: Bodies, flow: int) -> int:
    """Put the bytes ``peer`` before each datagram of a connected socket; return how many."""
    at = 0
    found = 0
    for i in range(count):
        if at + len(peer) + int64(batch.length[i]) > len(bodies.memory):
            break
        for j in range(len(peer)):
            bodies.memory[at + j] = peer[j]
        end = _copy(batch, i, bodies.memory, at + len(peer))
        bodies.start[found] = at
        bodies.length[found] = end - at
        bodies.flow[found] = flow
        found += 1
        at = end
    return found


@kernel
def source_key(rows: NDArray[np.uint8], row: int, key: NDArray[np.uint8]) -> None:
    """Write a socket address so that equal ones are equal bytes: no flow label, zeros behind an IPv4 address."""
    inet = rows[row, 0] == 2  # AF_INET; else AF_INET6
    for i in range(SOURCE_KEY):
        unused = i >= 8 if inet else 4 <= i < 8
        key[i] = 0 if unused else rows[row, i]


@kernel
def sort_sources(
    batch: PacketBatch, packets: tuple[int, int], heard: Listening, bodies: Bodies, drops: NDArray[np.int64], now: float
) -> tuple[int, int, int]:
    """Build the bodies of packets ``packets[0] .. packets[1] - 1`` of a listening socket.

    Stops at the first packet of an unknown source, so that Python can admit it.

    Returns
    -------
    tuple[int, int, int]
        Bodies; packets that were looked at; bytes of ``bodies.memory`` in use.
    """
    table = heard.sources
    key = table.scratch
    at = 0
    found = 0
    for i in range(packets[0], packets[1]):
        peer = int64(batch.peer[i])
        source_key(batch.address, peer, key)
        row = find_row(table, key, 0, SOURCE_KEY)
        if row < 0:
            return found, i, at
        table.used[row] = now
        if at + 260 + int64(batch.length[i]) > len(bodies.memory):
            return found, i, at
        if heard.mode[0] == TO_TARGET:
            size = heard.mode[1]
            for j in range(size):
                bodies.memory[at + j] = heard.target[j]
        elif heard.mode[0] == TO_ORIGINAL:
            size = put_row(bodies.memory, at, heard.original, peer)
        else:
            size = put_row(bodies.memory, at, batch.address, peer)
        if size < 0:
            drops[MALFORMED] += 1
            continue
        end = _copy(batch, i, bodies.memory, at + size)
        bodies.start[found] = at
        bodies.length[found] = end - at
        bodies.flow[found] = int64(table.number[row])
        found += 1
        at = end
    return found, packets[1], at


# --- out of the tunnel


@kernel
def take_bodies(
    t: Tables, place: tuple[int, int], iov: NDArray[np.uint64], out: PacketBatch, lead: int, now: float
) -> int:
    """Copy the next bodies of a flow to ``out``, ``lead`` zero bytes before each; return how many.

    ``place`` is (flow index, address of ``t.memory``). Stops when the flow has none, or ``out`` no room for any size.
    """
    source = head(t).memory
    count = 0
    at = 0
    while count < len(out.offset) and at + lead + MAX_PACKET <= len(out.memory):
        rows, size = next_packet(t, place[0], place[1], iov, now)
        if rows == 0:
            break
        start = at
        for i in range(lead):
            out.memory[at + i] = 0
        at += lead
        if size <= MAX_PACKET:
            for row in range(rows):
                piece, length = int64(iov[row, 0]) - place[1], int64(iov[row, 1])
                for i in range(length):
                    out.memory[at + i] = source[piece + i]
                at += length
            out.offset[count] = start
            out.length[count] = at - start
            out.peer[count] = 0
            count += 1
        packet_done(t, place[0])
    return count


@kernel
def strip_addresses(out: PacketBatch, count: int, peer: int, drops: NDArray[np.int64]) -> int:
    """Leave the payload of each body, for ``peer``; return how many remain."""
    left = 0
    for i in range(count):
        start, end = out.offset[i], out.offset[i] + int64(out.length[i])
        size = address_size(out.memory, start, end)
        if size < 0:
            drops[MALFORMED] += 1
            continue
        out.offset[left] = start + size
        out.length[left] = end - start - size
        out.peer[left] = peer
        left += 1
    return left


@kernel
def name_sources(out: PacketBatch, count: int, peer: int, rows: NDArray[np.uint8], drops: NDArray[np.int64]) -> int:
    """As :func:`strip_addresses`, and write to ``rows`` [capacity, 28] the address that each payload came from."""
    left = 0
    for i in range(count):
        start, end = out.offset[i], out.offset[i] + int64(out.length[i])
        size = address_size(out.memory, start, end)
        if size < 0 or not get_row(out.memory, start, rows, left):
            drops[MALFORMED] += 1
            continue
        out.offset[left] = start + size
        out.length[left] = end - start - size
        out.peer[left] = peer
        left += 1
    return left


@kernel
def aim_bodies(
    out: PacketBatch, count: int, known: Table, rest: NDArray[np.int64], drops: NDArray[np.int64], now: float
) -> tuple[int, int]:
    """Aim each body at its destination, the row of ``known``; return (packets in ``out``, bodies in ``rest``).

    ``rest`` [capacity, 2] receives (start, bytes) of bodies whose destination is new, asked for, or to be asked again.
    """
    left = 0
    others = 0
    for i in range(count):
        start, end = out.offset[i], out.offset[i] + int64(out.length[i])
        size = address_size(out.memory, start, end)
        if size < 0:
            drops[MALFORMED] += 1
            continue
        row = find_row(known, out.memory, start, size)
        if row >= 0:
            known.used[row] = now
        if row < 0 or known.expires[row] < now or known.state[row] not in (ALLOWED, REFUSED):
            rest[others, 0] = start
            rest[others, 1] = end - start
            others += 1
            continue
        if known.state[row] == REFUSED:
            drops[NOT_ALLOWED] += 1
            continue
        out.offset[left] = start + size
        out.length[left] = end - start - size
        out.peer[left] = row
        left += 1
    return left, others
