"""RESTART and RESTARTED on the wire, by a peer made by hand: what is answered, ignored, and what ends a session."""

from __future__ import annotations

import pytest

from tests.peer import BULK, INTERACTIVE, Peer, data, open_record, stream, varint
from vantun.dataplane.events import SessionRestarted

BAD_FLOW = "a flow id that it may not use, or too many flows"


def restart(epoch: int, flow: int, kind: int = 5) -> bytes:
    return bytes([kind]) + varint(epoch) + varint(flow)


def answers(peer: Peer) -> list[bytes]:
    """Return the RESTARTED frames that the endpoint sends now, without their padding."""
    return [frames[:3] for frames in peer.depart() if frames[0] == 6]


def restarts(peer: Peer) -> list[int]:
    return [event.epoch for event in peer.end.events if isinstance(event, SessionRestarted)]


def test_a_restart_is_adopted_once_and_answered_each_time() -> None:
    peer = Peer()
    peer.send(data(0, 0, open_record(0)), data(INTERACTIVE, 0, stream(0, 0, b"before")))
    assert len(peer.end.plane.flows) == 1
    peer.send(restart(1, 4096))
    assert answers(peer) == [restart(1, 1, 6)]
    assert len(peer.end.plane.flows) == 0
    peer.send(data(0x10, 0, open_record(4096)))
    assert len(peer.end.plane.flows) == 1
    peer.send(restart(1, 4096))
    assert answers(peer) == [restart(1, 1, 6)]
    assert len(peer.end.plane.flows) == 1
    peer.send(restart(0, 4096))
    assert answers(peer) == []
    assert restarts(peer) == [1]
    assert peer.violations == []
    assert peer.end_session() == peer.empty


def test_shards_of_another_epoch_are_dropped_and_not_acknowledged() -> None:
    peer = Peer()
    peer.send(restart(17, 0))  # its low bits are those of epoch 1
    assert answers(peer) == [restart(17, 1, 6)]
    peer.depart(0.1)
    peer.send(data(BULK, 0, stream(0, 0, b"old")), data(0x20 | BULK, 0, stream(0, 0, b"odd")))
    assert peer.drops() == {"epoch": 2}
    assert all(frames[0] != 3 for frames in peer.depart(0.1))  # there is nothing to report
    peer.send(data(0x10 | BULK, 0, stream(0, 0, b"new")))
    assert peer.drops() == {"epoch": 2}
    assert any(frames[0] == 3 for frames in peer.depart(0.1))


def test_what_came_with_the_restart_does_not_touch_the_new_epoch() -> None:
    """An ABANDON of the epoch before is an event that is read after the restart."""
    peer = Peer()
    abandon = b"\x08" + varint(BULK) + varint(0)
    peer.send(restart(1, 4096), data(0, 0, abandon), data(0, 1, open_record(0)))
    tables = peer.end.plane.context.tables
    assert int(tables.channel[BULK]["floor"]) == 0
    assert len(peer.end.plane.flows) == 0
    peer.send(data(0x10 | BULK, 0, stream(4096, 0, b"new")))
    assert peer.drops() == {}
    assert peer.violations == []
    assert peer.end_session() == peer.empty


@pytest.mark.parametrize("frame", [restart(1, 4095), restart(1, 8), restart(1, 1 << 44), restart(1, 7, 6)])
def test_flow_ids_that_cannot_be(frame: bytes) -> None:
    peer = Peer()
    peer.send(data(0, 0, open_record(8)))
    peer.send(frame)
    assert peer.violations == [BAD_FLOW]


@pytest.mark.parametrize("frame", [b"\x05", b"\x05\x01", b"\x06\x40", b"\x05\xff"])
def test_half_a_frame_is_malformed(frame: bytes) -> None:
    peer = Peer()
    peer.end.arrive(peer.packet(b"\0" * 4 + frame), peer.now)
    peer.end.run(peer.now)
    assert peer.drops() == {"malformed": 1}
    assert peer.violations == []


def test_a_flood_of_epochs_is_one_restart_at_a_time() -> None:
    peer = Peer()
    for first in range(1, 300, 100):
        peer.send(*(restart(epoch, 2 * epoch) for epoch in range(first, first + 100)))
        peer.depart(0.05)
    assert restarts(peer) == [1, 101, 201]
    assert peer.violations == []


def test_answers_that_nobody_asked_for_are_ignored() -> None:
    peer = Peer()
    peer.send(restart(5, 0, 6))
    assert peer.depart(0.01)
    assert restarts(peer) == []
    peer.send(data(BULK, 0, stream(0, 0, b"still here")))
    assert peer.drops() == {}
