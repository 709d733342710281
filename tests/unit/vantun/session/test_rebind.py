"""Socket addresses as a lane compares them, and trials packet by packet."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from drivers.linux.address import pack
from tests.peer import Peer
from vantun.dataplane.events import LaneMoved
from vantun.session.rebind import address_key

HOME = ("127.0.0.1", 1000)
ELSEWHERE = ("192.0.2.1", 2000)


def key(host: str, port: int, *, mapped: bool = False) -> tuple[int, int, int]:
    high, low, number = address_key(np.frombuffer(pack(host, port, mapped=mapped), np.uint8).reshape(1, -1), 0)
    return int(high), int(low), int(number)


def test_addresses_differ_by_every_part_and_by_nothing_else() -> None:
    assert key("192.0.2.1", 5) == key("192.0.2.1", 5, mapped=True)
    different = [
        ("192.0.2.1", 5), ("192.0.2.1", 6), ("192.0.2.1", 5 + 256), ("192.0.2.2", 5), ("193.0.2.1", 5),
        ("2001:db8::1", 5), ("2001:db8::2", 5), ("2001:db9::1", 5), ("2001:db8::1", 6), ("::1", 5),
    ]  # fmt: skip
    assert len({key(*address) for address in different}) == len(different)
    assert key("255.255.255.255", 65535) == (0, 0xFFFF_FFFF_FFFF, 65535)
    high, low, _ = key("fedc:ba98:7654:3210:fedc:ba98:7654:3210", 1)
    assert (high, low) == (0xFEDC_BA98_7654_3210, 0xFEDC_BA98_7654_3210)


def test_a_row_that_was_never_filled_is_no_address() -> None:
    assert address_key(np.zeros((1, 28), np.uint8), 0) == (0, 0, 0)


def lane(peer: Peer) -> Any:
    return peer.end.plane.context.tables.lane[0]


def send(peer: Peer, frames: bytes, source: tuple[str, int], number: int | None = None) -> None:
    peer.end.arrive(peer.packet(frames, number), peer.now, source)
    peer.end.run(peer.now)


def departed(peer: Peer, after: float = 0.0) -> list[tuple[bytes, tuple[str, int]]]:
    """Return (frames, destination) of what the endpoint sends now."""
    peer.now += after
    return [(peer.unseal(datagram)[1], where) for _, datagram, where in peer.end.depart_to(peer.now)]


def answers(sent: list[tuple[bytes, tuple[str, int]]], where: tuple[str, int]) -> list[bytes]:
    """Return the answers to the PROBEs that went to an address."""
    return [b"\x02" + frames[1:9] for frames, to in sent if frames[0] == 1 and to == where]


@pytest.fixture
def peer() -> Peer:
    made = Peer()
    for _ in range(20):
        send(made, b"\x01" + bytes(8), HOME)
    departed(made)
    lane(made)["srtt"], lane(made)["min_rtt"], lane(made)["rttvar"] = 0.02, 0.02, 0.001
    return made


def test_both_addresses_are_probed_with_different_values(peer: Peer) -> None:
    send(peer, bytes(50), ELSEWHERE)
    sent = departed(peer)
    there, here = answers(sent, ELSEWHERE), answers(sent, HOME)
    assert there
    assert here
    assert there[0] != here[0]


def test_the_new_address_is_taken_when_the_old_one_is_silent(peer: Peer) -> None:
    send(peer, bytes(50), ELSEWHERE)
    answer = answers(departed(peer), ELSEWHERE)[0]
    send(peer, answer, ELSEWHERE)
    departed(peer, 0.02)
    assert int(lane(peer)["rebinds"]) == 0, "too early: the old address may still answer"
    departed(peer, 0.03)
    assert int(lane(peer)["rebinds"]) == 1
    departed(peer)
    peer.end.run(peer.now)
    assert next(event for event in peer.end.events if isinstance(event, LaneMoved)).peer == ELSEWHERE
    assert all(where == ELSEWHERE for _, where in departed(peer, 6.0))


@pytest.mark.parametrize("source", [HOME, ELSEWHERE])
def test_an_answer_to_the_old_address_ends_the_trial_from_wherever(peer: Peer, source: tuple[str, int]) -> None:
    send(peer, bytes(50), ELSEWHERE)
    sent = departed(peer)
    send(peer, answers(sent, HOME)[0], source)
    send(peer, answers(sent, ELSEWHERE)[0], source)
    departed(peer, 0.06)
    assert (int(lane(peer)["rebinds"]), int(lane(peer)["spoofed"])) == (0, 1)


def test_a_newer_packet_from_the_old_address_ends_the_trial(peer: Peer) -> None:
    send(peer, bytes(50), ELSEWHERE)
    departed(peer)
    send(peer, bytes(50), HOME)
    departed(peer)
    assert (int(lane(peer)["trial"]), int(lane(peer)["spoofed"])) == (0, 1)


def test_an_older_packet_begins_no_trial(peer: Peer) -> None:
    peer.next += 1
    send(peer, bytes(50), HOME)
    send(peer, bytes(50), ELSEWHERE, number=peer.next - 2)
    assert (int(lane(peer)["trial"]), int(lane(peer)["elsewhere"])) == (0, 1)


def test_a_short_packet_pays_for_little(peer: Peer) -> None:
    send(peer, bytes(4), ELSEWHERE)  # 33 bytes
    total = 0
    for _ in range(200):
        for _, datagram, where in peer.end.depart_to(peer.now):
            total += len(datagram) if where == ELSEWHERE else 0
        peer.now += 0.01
    assert 0 < total <= 99
    assert int(lane(peer)["refused"]) == 1


def test_a_second_stranger_waits(peer: Peer) -> None:
    send(peer, bytes(50), ELSEWHERE)
    send(peer, bytes(50), ("192.0.2.2", 7))
    assert all(where in (HOME, ELSEWHERE) for _, where in departed(peer))


def test_a_client_begins_no_trial() -> None:
    peer = Peer(client=True)
    send(peer, bytes(50), ELSEWHERE)
    assert int(lane(peer)["trial"]) == 0
