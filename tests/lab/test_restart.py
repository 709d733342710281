"""Workers die and are replaced, in virtual time: no number comes twice, nothing is truncated, new streams work."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from vantun.dataplane.config import DataplaneConfig
from vantun.dataplane.events import SessionRestarted, SessionViolated
from vantun.dataplane.stages.depart import Outgoing
from vantun.lab.endpoint import Endpoint, MemoryPort
from vantun.lab.link import LinkProfile
from vantun.lab.network import SESSION, Network
from vantun.lab.packet_port import MemoryPacketPort
from vantun.session.floor_layout import SEND_STEP

GOOD = LinkProfile(rate=100e6, delay=0.01, queue_bytes=1_000_000)
LOSSY = replace(GOOD, loss=0.15)
BLOB = random.Random(1).randbytes(3_000_000)


def network_of(profile: LinkProfile, paths: int = 1, **settings: object) -> Network:
    network = Network(DataplaneConfig(**settings), seed=21)  # type: ignore[arg-type]
    for path in range(1, paths + 1):
        network.add_path(path, profile)
    return network


def numbers_of(network: Network) -> Callable[[], None]:
    """Watch the numbers of all packets that leave; return a check that none has come twice on a lane."""
    seen: dict[tuple[bytes, int], list[int]] = {}
    ends = network.client, network.server

    def watch(end: Endpoint, plane: object) -> None:
        stages = end.plane._depart
        departures = stages.work.departures
        inner = stages.run

        def run(now: float) -> tuple[Outgoing, float]:
            found = inner(now)
            for i in range(found[0].packets):
                cid = departures.source_offset[i] + 1
                name = end.plane.context.tables.memory[cid : cid + 8].tobytes()
                seen.setdefault((name, int(departures.lane[i])), []).append(int(departures.number[i]))
            return found

        stages.run = run  # type: ignore[method-assign]

    crash = network.crash

    def crash_and_watch(direction: int) -> None:
        crash(direction)
        watch(ends[direction], None)

    network.crash = crash_and_watch  # type: ignore[method-assign]
    for end in ends:
        watch(end, None)

    def check() -> None:
        assert seen
        for numbers in seen.values():
            assert len(numbers) == len(set(numbers))
            assert max(b - a for a, b in pairwise(numbers)) <= SEND_STEP + 1

    return check


def exchange(network: Network, name: str, size: int = 20_000, within: float = 3.0) -> None:
    """Carry ``size`` bytes each way over a new flow; one that is reset meanwhile is tried again, as programs do."""
    ports = [MemoryPort()]

    def serve(_target: str, far: MemoryPort) -> None:
        far.feed(BLOB[:size])
        far.finish()

    def begin() -> None:
        ports.append(MemoryPort())
        handle = network.open(f"{name}.{len(ports)}", ports[-1])
        ports[-1].feed(BLOB[:size])
        ports[-1].finish()
        network.client.plane.readable(handle)

    def done() -> bool:
        if ports[-1].was_reset:
            begin()
        far = network.accepted.get(f"{name}.{len(ports)}")
        return far is not None and far.ended and ports[-1].ended

    network.on_accept = serve
    begin()
    assert network.run(network.now + within, done), f"{name} does not work"
    assert bytes(ports[-1].received) == BLOB[:size] == bytes(network.accepted[f"{name}.{len(ports)}"].received)


def no_violation(network: Network) -> None:
    for end in (network.client, network.server):
        assert not [event for event in end.events if isinstance(event, SessionViolated)]


@pytest.mark.parametrize("direction", [0, 1], ids=["client", "server"])
@pytest.mark.parametrize("profile", [GOOD, LOSSY], ids=["good", "lossy"])
def test_the_session_goes_on(direction: int, profile: LinkProfile) -> None:
    network = network_of(profile, paths=2)
    check = numbers_of(network)
    exchange(network, "before:1")
    for death in range(4):
        port = MemoryPort()
        network.on_accept = lambda _, far: far.feed(BLOB)
        handle = network.open(f"bulk:{death}", port)
        port.feed(BLOB)
        network.client.plane.readable(handle)
        network.run(network.now + 0.1)
        far = network.accepted[f"bulk:{death}"]
        network.crash(direction)
        survivor = (far, port)[direction]
        assert network.run(network.now + 1.0, lambda port=survivor: port.was_reset)  # type: ignore[misc]
        for stream in (port, far):
            assert bytes(stream.received) == BLOB[: len(stream.received)]
            assert not stream.ended
        # the application of the dead end: its socket was reset by the kernel
        exchange(network, f"after:{death}")
    network.run(network.now + 0.5)
    no_violation(network)
    check()
    for end in (network.client, network.server):
        assert len(end.plane.flows) == 0
        assert end.rows_in_use <= 2 * 3 * 128
    told = [event for event in network.client.events + network.server.events if isinstance(event, SessionRestarted)]
    assert {event.session for event in told} == {SESSION}
    assert max(event.epoch for event in told) == 4


def test_who_lives_on_goes_on_counting() -> None:
    network = network_of(GOOD)
    exchange(network, "before:1")
    before = {name: network.server.channel_total(name) for name in ("shards", "bytes", "rx_shards")}
    assert all(before.values())
    network.crash(0)
    exchange(network, "after:1")
    after = {name: network.server.channel_total(name) for name in before}
    assert all(after[name] > 1.5 * value for name, value in before.items())


def test_both_ends_die_at_once() -> None:
    network = network_of(GOOD)
    exchange(network, "before:1")
    for death in range(20):  # more than the epochs that four bits tell apart
        network.crash(death & 1)
        network.crash(1 - (death & 1))
        exchange(network, f"after:{death}")
    no_violation(network)


def test_deaths_one_after_the_other_before_anybody_hears_of_them() -> None:
    network = network_of(GOOD)
    exchange(network, "before:1")
    for death in range(3):
        network.crash(0)
        network.run(network.now + 0.004)
        network.crash(1)
        network.run(network.now + 0.004)
        network.crash(0)
        exchange(network, f"after:{death}")
    no_violation(network)


def test_random_deaths() -> None:
    """Whenever they come, in whatever order: new streams work, and no number is used twice."""
    dice = random.Random(5)
    network = network_of(replace(LOSSY, loss=0.05), paths=2, rekey_after=500)
    check = numbers_of(network)
    for death in range(25):
        port = MemoryPort()
        handle = network.open(f"bulk:{death}", port)
        port.feed(BLOB)
        network.client.plane.readable(handle)
        for _ in range(dice.randrange(1, 4)):
            network.run(network.now + dice.choice((0.0005, 0.003, 0.02, 0.15)))
            network.crash(dice.randrange(2))
        exchange(network, f"after:{death}")
    no_violation(network)
    check()
    lanes = network.client.plane.context.tables.lane
    assert int(network.floors[0][0]["lane"][0]["send_updates"]) > 3
    assert int(lanes[0]["bad_tags"]) == 0


def test_packets_of_before_are_refused() -> None:
    """What an attacker recorded before the death is no use to him after it."""
    network = network_of(GOOD)
    recorded: list[bytes] = []

    def record(_path: int, direction: int, datagram: bytes) -> bytes:
        if direction == 0:
            recorded.append(datagram)
        return datagram

    network.tamper = record
    exchange(network, "before:1", 200_000)
    network.tamper = None
    network.crash(1)
    exchange(network, "after:1")
    drops = network.server.plane.snapshot()["drops"]
    assert isinstance(drops, dict)
    before = drops["replay"]
    for datagram in recorded:
        network.inject(0, datagram)
    network.run(network.now + 0.1)
    drops = network.server.plane.snapshot()["drops"]
    assert isinstance(drops, dict)
    assert drops["replay"] - before == len(recorded)
    no_violation(network)


def test_flow_ids_are_never_used_again() -> None:
    network = network_of(GOOD)
    used: list[int] = []
    for death in range(3):
        for number in range(3):
            used.append(int(network.client.plane.context.tables.session[0]["next_flow"]))
            exchange(network, f"flow:{death}.{number}", 10)
        network.crash(0)
        network.run(network.now + 0.5)
    assert len(used) == len(set(used)) == 9


@pytest.mark.parametrize("target", ["tun:", "udp:"])
def test_packet_flows_go_on(target: str) -> None:
    """The server's worker dies again and again; the client's port of packets notices nothing but loss."""
    network = network_of(GOOD)
    far: list[MemoryPacketPort] = []

    def accept(_: str) -> MemoryPacketPort:
        far.append(MemoryPacketPort(network.server.plane))
        return far[-1]

    network.accept_packets_with = accept
    port = network.open_packets(target)
    for death in range(4):
        for number in range(10):
            port.send(bytes([death, number]) * 50)
            network.run(network.now + 0.05)
        assert far[-1].bodies[-5:] == [bytes([death, number]) * 50 for number in range(5, 10)]
        far[-1].send(bytes([death]) * 70)
        network.run(network.now + 0.1)
        assert port.bodies[-1] == bytes([death]) * 70
        network.crash(1)
    assert len(far) == 4
    assert not port.was_reset
    no_violation(network)
