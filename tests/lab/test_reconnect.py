"""How soon a program's first byte is at its target, from the first packet of a path on: QUIC and data plane."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.vantun.control.quic_pair import Pair, client_config, server_config
from vantun.control.path_events import PathUp
from vantun.lab.endpoint import MemoryPort
from vantun.lab.link import Link, LinkProfile
from vantun.lab.network import Network, client_address
from vantun.lanes import LaneSpec

TARGET = "origin.example:80"


def lane(pair: Pair, number: int) -> LaneSpec | None:
    """Return the client's lane of path ``number``, once it is up."""
    return next((event.lane for event in pair.events[number] if isinstance(event, PathUp)), None)


def set_up(pair: Pair, number: int) -> float:
    """Set a path up; return the seconds that it took."""
    began = pair.now
    pair.connect(number)
    assert pair.run(5.0, lambda: lane(pair, number) is not None), pair.events[number]
    return pair.now - began


def first_byte(pair: Pair, number: int, profile: LinkProfile) -> float:
    """Return how long the first byte of a program takes that has waited for path ``number``."""
    near = lane(pair, number)
    assert near is not None
    far = next(event.lane for event in pair.server_events if isinstance(event, PathUp) and event.lane.path == number)
    network = Network(seed=5)
    for direction, socket in enumerate((near.socket, far.socket)):
        network.links[socket, direction] = Link(profile, 9, direction)
    network.source[near.socket] = client_address(near.socket)
    network.reachable[near.socket] = network.reachable[far.socket] = {client_address(near.socket), near.peer, far.peer}
    network.client.plane.add_lane(near, 0.0)
    network.server.plane.add_lane(far, 0.0)
    port = MemoryPort()
    port.feed(b"G")
    network.client.plane.open_flow(near.session, TARGET, port, 0.0)

    def arrived() -> bool:
        return TARGET in network.accepted and bool(network.accepted[TARGET].received)

    assert network.run(5.0, arrived)
    return network.now


@pytest.mark.parametrize("rtt", [0.02, 0.1, 0.6])
def test_a_client_that_comes_back_needs_one_and_a_half_round_trips(rtt: float, tmp_path: Path) -> None:
    profile = LinkProfile(delay=rtt / 2)
    pair = Pair(server_config(tmp_path), client_config(tmp_path), profile)
    first = set_up(pair, 0)
    assert first <= 2.0 * rtt + 0.005  # handshake, then credentials and Hello in one flight
    pair.run(2 * rtt)  # the ticket comes behind the handshake
    again = set_up(pair, 1)
    assert pair.paths[1]._quic.tls.early_data_accepted
    assert again + first_byte(pair, 1, profile) <= 1.5 * rtt + 0.015


def test_without_a_ticket_it_takes_one_round_trip_more(tmp_path: Path) -> None:
    profile = LinkProfile(delay=0.05)
    pair = Pair(server_config(tmp_path), client_config(tmp_path), profile)
    assert set_up(pair, 0) + first_byte(pair, 0, profile) <= 2.5 * 0.1 + 0.015
