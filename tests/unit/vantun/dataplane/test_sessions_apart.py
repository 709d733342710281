"""One session's trouble is no other session's, nor the next one's in the same row of the tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from accel.engine import Suite
from tests.peer import SECRETS, Peer, data, open_record, pair, receipt
from vantun.dataplane.ports import RefusalCode
from vantun.lab.endpoint import MemoryPort
from vantun.lab.network import SESSION
from vantun.lanes import LaneSpec
from vantun.session.tables import CHANNELS

OTHER = LaneSpec(
    session=77,
    path=1,
    socket=0,
    peer=("127.0.0.1", 2000),
    receive_cid=b"\0other-1",
    send_cid=b"\0other-2",
    suite=Suite.AES_128_GCM,
    send_secret=bytes(32),
    receive_secret=bytes(32),
    client=True,
)


def block_control(peer: Peer, session: int) -> None:
    """Make the peer of a session row accept no further control block."""
    peer.end.plane.context.tables.channel[session * CHANNELS]["credit"] = 0


def queued(peer: Peer, session: int) -> int:
    return int(peer.end.plane.context.tables.channel[session * CHANNELS]["shards"])


def fill_control(peer: Peer) -> None:
    """Open flows from the endpoint until their OPEN records have to wait."""
    block_control(peer, 0)
    for _ in range(8):
        peer.end.plane.open_flow(SESSION, "x" * 250 + ":1", MemoryPort(), peer.now)


def test_a_peer_that_gives_no_credit_holds_up_no_other_session() -> None:
    peer = Peer(client=True)
    peer.end.plane.add_lane(OTHER, peer.now)
    fill_control(peer)
    peer.end.plane.open_flow(77, "near.example:1", MemoryPort(), peer.now)
    peer.end.depart(peer.now)
    assert queued(peer, 0) == 0
    assert queued(peer, 1) == 1


def test_a_session_says_nothing_that_another_had_to_say() -> None:
    peer = Peer(client=True)
    fill_control(peer)
    assert peer.end_session() == peer.empty
    peer.end.plane.add_lane(OTHER, peer.now)
    peer.end.depart(peer.now)
    assert queued(peer, 0) == 0
    assert peer.pool() == peer.empty


def test_a_refusal_that_waits_does_not_outlive_its_session() -> None:
    peer = Peer()
    block_control(peer, 0)
    peer.send(data(1, 0, b"".join(open_record(flow) for flow in range(0, 32, 2))))
    for event in list(peer.end.events):
        if type(event).__name__ == "FlowOpened":
            peer.end.plane.refuse_flow(event.handle, RefusalCode.GENERAL, peer.now)  # type: ignore[union-attr]
    assert peer.end_session() == peer.empty


def test_late_keys_of_a_lane_are_not_installed_for_the_next() -> None:
    """A lane that ends within a probe timeout of a key update leaves nothing behind for the lane that takes its row."""
    peer = Peer()
    peer.send(b"\0\0\0\0")
    peer.end.arrive(peer.packet(b"\0\0\0\0", phase=1), peer.now)
    peer.end.run(peer.now)
    assert peer.end_session() == peer.empty
    spec = replace(OTHER, receive_cid=b"\0handmad", receive_secret=SECRETS[0], client=False)
    peer.end.plane.add_lane(spec, peer.now)
    peer.now += 1.0
    peer.end.depart(peer.now)
    # the phase that follows is still the first lane's second: had the old update struck, both slots would have moved on
    peer.next = 0
    peer.send(b"\x01" + bytes(8))
    peer.end.arrive(peer.packet(b"\x01" + bytes(8), phase=1), peer.now)
    peer.end.run(peer.now)
    assert peer.drops() == {}
    assert int(np.sum(peer.end.plane.context.tables.lane["received"])) == 2


def test_a_flow_id_reaches_into_no_other_session() -> None:
    """Sessions share one index; an id of more than 44 bits would be a flow of another one."""
    peer = Peer()
    peer.end.plane.add_lane(OTHER, peer.now)
    port = MemoryPort()
    peer.end.plane.open_flow(77, "victim.example:1", port, peer.now)
    peer.send(data(1, 0, pair(4, 1 << 44, 16)))
    assert not port.was_reset
    assert peer.violations == ["a flow id that it may not use, or too many flows"]


def test_receipts_of_one_session_reach_no_lane_of_another() -> None:
    peer = Peer()
    peer.end.plane.add_lane(replace(OTHER, path=2), peer.now)
    peer.end.depart(peer.now)  # both lanes send a PROBE
    peer.send(receipt([(0, 0)], path=2))
    lanes = peer.end.plane.context.tables.lane
    assert lanes[1]["acked"] == 0
    assert peer.violations == []
    peer.send(data(1, 0, pair(3, 0, 0)))
    assert peer.violations == []
