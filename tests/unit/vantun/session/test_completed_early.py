"""A block that the peer completes from its rows before all of it has left: the rest of it is not sent any more."""

from __future__ import annotations

import numpy as np

from tests.peer import PACKETS, Peer, receipt
from tests.property.invariants import check_tables
from tests.property.kernels import order_row
from vantun.lab.network import SESSION
from vantun.lab.packet_port import MemoryPacketPort
from vantun.session.packets import put_packet

SHARDS = 3
SHUT, OPEN = -100_000.0, 100_000.0
"""Congestion windows: nothing that is new fits into the first, however light."""


def depart(peer: Peer, after: float) -> list[tuple[int, bytes]]:
    """Let time pass; return number and frames of every packet that is sent then."""
    peer.now += after
    return [peer.unseal(datagram) for _, datagram in peer.end.depart(peer.now)]


def test_what_the_peer_has_completed_is_released_and_what_comes_after_it_is_sent() -> None:
    peer = Peer(client=True)
    plane = peer.end.plane
    t = plane.context.tables
    flow = plane.open_flow(SESSION, "tun:", MemoryPacketPort(plane), peer.now) & 0xFFFFFF
    (lane,) = plane.sessions.lanes()
    opened = [number for number, _ in depart(peer, 0.001)]
    peer.send(receipt([(opened[0], opened[-1])]))
    (channel,) = [number for number in range(len(t.channel)) if number % 4 == PACKETS and number // 4 == 0]

    def put(byte: int, size: int = 1100) -> None:
        assert put_packet(t.root, flow, np.full(size, byte, np.uint8), 0, size, peer.now)

    t.lane["cwnd"][lane] = SHUT
    t.lane["pto_count"][lane] = 1  # now a row may leave
    for byte in range(SHARDS):
        put(byte)
    depart(peer, 0.001)  # makes shards of the packets
    for _ in range(SHARDS):
        assert order_row(t.root, channel, 0)
    block = t.block[channel, 0]
    assert (int(block["k"]), int(block["sent"]), int(t.channel[channel]["queued"])) == (SHARDS, 0, SHARDS)
    rows = [number for _ in range(2) for number, frames in depart(peer, 0.001) if frames[:2] == bytes([0x09, PACKETS])]
    assert len(rows) == SHARDS
    peer.send(receipt([(rows[0], rows[-1])]))
    assert (int(block["used"]), int(block["acked_count"])) == (1, SHARDS), "not all of it has been sent"
    check_tables(plane)
    put(7)
    t.lane["cwnd"][lane] = OPEN
    sent = [frames for _, frames in depart(peer, 0.001) if frames[:2] == bytes([0x08, PACKETS])]
    assert [int.from_bytes(frames[2:6], "big") for frames in sent] == [128], "the first of the next block alone"
    assert (int(block["used"]), int(t.channel[channel]["queued"])) == (0, 0)
    assert int(t.channel[channel]["una_block"]) == 1
    check_tables(plane)
