"""The tables of a worker's TUN device: sessions, routes, rules and counters, allocated once, in one record.

Times are seconds, sizes bytes. Addresses are two uint64 (upper and lower half) in host order; an IPv4 address stands in
the lowest 32 bits, and its family beside it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.arena import Arena, row_stride
from drivers.linux.tun import VNET_HEADER
from drivers.linux.tun_kernel import SLOT
from vantun.acl import ACTION_NUMBERS, packet_rule_type
from vantun.session.limits import MAX_SESSIONS
from vantun.session.packets import PACKET_PIECES, PIECES
from vantun.tun_messages import BUCKET_NUMBERS, BUCKETS, MAX_PACKET_RULES, MAX_PREFIXES

PLACES = 4 * MAX_PREFIXES
"""Places of the hash table of routes; a power of two, a quarter full at most."""
HEAD = 256
"""Bytes of a packet that are looked at: the vnet header, and headers of IP and transport."""

REASONS = (
    "",
    "malformed",  # no IP packet, or not as long as it says
    "source_route",  # IPv4 source route or IPv6 routing header with segments left: its target would not be judged
    "tiny_fragment",  # a fragment that hides the ports, or would overwrite them (RFC 1858)
    "spoofed",  # from an address that is not the session's
    "martian",  # from or to an address that no packet may have here
    "multicast",  # or broadcast: belongs to no session
    "no_route",  # to an address of no session, or not of this client
    "client_to_client",  # to another session, while that is off
    "acl",
    "no_room",  # the session's queue is full
    "truncated",  # longer than any IP packet (jumbogram)
    "vnet_header",  # a vnet header that contradicts its packet
    "offload",  # a superpacket of a kind that this kernel does not take
    "refused",  # by the kernel (EINVAL)
    "no_buffer",  # the kernel had no memory, or its queue was full
    "down",  # the interface is down (EIO)
)
"""Why packets are dropped; index 0 = they are not."""
(
    OK,
    MALFORMED,
    SOURCE_ROUTE,
    TINY_FRAGMENT,
    SPOOFED,
    MARTIAN,
    MULTICAST,
    NO_ROUTE,
    CLIENT_TO_CLIENT,
    ACL,
    NO_ROOM,
    TRUNCATED,
    BAD_VNET,
    OFFLOAD,
    REFUSED,
    NO_BUFFER,
    DOWN,
) = range(len(REASONS))

OUT, IN = range(2)
"""Directions: from the device into the tunnel, and from the tunnel to the device."""
DIRECTIONS = ("out", "in")

AWAY = 4 * (row_stride(SLOT) + 64)
"""Bytes for packets that are to be handed over to other workers."""
AWAY_HEAD = 8
"""Bytes before each of them: worker and length."""

state_dtype = np.dtype(
    [
        ("descriptor", "i4"),  # of the device, -1 = none
        ("client", "u1"),
        ("client_to_client", "u1"),
        ("plain", "u1"),  # the device has no vnet headers: they are put before, and taken off, here
        ("offloads", "i4"),  # TunOffload: what peers may send
        ("slot", "i4"),  # client: the session with the TUN flow, -1 = none
        ("bulk", "i4"),  # session that the last packet out went to, if it was a large one; -1 = it was none
        ("prefixes", "i4"),
        ("conflicts", "i4"),  # prefixes that another session has already
        ("rules", "i4"),
        ("away", "i4"),  # bytes of packets that wait to be handed over
    ],
    align=True,
)

slot_dtype = np.dtype(
    [
        ("used", "u1"),
        ("flow", "i4"),  # row of its TUN flow, -1 = none
        ("away", "i4"),  # worker that has one, if this one has not; -1 = none
        ("owner", "i4"),  # slot whose routes it has: its own, but for further slices of a session on this worker
        ("prefixes", "i4"),
        ("packets", "i8", 2),  # by direction
        ("bytes", "i8", 2),
        ("dropped", "i8", 2),
    ],
    align=True,
)

prefix_dtype = np.dtype([("network", "u8", 2), ("slot", "i4"), ("length", "u1"), ("family", "u1")], align=True)

rule_dtype = packet_rule_type()
REJECT = ACTION_NUMBERS["reject"]

packet_dtype = np.dtype(
    [
        ("family", "i4"),  # 4 or 6
        ("protocol", "i4"),  # of the transport, behind extension headers
        ("transport", "i4"),  # where its header begins, from the IP header on
        ("ends", "i4"),  # bytes of headers, the transport's included (0 = unknown)
        ("fragment", "i4"),  # 0 no, 1 the first, 2 a later one
        ("source", "u8", 2),
        ("target", "u8", 2),
        ("source_port", "i4"),  # -1 = it has none, or it is not seen
        ("target_port", "i4"),
    ],
    align=True,
)

root_dtype = np.dtype(
    [
        ("state", state_dtype, (1,)),
        ("packet", packet_dtype, (1,)),
        ("count", np.int64, (2, len(REASONS))),
        ("levels", np.int32, (2,)),  # prefix lengths in use, by family
        ("level", np.int32, (2, 129)),  # they, the longest first
        ("place", np.int32, (PLACES,)),
        ("slot", slot_dtype, (MAX_SESSIONS,)),
        ("prefix", prefix_dtype, (MAX_PREFIXES,)),
        ("rule", rule_dtype, (MAX_PACKET_RULES,)),
    ],
    align=True,
)


(RUN_OPEN, RUN_PACKETS, RUN_PIECES, RUN_SIZE, RUN_SEGMENT, RUN_HEAD, RUN_BUCKET, RUN_WORDS) = range(8)
"""Words of the datagrams that are gathered to be written as one: whether more may follow; how many there are, in how
many pieces, and bytes of their payload; bytes of the payload of each but the last; bytes of their headers, the vnet
header included; their bucket."""


class TunTables(NamedTuple):
    """What the kernels of the TUN device are given.

    Attributes
    ----------
    root
        [1] the record.
    staging
        [shape=(SLOT + VNET_HEADER,), dtype=uint8] where small packets are read to, and the beginnings of large ones are
        copied.
    head
        [shape=(HEAD,), dtype=uint8] beginning of the packet that is to be written, its vnet header first.
    run, run_head
        [shape=(RUN_WORDS,), dtype=int64], [shape=(HEAD,), dtype=uint8] datagrams that are gathered: numbers, headers.
    iov
        [shape=(1 + 2 * PACKET_PIECES, 2), dtype=uint64] what is written: headers, then the rest of the packet, or the
        payloads of those that are gathered, and behind them the next packet as it came.
    places, rows
        [shape=(PIECES, 2), dtype=uint64], [shape=(PIECES,), dtype=int32] where a large packet is read to.
    away
        [shape=(AWAY,), dtype=uint8] packets for other workers, each behind its AWAY_HEAD.
    buckets
        [shape=(BUCKETS, BUCKET_NUMBERS), dtype=int64] what has passed of each bucket.
    """

    root: Any
    staging: NDArray[np.uint8]
    head: NDArray[np.uint8]
    run: NDArray[np.int64]
    run_head: NDArray[np.uint8]
    iov: NDArray[np.uint64]
    places: NDArray[np.uint64]
    rows: NDArray[np.int32]
    away: NDArray[np.uint8]
    buckets: NDArray[np.int64]


def make_tun_tables() -> tuple[TunTables, Arena]:
    """Return empty tables, and the arena that owns the memory whose addresses the kernel is given."""
    arena = Arena(1, 2 * row_stride(HEAD) + row_stride(SLOT + VNET_HEADER) + AWAY)
    root = np.zeros(1, root_dtype)
    state = root[0]["state"][0]
    state["descriptor"] = -1
    state["slot"] = -1
    state["bulk"] = -1
    root[0]["place"] = -1
    root[0]["slot"]["flow"] = -1
    root[0]["slot"]["away"] = -1
    root[0]["slot"]["owner"] = np.arange(MAX_SESSIONS)
    iov, run = np.zeros((1 + 2 * PACKET_PIECES, 2), np.uint64), np.zeros(RUN_WORDS, np.int64)
    first = 2 * row_stride(HEAD)
    staging, head = arena.memory[first : first + SLOT + VNET_HEADER], arena.memory[:HEAD]
    run_head = arena.memory[row_stride(HEAD) : row_stride(HEAD) + HEAD]
    last = first + row_stride(SLOT + VNET_HEADER)
    away, buckets = arena.memory[last : last + AWAY], np.zeros((BUCKETS, BUCKET_NUMBERS), np.int64)
    places, rows = np.zeros((PIECES, 2), np.uint64), np.zeros(PIECES, np.int32)
    return TunTables(root, staging, head, run, run_head, iov, places, rows, away, buckets), arena
