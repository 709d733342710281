"""States of a path: every event at every state, as a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.peer import Peer, receipt
from tests.property.invariants import check_tables
from vantun.session.recovery import ACTIVE, DEAD, STATE_NAMES, SUSPECT, VALIDATING
from vantun.session.wheel import wake

STATES = (VALIDATING, ACTIVE, SUSPECT, DEAD)


def lane(peer: Peer) -> Any:
    return peer.end.plane.context.tables.lane[0]


def begin(client: bool, state: int) -> Peer:
    """Return a peer whose lane is in ``state``, with one PROBE out; its probe timeout is 45 ms, then 90 ms."""
    peer = Peer(client=client)
    peer.depart()
    lane(peer)["state"] = state
    lane(peer)["srtt"], lane(peer)["min_rtt"], lane(peer)["rttvar"] = 0.02, 0.02, 0.005
    peer.end.events.clear()
    wake(peer.end.plane.context.tables.root, 0)  # its timers follow from what was just written
    return peer


def any_packet(peer: Peer) -> None:
    peer.send(b"\0\0\0\0")


def probe(peer: Peer) -> None:
    peer.send(b"\x01" + bytes(8))


def right_response(peer: Peer) -> None:
    peer.send(b"\x02" + int(lane(peer)["probe_value"]).to_bytes(8, "big"))


def wrong_response(peer: Peer) -> None:
    peer.send(b"\x02" + (int(lane(peer)["probe_value"]) ^ 1).to_bytes(8, "big"))


def receipt_of_the_probe(peer: Peer) -> None:
    peer.send(receipt([(0, 0)]))


def forged_packet(peer: Peer) -> None:
    packet = bytearray(peer.packet(bytes(20)))
    packet[-1] ^= 1
    peer.end.arrive(bytes(packet), peer.now)
    peer.end.run(peer.now)


def close_frame(peer: Peer) -> None:
    peer.send(b"\x04\x07\x00")


def first_timeout(peer: Peer) -> None:
    peer.depart(0.05)


def two_timeouts(peer: Peer) -> None:
    peer.depart(0.05)
    peer.depart(0.095)


def half_a_second(peer: Peer) -> None:
    for _ in range(50):
        peer.depart(0.01)


def ten_seconds(peer: Peer) -> None:
    for _ in range(200):
        peer.depart(0.05)


EVERY = {state: state for state in STATES}
TABLE: dict[Callable[[Peer], None], dict[int, int]] = {
    # the server needs no proof of its own: the client's packet came from where the lane leads
    any_packet: EVERY | {VALIDATING: ACTIVE},
    probe: EVERY | {VALIDATING: ACTIVE},
    right_response: dict.fromkeys(STATES, ACTIVE),
    wrong_response: EVERY | {VALIDATING: ACTIVE},
    receipt_of_the_probe: dict.fromkeys(STATES, ACTIVE),
    forged_packet: EVERY,
    close_frame: EVERY | {VALIDATING: ACTIVE},
    first_timeout: EVERY,
    two_timeouts: EVERY | {ACTIVE: SUSPECT},
    half_a_second: EVERY | {ACTIVE: SUSPECT},
    ten_seconds: EVERY | {ACTIVE: DEAD, SUSPECT: DEAD},
}
ONLY_SERVER = (any_packet, probe, wrong_response, close_frame)


@pytest.mark.parametrize("client", [False, True])
@pytest.mark.parametrize("state", STATES, ids=STATE_NAMES.__getitem__)
@pytest.mark.parametrize("event", TABLE, ids=lambda event: event.__name__)
def test_every_event_at_every_state(event: Callable[[Peer], None], state: int, client: bool) -> None:
    expected = TABLE[event][state]
    if client and state == VALIDATING and event in ONLY_SERVER:
        expected = VALIDATING  # a client waits for the answer to its own PROBE
    peer = begin(client, state)
    event(peer)
    assert STATE_NAMES[int(lane(peer)["state"])] == STATE_NAMES[expected]
    told = [(e.before, e.state) for e in peer.end.events if type(e).__name__ == "LaneChanged"]  # type: ignore[union-attr]
    assert [first for first, _ in told] == ([STATE_NAMES[state]] + [last for _, last in told[:-1]] if told else [])
    assert not told or told[-1][1] == STATE_NAMES[expected]
    check_tables(peer.end.plane)


@pytest.mark.parametrize("state", STATES, ids=STATE_NAMES.__getitem__)
def test_every_state_comes_back(state: int) -> None:
    """However long it was silent, a lane goes on probing, and an answer makes it active."""
    peer = begin(client=True, state=state)
    ten_seconds(peer)
    probes = [frames for _ in range(40) for frames in peer.depart(0.05) if frames[0] == 1]
    assert probes, "a lane in doubt is probed for ever"
    peer.send(b"\x02" + probes[-1][1:9])
    assert int(lane(peer)["state"]) == ACTIVE


def test_an_answer_to_no_probe_proves_nothing() -> None:
    peer = Peer(client=True)
    value = int(lane(peer)["probe_value"])
    peer.send(b"\x02" + value.to_bytes(8, "big"))
    assert int(lane(peer)["state"]) == VALIDATING
