"""How many sessions have shards that wait for a lane: while there are any, a worker does not rest for long."""

from __future__ import annotations

import numpy as np

from tests.peer import Peer, receipt
from tests.property.invariants import check_tables
from vantun.lab.network import SESSION
from vantun.lab.packet_port import MemoryPacketPort
from vantun.session.packets import put_packet

SHUT, OPEN = -100_000.0, 100_000.0
"""Congestion windows."""


def test_a_session_is_held_for_as_long_as_its_lane_has_no_room() -> None:
    peer = Peer(client=True)
    plane = peer.end.plane
    t = plane.context.tables
    flow = plane.open_flow(SESSION, "tun:", MemoryPacketPort(plane), peer.now) & 0xFFFFFF
    (lane,) = plane.sessions.lanes()

    def depart() -> list[int]:
        peer.now += 0.001
        return [peer.unseal(datagram)[0] for _, datagram in peer.end.depart(peer.now)]

    opened = depart()
    peer.send(receipt([(opened[0], opened[-1])]))
    depart()
    assert int(t.pool[0]["held"]) == 0
    t.lane["cwnd"][lane] = SHUT
    assert put_packet(t.root, flow, np.zeros(1100, np.uint8), 0, 1100, peer.now)
    assert not depart()
    assert int(t.pool[0]["held"]) == 1
    depart()
    assert int(t.pool[0]["held"]) == 1, "it is counted once"
    check_tables(plane)
    t.lane["cwnd"][lane] = OPEN
    assert put_packet(t.root, flow, np.zeros(1100, np.uint8), 0, 1100, peer.now)
    assert depart()
    assert int(t.pool[0]["held"]) == 0
    t.lane["cwnd"][lane] = SHUT
    assert put_packet(t.root, flow, np.zeros(1100, np.uint8), 0, 1100, peer.now)
    depart()
    plane.end_session(SESSION, peer.now)
    assert int(t.pool[0]["held"]) == 0, "it has ended"
    check_tables(plane)
