"""How packets leave: bursts follow the path's rate, so that a short queue on the way holds them."""

from __future__ import annotations

from collections import Counter

import pytest

from vantun.dataplane.config import DataplaneConfig
from vantun.lab.endpoint import MemoryPort
from vantun.lab.link import FRAME_OVERHEAD, LinkProfile
from vantun.lab.network import Network


def bursts(rate: float, profile: LinkProfile, pauses: int = 4) -> tuple[Network, Counter[float]]:
    """Send bulk by ``brutal`` at ``rate``, with pauses; return the network, and the client's packets by time."""
    network = Network(config=DataplaneConfig(bulk_after=0, fec=False), seed=3)
    network.add_path(1, profile, rate=rate)
    network.run(0.3)
    times: Counter[float] = Counter()
    send = network.links[1, 0].send

    def sent(now: float, size: int) -> object:
        times[now] += size + FRAME_OVERHEAD
        return send(now, size)

    network.links[1, 0].send = sent  # type: ignore[method-assign, assignment]
    port = MemoryPort()
    handle = network.open("a:1", port)
    for _ in range(pauses):
        port.feed(bytes(int(rate / 8 * 0.2)))
        network.client.plane.readable(handle)
        network.run(network.now + 0.5)
    return network, times


@pytest.mark.parametrize("rate", [10e6, 100e6, 1e9])
def test_no_burst_is_longer_than_the_path_can_take_in_little_over_a_millisecond(rate: float) -> None:
    network, times = bursts(rate, LinkProfile(rate=rate * 1.1, delay=0.01))
    most = max(rate / 8 / 0.8 * 0.00125, 5 * 1300) + 1300  # brutal makes up for 20 % of loss
    settled = {now: size for now, size in times.items() if now > 0.35}
    assert max(settled.values()) <= most
    assert len(network.accepted["a:1"].received) == 4 * int(rate / 8 * 0.2)


def test_a_short_queue_drops_nothing() -> None:
    """What begins after a pause may go 16 packets over its pacer; with 16 packets of tokens besides, it overran it."""
    network, _ = bursts(10e6, LinkProfile(rate=11e6, delay=0.01, queue_bytes=24 * 1300))
    assert network.links[1, 0].counters()["tail_dropped"] == 0


def test_at_line_rate_a_burst_is_a_whole_message() -> None:
    """Fewer, larger system calls: the packets of a bulk span leave as one GSO message."""
    _, times = bursts(1e9, LinkProfile(rate=1.1e9, delay=0.01))
    sizes = sorted(times.values())
    assert sizes[len(sizes) // 2] >= 48 * 1200


@pytest.mark.parametrize("delay", [0.005, 0.0002], ids=["ten ms", "short path"])
def test_a_worker_whose_turns_are_long_keeps_its_rate(monkeypatch: pytest.MonkeyPatch, delay: float) -> None:
    """At line rate a turn takes milliseconds; with tokens for one and a quarter of them, bbr sank to a hundredth.

    On a short path the window, too, has to hold what is sent and acknowledged in a turn.
    """
    network = Network(config=DataplaneConfig(bulk_after=0), seed=4)
    network.add_path(1, LinkProfile(rate=200e6, delay=delay, queue_bytes=2_000_000))
    port = MemoryPort()
    handle = network.open("a:1", port)
    network.run(0.2)
    monkeypatch.setattr("vantun.lab.network.STEP", 0.003)
    port.feed(bytes(100_000_000))
    network.client.plane.readable(handle)
    network.run(2.0)
    before = len(network.accepted["a:1"].received)
    network.run(4.0)
    assert (len(network.accepted["a:1"].received) - before) * 8 / 2.0 > 0.8 * 200e6
