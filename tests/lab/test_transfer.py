"""20 MB each way arrive byte by byte, whatever the paths do to the packets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from vantun.dataplane.config import DataplaneConfig
from vantun.lab.link import LinkProfile
from vantun.lab.network import Network
from vantun.lab.transfer import Transfer, start_transfer

SIZE = 20_000_000
"""Bytes each way."""
FAST = LinkProfile(rate=400e6, delay=0.01, queue_bytes=1_000_000)


def run_transfer(network: Network, size: int, limit: float = 120.0) -> None:
    """Run one transfer of ``size`` bytes each way and check it, and that everything was given back."""
    transfer = start_transfer(network, size, size)
    assert network.run(limit, lambda: transfer.done(network)), (
        f"not finished after {limit} virtual seconds: {len(transfer.near.received)} of {size} B came down; "
        f"{network.client.plane.snapshot()['lanes']}"
    )
    network.run(network.now + 1.0)
    transfer.check(network)
    for end in (network.client, network.server):
        assert len(end.plane.flows) == 0
        # what is left is the open block of each channel, kept because it might still need parity
        assert end.rows_in_use <= 2 * 4 * 128


@pytest.mark.parametrize("loss", [0.0, 0.05, 0.15, 0.30])
def test_loss(loss: float) -> None:
    network = Network(seed=3)
    network.add_path(1, replace(FAST, loss=loss))
    run_transfer(network, SIZE)
    recovered = network.client.channel_total("rx_recovered") + network.server.channel_total("rx_recovered")
    assert recovered > 0 or loss == 0  # at 0 % only the start may overrun the queue


def test_without_fec() -> None:
    network = Network(DataplaneConfig(fec=False), seed=4)
    network.add_path(1, replace(FAST, loss=0.05))
    run_transfer(network, SIZE)
    assert network.client.channel_total("parity") == 0
    assert network.client.channel_total("resent") > 0


def test_duplication_and_reordering_over_a_thousand_packets() -> None:
    # 400 Mbit/s are 40 packets a millisecond: 50 ms of jitter reorder over 2,000
    network = Network(seed=5)
    network.add_path(1, replace(FAST, jitter=0.05, reorder=True, duplicate=0.02))
    run_transfer(network, SIZE)
    drops = network.server.plane.snapshot()["drops"]
    assert isinstance(drops, dict)
    assert drops["replay"] > 100


def test_path_dies_and_returns() -> None:
    network = Network(seed=6)
    network.add_path(1, replace(FAST, loss=0.01))
    transfer = start_transfer(network, SIZE, SIZE)
    network.run(0.2)
    network.cut(1)
    network.run(3.2)
    before = len(transfer.near.received)
    assert before < SIZE
    network.restore(1, 0.01)
    assert network.run(60.0, lambda: transfer.done(network))
    network.run(network.now + 0.5)
    transfer.check(network)
    states = [event.state for event in network.client.events if type(event).__name__ == "LaneChanged"]  # type: ignore[union-attr]
    assert "suspect" in states
    assert states[-1] == "active"


def test_rekey_in_the_middle() -> None:
    network = Network(DataplaneConfig(rekey_after=2000), seed=7)
    network.add_path(1, replace(FAST, loss=0.05))
    run_transfer(network, SIZE)
    lane = network.client.plane.context.tables.lane[0]
    assert int(lane["phase_start"]) >= 2 * 2000
    assert int(lane["bad_tags"]) == 0


def test_receipts_are_lost_both_ways() -> None:
    network = Network(seed=13)
    network.add_path(1, replace(FAST, loss=0.02))
    small = 0

    def lose_half_of_the_receipts(_path: int, _direction: int, datagram: bytes) -> bytes | None:
        nonlocal small
        if len(datagram) > 300:
            return datagram
        small += 1
        return None if small % 2 else datagram

    network.tamper = lose_half_of_the_receipts
    run_transfer(network, SIZE)
    assert small > 500


def test_receipts_are_lost() -> None:
    network = Network(seed=8)
    # the way back is cut to pieces: half of everything, receipts included
    network.add_path(1, replace(FAST, loss=0.02), back=replace(FAST, loss=0.5))
    transfer = start_transfer(network, SIZE, 100_000)
    assert network.run(120.0, lambda: transfer.done(network))
    network.run(network.now + 1.0)
    transfer.check(network)


def test_rows_are_exhausted() -> None:
    network = Network(DataplaneConfig(max_rows=2), seed=9)
    network.add_path(1, replace(FAST, loss=0.2))
    run_transfer(network, SIZE)
    assert network.client.channel_total("resent") > 0
    assert network.client.channel_total("parity") > 0


@pytest.mark.parametrize("fec", [True, False])
def test_mtu_shrinks(fec: bool) -> None:
    network = Network(DataplaneConfig(fec=fec), seed=10)
    network.add_path(1, replace(FAST, loss=0.01, mtu=1500), mtu=1452)
    transfer = start_transfer(network, SIZE, SIZE)
    network.run(0.3)
    for direction in (0, 1):
        link = network.links[1, direction]
        link.set_profile(replace(link.profile, mtu=1300))
    assert network.run(60.0, lambda: transfer.done(network))
    network.run(network.now + 1.0)
    transfer.check(network)
    assert int(network.client.plane.context.tables.lane[0]["mtu"]) == 1200


def test_two_paths_share_the_load() -> None:
    network = Network(seed=11)
    network.add_path(1, replace(FAST, rate=100e6, delay=0.02, loss=0.05))
    network.add_path(2, replace(FAST, rate=100e6, delay=0.035, loss=0.03))
    run_transfer(network, SIZE)
    sent = [int(lane["sent_bytes"]) for lane in network.client.plane.context.tables.lane[:2]]
    assert min(sent) > 0.25 * sum(sent)
    assert network.now < 4.0  # one path alone would need more than 1.7 s of pure sending each way at full rate


def test_cut_of_one_of_two_paths_costs_no_byte(record_property: Callable[[str, object], None]) -> None:
    network = Network(seed=12)
    network.add_path(1, replace(FAST, rate=100e6, delay=0.02, loss=0.05))
    network.add_path(2, replace(FAST, rate=100e6, delay=0.035, loss=0.03))
    transfer = start_transfer(network, 2 * SIZE, 2 * SIZE)
    network.run(1.2)
    network.cut(1)
    gap = last_gap(network, transfer, until=3.2)
    assert network.run(60.0, lambda: transfer.done(network))
    network.run(network.now + 1.0)
    transfer.check(network)
    record_property("failover gap, ms", round(gap * 1e3, 1))
    assert gap < 0.6


def last_gap(network: Network, transfer: Transfer, until: float) -> float:
    """Return the longest time without a delivered byte until ``until``."""
    longest, since, size = 0.0, network.now, -1
    near = transfer.near
    while network.now < until:
        network.run(network.now + 0.005)
        if len(near.received) != size:
            longest = max(longest, network.now - since)
            since, size = network.now, len(near.received)
    return max(longest, network.now - since)
