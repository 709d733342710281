"""Congestion marks end to end in virtual time: a queue that marks is kept short.

A path that lies about marks is not believed, and carries what it did before.
"""

from __future__ import annotations

from typing import Any

import pytest

from drivers.batch import CE, ECT0, ECT1, NOT_ECT
from vantun.lab.endpoint import MemoryPort
from vantun.lab.link import LinkProfile
from vantun.lab.network import Network
from vantun.session.ecn import ECN_NAMES, ECN_REASONS

RATE = 20e6


def transfer(profile: LinkProfile, seconds: float, translate: dict[int, int] | None = None) -> tuple[Any, Network]:
    """Send for so long; return the client's lane, and the network. ``translate`` is what the path does to marks."""
    network = Network(seed=5)
    network.add_path(1, profile)
    if translate:
        link = network.links[1, 0]
        link.marked = lambda _now, mark: translate.get(mark, mark)  # type: ignore[method-assign, assignment]
    port = MemoryPort()
    port.feed(bytes(int(RATE / 8 * seconds * 2)))
    network.open("a:1", port)
    network.run(seconds)
    return network.client.plane.context.tables.lane[0], network


def ecn(lane: Any) -> tuple[str, str]:
    return ECN_NAMES[lane["ecn"]], ECN_REASONS[lane["ecn_why"]]


def test_a_queue_that_marks_is_kept_short_and_full() -> None:
    deep = LinkProfile(rate=RATE, delay=0.02, queue_bytes=1 << 20)
    lane, network = transfer(LinkProfile(rate=RATE, delay=0.02, queue_bytes=1 << 20, mark=0.005), 3.0)
    assert ecn(lane) == ("capable", "")
    assert lane["ecn_marks"] > 0
    assert 0 < lane["ecn_events"] <= 3.0 / 0.04  # once per round trip
    marked = len(network.accepted["a:1"].received)
    plain, other = transfer(deep, 3.0)
    assert ecn(plain) == ("capable", "")
    assert plain["ecn_marks"] == 0
    assert marked > 0.97 * len(other.accepted["a:1"].received)
    assert lane["srtt"] < 0.04 + 0.01


@pytest.mark.parametrize(
    ("translate", "reason"),
    [
        ({ECT0: NOT_ECT}, "erases"),
        ({ECT0: ECT1}, "changes"),
        ({ECT0: CE}, "every packet"),
    ],
)
def test_a_path_that_changes_marks_loses_them_with_a_reason(translate: dict[int, int], reason: str) -> None:
    lane, network = transfer(LinkProfile(rate=RATE, delay=0.01, queue_bytes=1 << 20), 1.0, translate)
    state, why = ecn(lane)
    assert state == "failed"
    assert reason in why
    assert lane["ecn_scale"] == 1.0
    network.client.depart_to(network.now)
    assert set(network.client.marks) <= {NOT_ECT}
    assert len(network.accepted["a:1"].received) > 0.6 * RATE / 8


def test_a_path_that_drops_marked_packets_is_used_without_marks() -> None:
    network = Network(seed=5)
    network.add_path(1, LinkProfile(rate=RATE, delay=0.01, queue_bytes=1 << 20))
    link = network.links[1, 0]
    send, mark = link.send, [NOT_ECT]

    def marked(_now: float, given: int) -> int:
        mark[0] = given
        return given

    link.marked = marked  # type: ignore[method-assign, assignment]
    link.send = lambda now, size: [] if mark[0] else send(now, size)  # type: ignore[method-assign]
    port = MemoryPort()
    port.feed(bytes(500_000))
    network.open("a:1", port)
    network.run(8.0, lambda: len(network.accepted["a:1"].received) == 500_000 if "a:1" in network.accepted else False)
    assert len(network.accepted["a:1"].received) == 500_000
    assert ecn(network.client.plane.context.tables.lane[0]) == ("failed", ECN_REASONS[6])


def test_a_restarted_peer_counts_anew_and_marks_stay() -> None:
    lane, network = transfer(LinkProfile(rate=RATE, delay=0.01, queue_bytes=1 << 20), 1.0)
    assert ecn(lane) == ("capable", "")
    network.crash(1)
    network.run(1.5)
    port = MemoryPort()
    port.feed(bytes(500_000))
    network.open("b:1", port)
    network.run(4.0)
    assert len(network.accepted["b:1"].received) == 500_000
    assert ecn(lane) == ("capable", "")
    network.crash(0)
    network.open("c:1", port := MemoryPort())
    port.feed(bytes(500_000))
    network.run(7.0)
    assert len(network.accepted["c:1"].received) == 500_000
    assert ecn(network.client.plane.context.tables.lane[0]) == ("capable", "")
