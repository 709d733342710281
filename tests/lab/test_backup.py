"""Backup paths: idle while a primary one is active, used as soon as none is, and left again when one is back."""

from __future__ import annotations

from dataclasses import replace

from vantun.lab.endpoint import Endpoint
from vantun.lab.link import LinkProfile
from vantun.lab.network import SESSION, Network
from vantun.lab.transfer import start_transfer

PATH = LinkProfile(rate=10e6, delay=0.02, queue_bytes=60_000)
SIZE = 3_000_000
PRIMARY, SPARE = 1, 2
FAILOVER = 0.5
"""Seconds after a cut within which data moves on, at a round-trip time of 40 ms."""
PROBES = 20_000
"""Bytes that probes and RECEIPTs of a path may need in a second."""


def sent(end: Endpoint, path: int) -> int:
    """Return the bytes that an endpoint has sent on a path."""
    lanes = end.plane.snapshot()["lanes"]
    assert isinstance(lanes, list)
    return int(next(lane for lane in lanes if lane["path"] == path)["sent_bytes"])


def two_paths(seed: int) -> Network:
    network = Network(seed=seed)
    network.add_path(PRIMARY, PATH)
    # faster and wider: it would be preferred for everything
    network.add_path(SPARE, replace(PATH, rate=20e6, delay=0.01), backup=True)
    return network


def test_a_backup_rests_while_the_primary_path_lives() -> None:
    network = two_paths(81)
    transfer = start_transfer(network, SIZE // 4, SIZE // 4)
    network.run(0.2)  # the shorter way answers first: until the primary has, it is the only one
    begun = [sent(end, SPARE) for end in (network.client, network.server)]
    assert network.run(20.0, lambda: transfer.done(network))
    for end, before in zip((network.client, network.server), begun, strict=True):
        assert sent(end, PRIMARY) > SIZE // 5
        assert sent(end, SPARE) - before < PROBES * (network.now - 0.2)
    network.run(network.now + 0.5)
    transfer.check(network)


def test_the_backup_carries_when_the_primary_path_is_cut_and_rests_again_when_it_is_back() -> None:
    network = two_paths(82)
    transfer = start_transfer(network, 3 * SIZE, 3 * SIZE)
    network.run(0.5)
    network.cut(PRIMARY)
    before = len(transfer.near.received)
    network.run(network.now + FAILOVER)
    resting = [sent(end, SPARE) for end in (network.client, network.server)]
    assert min(resting) > 3 * PROBES * network.now, "both ends have begun to use it, long before the path is dead"
    network.run(network.now + 1.0)
    assert len(transfer.near.received) > before + SIZE // 10
    network.restore(PRIMARY)
    network.run(network.now + 1.0)  # the next probe finds it
    settled = [sent(end, SPARE) for end in (network.client, network.server)]
    main = [sent(end, PRIMARY) for end in (network.client, network.server)]
    network.run(network.now + 1.0)
    assert not transfer.done(network)
    for end, spare, primary in zip((network.client, network.server), settled, main, strict=True):
        assert sent(end, SPARE) - spare < PROBES
        assert sent(end, PRIMARY) - primary > SIZE // 10
    assert network.run(60.0, lambda: transfer.done(network))
    network.run(network.now + 0.5)
    transfer.check(network)


def test_a_session_of_backups_alone_uses_them() -> None:
    network = Network(seed=83)
    network.add_path(1, PATH, backup=True)
    network.add_path(2, PATH, backup=True)
    transfer = start_transfer(network, SIZE // 4, SIZE // 4)
    assert network.run(20.0, lambda: transfer.done(network))
    assert min(sent(network.client, path) for path in (1, 2)) > SIZE // 20
    network.run(network.now + 0.5)
    transfer.check(network)


def test_closing_the_primary_path_moves_everything_to_the_backup() -> None:
    network = two_paths(84)
    transfer = start_transfer(network, SIZE // 4, SIZE // 4)
    network.run(0.2)
    for end in (network.client, network.server):
        end.plane.close_lane(SESSION, PRIMARY, network.now)
    assert network.run(20.0, lambda: transfer.done(network))
    network.run(network.now + 0.5)
    transfer.check(network)
