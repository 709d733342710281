"""A client's address changes under way, or somebody pretends that it does: virtual time, exact bytes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from vantun.dataplane.events import LaneMoved
from vantun.lab.endpoint import Address
from vantun.lab.link import LinkProfile
from vantun.lab.network import Network, client_address, server_address
from vantun.lab.transfer import Transfer, start_transfer

SIZE = 3_000_000
PATH = LinkProfile(rate=40e6, delay=0.02, queue_bytes=200_000)
ATTACKER = ("203.0.113.66", 666)


def server_lane(network: Network, row: int = 0) -> Any:
    return network.server.plane.context.tables.lane[row]


def moves(network: Network) -> list[LaneMoved]:
    return [event for event in network.server.events if isinstance(event, LaneMoved)]


def finish(network: Network, transfer: Transfer, limit: float = 60.0) -> None:
    assert network.run(network.now + limit, lambda: transfer.done(network)), network.server.plane.snapshot()["lanes"]
    network.run(network.now + 1.0)
    transfer.check(network)


class Meter:
    """Counts what the server receives from each address and what it sends there."""

    def __init__(self, network: Network) -> None:
        self.received: Counter[Address] = Counter()
        self.sent: Counter[Address] = Counter()
        self.valid: set[Address] = set()
        self.worst = 0.0
        arrive, depart = network.server.arrive, network.server.depart_to

        def arrives(datagram: bytes, now: float, source: Address = ("", 0), mark: int = 0) -> None:
            self.received[source] += len(datagram)
            arrive(datagram, now, source, mark)

        def departs(now: float) -> list[tuple[int, bytes, Address]]:
            datagrams = depart(now)
            self.valid |= {event.peer for event in moves(network)}
            for _, datagram, peer in datagrams:
                self.sent[peer] += len(datagram)
                if peer != client_address(1) and peer not in self.valid:
                    assert self.sent[peer] <= 3 * self.received[peer], f"{peer}: more than three times what it sent"
                    self.worst = max(self.worst, self.sent[peer] / self.received[peer])
            return datagrams

        network.server.arrive = arrives  # type: ignore[method-assign]
        network.server.depart_to = departs  # type: ignore[method-assign]


def begin(*, loss: float = 0.0, seed: int = 31, up: int = SIZE, down: int = SIZE) -> tuple[Network, Transfer, Meter]:
    network = Network(seed=seed)
    network.add_path(1, replace(PATH, loss=loss))
    meter = Meter(network)
    transfer = start_transfer(network, up, down)
    network.run(0.4)
    return network, transfer, meter


@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_another_port_is_taken_and_nothing_is_measured_anew(loss: float) -> None:
    network, transfer, meter = begin(loss=loss)
    before = float(server_lane(network)["bandwidth"])
    new = network.rebind(1, port=50_000)
    patience = 1.0 if loss else 0.4  # questions and answers get lost, too
    assert network.run(network.now + patience, lambda: bool(moves(network)))
    assert [event.peer for event in moves(network)] == [new]
    assert float(server_lane(network)["bandwidth"]) > 0.5 * before
    assert float(server_lane(network)["loss_seen"]) < loss + 0.15
    finish(network, transfer)
    assert int(server_lane(network)["rebinds"]) == 1
    assert 0 < meter.worst <= 3


def test_another_address_is_taken_and_everything_is_measured_anew() -> None:
    network, transfer, _ = begin()
    new = network.rebind(1, host="192.0.2.7")
    seen: list[tuple[float, int]] = []

    def moved() -> bool:
        lane = server_lane(network)
        seen.append((float(lane["bandwidth"]), int(lane["mode"])))
        return bool(moves(network))

    assert network.run(network.now + 1.0, moved)
    assert seen[0][0] > 0
    assert seen[-1] == (0.0, 0), "a new network: congestion control begins at its start"
    assert moves(network)[0].peer == new
    finish(network, transfer)


def test_the_gap_of_a_download_is_a_few_round_trips() -> None:
    network, transfer, _ = begin(up=1000, down=SIZE)
    network.rebind(1, host="192.0.2.7")
    # a download's client sends RECEIPTs: they carry the news
    assert network.run(network.now + 0.25, lambda: bool(moves(network)))
    finish(network, transfer)


def test_an_idle_lane_moves_with_its_next_packet() -> None:
    network = Network(seed=32)
    network.add_path(1, PATH)
    network.run(2.0)
    new = network.rebind(1, host="192.0.2.9", port=9)
    network.run(14.0)  # two keep-alives
    assert [event.peer for event in moves(network)] == [new]
    transfer = start_transfer(network, 100_000, 100_000)
    finish(network, transfer)


@pytest.mark.parametrize("ahead", [0.0, 0.019])
def test_a_copied_packet_moves_nothing(ahead: float) -> None:
    """Somebody on the way copies packets and sends them from elsewhere, before the originals arrive or with them."""
    network, transfer, meter = begin()
    taken: list[bytes] = []

    def copy(path: int, direction: int, datagram: bytes) -> bytes:
        if direction == 0:
            network.inject(0, datagram, after=0.02 - ahead, source=ATTACKER)
        return datagram

    def keep(peer: Address, datagram: bytes) -> None:
        assert peer == ATTACKER
        taken.append(datagram)

    network.tamper, network.astray = copy, keep
    network.run(network.now + 0.3)
    rate = float(server_lane(network)["bandwidth"])
    finish(network, transfer)
    assert not moves(network)
    assert int(server_lane(network)["rebinds"]) == 0
    assert network.server.plane.sessions.peers[0].tobytes()[4:8] == bytes([10, 0, 0, 1])
    if ahead:
        assert int(server_lane(network)["spoofed"]) > 0
        assert taken, "challenges went there"
        assert meter.sent[ATTACKER] < 0.2 * meter.sent[client_address(1)]
    assert rate * 8 > 20e6, "and the flow goes on as fast as before"


def test_one_who_also_forwards_the_challenge_moves_nothing() -> None:
    """The challenge comes back answered, but so does the probe of the old address."""
    network, transfer, _ = begin()

    def copy(path: int, direction: int, datagram: bytes) -> bytes:
        if direction == 0:
            network.inject(0, datagram, after=0.001, source=ATTACKER)
        return datagram

    network.tamper = copy
    network.astray = lambda peer, datagram: network.inject(1, datagram, after=0.001, source=server_address(1))
    finish(network, transfer)
    assert not moves(network)
    assert int(server_lane(network)["spoofed"]) > 0


def test_a_silent_stranger_is_given_up() -> None:
    """The old address is dead and the new one does not answer: nothing moves, and the lane stays where it was."""
    network, _, meter = begin()
    stolen: list[bytes] = []

    def steal(path: int, direction: int, datagram: bytes) -> bytes | None:
        if direction == 0:
            network.inject(0, datagram, source=ATTACKER)
            stolen.append(datagram)
        return None

    network.tamper = steal
    network.run(network.now + 4.0)
    assert not moves(network)
    assert int(server_lane(network)["refused"]) > 0
    assert 0 < meter.sent[ATTACKER] <= 3 * meter.received[ATTACKER]


def test_a_forged_packet_begins_no_trial() -> None:
    network, transfer, meter = begin()

    def forge(path: int, direction: int, datagram: bytes) -> bytes:
        if direction == 0:
            network.inject(0, datagram[:-1] + bytes([datagram[-1] ^ 1]), source=ATTACKER)
        return datagram

    network.tamper = forge
    finish(network, transfer)
    assert meter.sent[ATTACKER] == 0
    assert int(server_lane(network)["elsewhere"]) == 0


def test_a_replayed_packet_begins_no_trial() -> None:
    network, transfer, meter = begin()

    def replay(path: int, direction: int, datagram: bytes) -> bytes:
        if direction == 0:
            network.inject(0, datagram, after=0.1, source=ATTACKER)
        return datagram

    network.tamper = replay
    finish(network, transfer)
    assert meter.sent[ATTACKER] == 0


def test_a_client_ignores_where_packets_come_from() -> None:
    network, transfer, _ = begin()

    def relabel(path: int, direction: int, datagram: bytes) -> bytes | None:
        if direction == 1:
            network.inject(1, datagram, after=0.02, source=ATTACKER)
            return None
        return datagram

    network.tamper = relabel
    finish(network, transfer)
    lane = network.client.plane.context.tables.lane[0]
    assert int(lane["rebinds"]) == int(lane["spoofed"]) == int(lane["trial"]) == 0


def test_the_old_address_that_still_works_is_kept_until_it_dies() -> None:
    network, transfer, _ = begin()
    new = network.rebind(1, port=50_001, keep=True)
    network.run(network.now + 0.3)
    assert not moves(network)
    network.reachable[1] = {new}
    finish(network, transfer)
    assert [event.peer for event in moves(network)] == [new]


def test_an_address_that_changes_every_half_second() -> None:
    network, transfer, _ = begin(up=5 * SIZE, down=5 * SIZE)
    for turn in range(6):
        network.rebind(1, port=50_100 + turn)
        network.run(network.now + 0.5)
    finish(network, transfer)
    assert int(server_lane(network)["rebinds"]) >= 5


def test_one_of_two_paths_moves() -> None:
    network = Network(seed=33)
    network.add_path(1, PATH)
    network.add_path(2, replace(PATH, delay=0.03))
    transfer = start_transfer(network, SIZE, SIZE)
    network.run(0.3)
    network.rebind(2, host="192.0.2.50")
    finish(network, transfer)
    assert [event.path for event in moves(network)] == [2]
