"""Packets that are read right into rows: they arrive as those that are copied there, whatever was done between them."""

from __future__ import annotations

import ctypes
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.peer import PACKETS, SMALL, Peer
from tests.property.invariants import check_tables
from vantun.dataplane.pipeline import Dataplane
from vantun.lab.link import LinkProfile
from vantun.lab.network import SESSION, Network
from vantun.lab.packet_port import MemoryPacketPort
from vantun.session.limits import Limits
from vantun.session.packets import (
    LENGTH_SIZE,
    MAX_PACKET,
    PIECES,
    abandon_packet,
    commit_packet,
    packet_room,
    put_packet,
    reserve_packet,
)

ROOMY = replace(SMALL, limits=Limits(sessions=2, flows=16, rows=4096, flows_per_session=16))
COPY, ROWS, ABANDON = range(3)


class Sender:
    """The sending half of a flow by its kernels."""

    def __init__(self, plane: Dataplane, handle: int) -> None:
        self.root = plane.context.tables.root
        self.index = handle & 0xFFFFFF
        self.iov = np.zeros((PIECES, 2), np.uint64)
        self.rows = np.zeros(PIECES, np.int32)

    def reserve(self, now: float) -> int:
        return int(reserve_packet(self.root, self.index, self.iov, self.rows, now))

    def put(self, body: bytes, now: float) -> bool:
        """Do what readv does, between reserving and committing."""
        count = self.reserve(now)
        if not count:
            return False
        done = 0
        for address, length in self.iov[:count].tolist():
            piece = body[done : done + length]
            ctypes.memmove(address, piece, len(piece))
            done += len(piece)
        assert done == len(body)
        commit_packet(self.root, self.index, len(body), self.iov, self.rows, count, now)
        return True


def sender_of(peer: Peer) -> Sender:
    """Open a flow."""
    plane = peer.end.plane
    return Sender(plane, plane.open_flow(SESSION, "tun:", MemoryPacketPort(plane), peer.now))


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([COPY, ROWS, ROWS, ABANDON]),
            st.one_of(st.integers(0, 90), st.integers(0, 6000), st.sampled_from([65_545, MAX_PACKET])),
        ),
        max_size=12,
    )
)
def test_what_is_read_into_rows_arrives_among_what_is_copied(steps: list[tuple[int, int]]) -> None:
    network = Network(seed=5)
    network.add_path(1, LinkProfile(rate=1e9, delay=0.002, queue_bytes=1 << 22))
    port = network.open_packets("tun:")
    network.run(0.3)
    sender = Sender(network.client.plane, port.handle)
    random = np.random.default_rng(len(steps))
    sent: list[bytes] = []
    now = 0.3
    for how, size in steps:
        body = random.bytes(size)
        if how == ABANDON:
            count = sender.reserve(now)
            if count:
                abandon_packet(sender.root, sender.index, sender.rows, count)
        elif how == COPY:
            if put_packet(sender.root, sender.index, np.frombuffer(bytearray(body or b"\0"), np.uint8), 0, size, now):
                sent.append(body)
        elif sender.put(body, now):
            sent.append(body)
        check_tables(network.client.plane)
        if size % 3 == 0:
            network.client.plane.readable(port.handle)
            now += 0.05
            network.run(now)
    network.client.plane.readable(port.handle)
    network.run(now + 2.0)
    got = network.accepted_packets["tun:"].bodies
    assert got == sent
    for end in (network.client, network.server):
        check_tables(end.plane)


def test_rows_are_reserved_for_the_largest_packet_and_all_come_back() -> None:
    peer = Peer(ROOMY, client=True)
    pool = peer.end.plane.context.tables.pool[0]
    sender = sender_of(peer)
    peer.depart()  # OPEN
    free = int(pool["rows_free"])
    count = sender.reserve(peer.now)
    assert int(sender.iov[:count, 1].sum()) == MAX_PACKET
    assert free - int(pool["rows_free"]) == count
    abandon_packet(sender.root, sender.index, sender.rows, count)
    assert int(pool["rows_free"]) == free
    assert int(peer.end.plane.context.tables.channel[PACKETS]["open_row"]) == -1
    assert peer.depart() == []  # a record that was begun for nothing is not sent


@pytest.mark.parametrize("size", [0, 1, 1000, MAX_PACKET])
def test_rows_that_are_not_needed_come_back(size: int) -> None:
    peer = Peer(ROOMY, client=True)
    sender = sender_of(peer)
    tables = peer.end.plane.context.tables
    free = int(tables.pool[0]["rows_free"])
    assert sender.put(bytes(size), peer.now)
    area = int(tables.session[0]["unit"]) - 6
    shards = -(-(LENGTH_SIZE + size) // (area - 14))
    assert 0 < free - int(tables.pool[0]["rows_free"]) <= shards + 1
    check_tables(peer.end.plane)
    assert peer.end_session() == peer.empty


def test_without_room_nothing_is_reserved() -> None:
    peer = Peer(ROOMY, client=True)
    sender = sender_of(peer)
    while int(packet_room(sender.root, sender.index)) >= LENGTH_SIZE + MAX_PACKET:
        assert sender.put(bytes(MAX_PACKET), peer.now)
    free = int(peer.end.plane.context.tables.pool[0]["rows_free"])
    assert sender.reserve(peer.now) == 0
    assert int(peer.end.plane.context.tables.pool[0]["rows_free"]) == free
    assert int(peer.end.plane.context.tables.channel[PACKETS]["dropped_full"]) == 0
