"""Packets over lossy paths, in virtual time: how many never come, how late the others are, what overload does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from tests.property.invariants import check_tables
from vantun.dataplane.config import DataplaneConfig
from vantun.dataplane.events import FlowClosed
from vantun.lab.endpoint import MemoryPort
from vantun.lab.link import LinkProfile
from vantun.lab.network import SESSION, Network
from vantun.lab.packet_port import MemoryPacketPort

LOSSY = LinkProfile(rate=50e6, delay=0.04, loss=0.05, queue_bytes=500_000)
"""80 ms round trip, 5 % lost."""
TICK = 0.005
_HEAD = 4


@dataclass
class Load:
    """Packets that say which one they are, put at the client in a steady rhythm."""

    network: Network
    target: str
    per_second: int
    sizes: tuple[int, int]
    sent: list[tuple[float, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(5)
        self.port = self.network.open_packets(self.target)
        self.network.run(self.network.now + 1.0)  # the path is measured, the flow open

    @property
    def far(self) -> MemoryPacketPort:
        return self.network.accepted_packets[self.target]

    def run(self, seconds: float) -> None:
        until = self.network.now + seconds
        owed = 0.0
        while self.network.now < until:
            owed += self.per_second * TICK
            bodies = []
            while owed >= 1.0:
                owed -= 1.0
                size = int(self.random.integers(*self.sizes))
                bodies.append(len(self.sent).to_bytes(_HEAD, "big") + self.random.bytes(size))
                self.sent.append((self.network.now, bodies[-1]))
            self.port.send(*bodies)
            self.network.run(self.network.now + TICK)

    def numbers(self) -> list[int]:
        """Return which packets came, in the order in which they came; check that they are what was sent, and once."""
        numbers = [int.from_bytes(body[:_HEAD], "big") for body in self.far.bodies]
        assert len(set(numbers)) == len(numbers), "a packet came twice"
        assert all(self.sent[n][1] == body for n, body in zip(numbers, self.far.bodies, strict=True))
        return numbers

    def residual(self) -> float:
        """Return the share of packets that never came."""
        return 1.0 - len(self.numbers()) / len(self.sent)

    def delays(self, owed: float, since: int = 0) -> list[float]:
        """Return what each packet, from number ``since`` on, took beyond ``owed`` seconds, sorted."""
        came = zip(self.numbers(), self.far.received, strict=True)
        return sorted(when - self.sent[n][0] - owed for n, (when, _) in came if n >= since)


def check_ends(network: Network) -> None:
    for end in (network.client, network.server):
        check_tables(end.plane)
        assert not [event for event in end.events if type(event).__name__ == "SessionViolated"]
        end.plane.end_session(SESSION, network.now)
        assert end.rows_in_use == 0
        check_tables(end.plane)


def packets_of(network: Network) -> tuple[dict[str, int], dict[str, int]]:
    """Return the counters of packets of client and server."""
    found = []
    for end in (network.client, network.server):
        packets = end.plane.snapshot()["packets"]
        assert isinstance(packets, list)
        found.append(packets[0])
    return found[0], found[1]


@pytest.mark.parametrize("target", ["tun:", "udp:"])
@pytest.mark.parametrize(("per_second", "sizes"), [(100, (20, 200)), (1500, (40, 1400))])
def test_five_percent_loss(
    target: str, per_second: int, sizes: tuple[int, int], record_property: Callable[[str, object], None]
) -> None:
    network = Network(seed=31)
    network.add_path(1, LOSSY)
    load = Load(network, target, per_second, sizes)
    load.run(1.0)  # the path's rate is being measured: packets wait for it
    since = len(load.sent)
    load.run(9.0)
    network.run(network.now + 1.0)
    delays = load.delays(LOSSY.delay, since)
    p99 = delays[len(delays) * 99 // 100]
    record_property("residual loss, %", round(load.residual() * 100, 3))
    record_property(
        "added delay p50, p99, max, ms", [round(d * 1e3, 1) for d in (delays[len(delays) // 2], p99, delays[-1])]
    )
    assert load.residual() < 0.002
    assert delays[len(delays) * 95 // 100] < 0.012  # parity is there before a round trip is over
    assert p99 < 0.16  # what parity could not repair is repaired on demand, or waited for no longer than the hold
    assert delays[-1] < 0.2
    if target == "tun:":
        assert load.numbers() == sorted(load.numbers())
    near, far = packets_of(network)
    assert near["packets_in"] == len(load.sent)
    assert far["packets_out"] == len(load.numbers())
    assert far["recovered"] > 0
    check_ends(network)


def test_a_path_without_loss_costs_no_parity_and_no_delay() -> None:
    network = Network(seed=32)
    network.add_path(1, replace(LOSSY, loss=0.0))
    load = Load(network, "tun:", 200, (40, 1400))
    load.run(30.0)
    before = network.client.channel_total("parity")
    load.run(5.0)
    network.run(network.now + 1.0)
    assert load.residual() == 0
    assert network.client.channel_total("parity") == before
    assert load.delays(LOSSY.delay)[-1] < 0.002
    check_ends(network)


def test_configured_parity_is_sent_on_a_clean_path_too() -> None:
    network = Network(config=DataplaneConfig(overhead=0.25), seed=32)
    network.add_path(1, replace(LOSSY, loss=0.0))
    load = Load(network, "tun:", 1500, (40, 1400))
    load.run(5.0)
    network.run(network.now + 1.0)
    assert load.residual() == 0
    [packets] = [row for row in network.client.plane.snapshot()["channels"] if row["class"] == "packets"]  # type: ignore[attr-defined]
    assert packets["parity"] >= 0.25 * packets["shards"]
    assert packets["parity"] <= 0.4 * packets["shards"]  # blocks that time has closed round up
    check_ends(network)


def test_packets_larger_than_shards() -> None:
    network = Network(seed=33)
    network.add_path(1, LOSSY)
    load = Load(network, "tun:", 60, (0, 65_000))
    load.run(5.0)
    network.run(network.now + 1.0)
    assert load.residual() < 0.02  # at 5 %, 57 shards without parity would arrive whole one time in twenty
    assert load.numbers() == sorted(load.numbers())
    check_ends(network)


def test_without_fec_lost_shards_are_sent_again_while_they_can_arrive() -> None:
    network = Network(DataplaneConfig(fec=False), seed=34)
    network.add_path(1, LOSSY)
    load = Load(network, "tun:", 500, (40, 1400))
    load.run(8.0)
    network.run(network.now + 1.0)
    assert network.client.channel_total("parity") == 0
    assert network.client.channel_total("resent") > 0
    assert load.residual() < 0.01
    assert load.numbers() == sorted(load.numbers())
    assert load.delays(LOSSY.delay)[-1] < 0.15 + 2 * TICK
    check_ends(network)


def test_a_dead_path_loses_packets_and_keeps_no_delay() -> None:
    network = Network(seed=35)
    network.add_path(1, LOSSY)
    load = Load(network, "tun:", 300, (40, 1400))
    load.run(2.0)
    network.cut(1)
    load.run(3.0)
    network.restore(1, 0.05)
    load.run(1.0)
    back = len(load.sent)
    load.run(3.0)
    network.run(network.now + 1.0)
    near, _ = packets_of(network)
    assert near["expired"] > 0
    numbers = load.numbers()
    assert numbers == sorted(numbers)
    after = [n for n in numbers if n >= back]
    assert len(after) > 0.98 * (len(load.sent) - back)
    late = [when - load.sent[n][0] for n, (when, _) in zip(numbers, load.far.received, strict=True) if n >= back]
    assert max(late) < 0.2 + LOSSY.delay
    check_ends(network)


def test_one_of_two_paths_dies() -> None:
    network = Network(seed=36)
    network.add_path(1, replace(LOSSY, delay=0.02))
    network.add_path(2, replace(LOSSY, delay=0.035))
    load = Load(network, "tun:", 800, (40, 1400))
    load.run(2.0)
    network.cut(1)
    load.run(3.0)
    network.run(network.now + 1.0)
    numbers = load.numbers()
    assert numbers == sorted(numbers)
    gone = len(load.sent) - len(numbers)
    assert gone < 0.3 * 800  # at most what was sent until the silence was noticed
    check_ends(network)


@pytest.mark.parametrize(("paths", "most"), [(1, 0.005), (2, 0.06)])
def test_parity_of_clean_paths_rebuilds_next_to_nothing(paths: int, most: float) -> None:
    """What parity overtakes is on its way, behind it or in the queue of the other path: it came to 30 % and 12 %."""
    network = Network(config=DataplaneConfig(overhead=0.25), seed=42)
    for path in range(1, paths + 1):
        network.add_path(path, replace(LOSSY, loss=0.0))
    load = Load(network, "tun:", 60 * paths, (60_000, 62_000))
    load.run(1.0)  # the rate is being measured
    since = len(load.sent)
    shards, before = network.server.channel_total("rx_shards"), network.server.channel_total("rx_recovered")
    load.run(2.0)
    network.run(network.now + 1.0)
    assert len([n for n in load.numbers() if n >= since]) == len(load.sent) - since
    came = [int(lane["received"]) for lane in network.server.plane.snapshot()["lanes"]]  # type: ignore[attr-defined]
    assert min(came) > 0.2 * sum(came)
    shards = network.server.channel_total("rx_shards") - shards
    assert network.server.channel_total("rx_recovered") - before < most * shards
    check_ends(network)


def test_what_one_of_two_paths_loses_is_rebuilt_from_parity() -> None:
    network = Network(config=DataplaneConfig(overhead=0.25), seed=43)
    network.add_path(1, replace(LOSSY, loss=0.0))
    network.add_path(2, LOSSY)
    load = Load(network, "tun:", 1500, (40, 1400))
    load.run(1.0)
    since = len(load.sent)
    load.run(5.0)
    network.run(network.now + 1.0)
    assert load.residual() < 0.002
    assert network.server.channel_total("rx_recovered") > 0
    delays = load.delays(LOSSY.delay, since)
    assert delays[len(delays) * 95 // 100] < 0.012  # as on one path
    check_ends(network)


def test_overload_drops_whole_packets_and_blocks_no_stream() -> None:
    """Twice what the path carries is put; a stream beside it gets its half of the path."""
    network = Network(seed=37)
    network.add_path(1, replace(LOSSY, rate=20e6, loss=0.01, queue_bytes=100_000))
    load = Load(network, "udp:", 4000, (1200, 1201))
    load.port.waits = False
    sink = MemoryPort()
    network.open("sink.example:1", sink)
    sink.feed(bytes(40_000_000))
    load.run(2.0)
    network.client.plane.readable(0)
    before = len(network.accepted["sink.example:1"].received), len(load.far.bodies)
    load.run(4.0)
    stream = (len(network.accepted["sink.example:1"].received) - before[0]) * 8 / 4.0
    packets = (len(load.far.bodies) - before[1]) * 1200 * 8 / 4.0
    assert stream > 0.25 * 20e6
    assert packets > 0.25 * 20e6
    near, _ = packets_of(network)
    assert near["dropped_full"] == load.port.refused_packets > 1000
    assert load.residual() > 0.3
    delays = load.delays(LOSSY.delay)
    assert delays[len(delays) * 99 // 100] < 0.4 + 0.04  # what packets may wait for here, and the queue of the path
    check_ends(network)


def test_a_port_that_waits_is_read_as_fast_as_the_path_allows() -> None:
    network = Network(seed=38)
    network.add_path(1, replace(LOSSY, rate=20e6, loss=0.01))
    load = Load(network, "tun:", 4000, (1200, 1201))
    load.run(2.0)
    assert load.port.fed > 0
    load.per_second = 0
    assert network.run(network.now + 20.0, lambda: load.port.fed == 0)
    network.run(network.now + 1.0)
    assert load.residual() < 0.01
    near, _ = packets_of(network)
    assert near["dropped_full"] == 0
    check_ends(network)


def test_the_path_shrinks() -> None:
    network = Network(seed=39)
    network.add_path(1, replace(LOSSY, loss=0.01), mtu=1452)
    load = Load(network, "tun:", 1000, (40, 1400))
    load.run(2.0)
    for direction in (0, 1):
        link = network.links[1, direction]
        link.set_profile(replace(link.profile, mtu=1300))
    load.run(2.0)
    assert int(network.client.plane.context.tables.lane[0]["mtu"]) == 1200
    whole = len(load.sent)
    load.run(3.0)
    network.run(network.now + 1.0)
    numbers = load.numbers()
    assert numbers == sorted(numbers)
    assert len([n for n in numbers if n >= whole]) > 0.99 * (len(load.sent) - whole)
    check_ends(network)


def test_reordering_and_duplication() -> None:
    network = Network(seed=40)
    network.add_path(1, replace(LOSSY, jitter=0.03, reorder=True, duplicate=0.05))
    load = Load(network, "tun:", 1000, (0, 3000))
    load.run(5.0)
    network.run(network.now + 1.0)
    assert load.residual() < 0.002
    assert load.numbers() == sorted(load.numbers())
    check_ends(network)


def test_an_end_in_peace_delivers_what_was_put() -> None:
    network = Network(seed=41)
    network.add_path(1, LOSSY)
    load = Load(network, "udp:", 200, (40, 1400))
    load.run(0.5)
    network.client.plane.end_packets(load.port.handle, network.now)
    assert load.port.closed
    network.run(network.now + 1.0)
    assert load.far.closed
    assert load.residual() < 0.02
    for end in (network.client, network.server):
        assert len(end.plane.flows) == 0
        assert [event for event in end.events if isinstance(event, FlowClosed)]
    check_ends(network)
