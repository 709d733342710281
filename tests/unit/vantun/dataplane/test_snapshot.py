from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vantun.cli.top_limits import Finding, Limit, limits
from vantun.lab.endpoint import MemoryPort
from vantun.lab.link import LinkProfile
from vantun.lab.network import Network


def loss_shown(network: Network) -> float:
    lanes = network.client.plane.snapshot()["lanes"]
    assert isinstance(lanes, list)
    return float(lanes[0]["loss"])


def test_an_idle_path_shows_the_loss_that_was_seen_and_not_the_estimate_it_began_with() -> None:
    network = Network()
    network.add_path(1, LinkProfile(delay=0.01))
    assert loss_shown(network) == 0.0
    network.run(12.0)
    assert loss_shown(network) == 0.0
    network.cut(1)
    network.run(30.0)
    assert loss_shown(network) > 0.1


def started(rate: float, limit: int | None = None) -> Network:
    """Return a network of ``rate`` bit/s that sends 20 MB down since a second; the client's program takes ``limit``."""
    network = Network()
    network.add_path(1, LinkProfile(rate=rate, delay=0.01, queue_bytes=100_000))
    network.on_accept = lambda _target, port: port.feed(bytes(20_000_000))
    network.open("origin.example:80", MemoryPort(limit))
    network.run(1.0)
    return network


def verdict(network: Network, side: str) -> Finding:
    """Return what `vantun top` says of the next second of an end; not of the stages' clocks, which are real."""
    plane = getattr(network, side).plane
    worker = {"worker": {"pid": 1, "cpu_s": 0.0}}
    before = {**plane.snapshot(), **worker}
    network.run(network.now + 1.0)
    return limits(before, {**plane.snapshot(), **worker, "stages": before["stages"]}, 1.0)


def test_a_full_path_is_named_by_the_end_that_sends() -> None:
    network = started(20e6)
    found = verdict(network, "server")
    assert found.limit in (Limit.RATE, Limit.WINDOW)
    assert found.subject == "path 1"
    assert verdict(network, "client").limit is Limit.OTHER_END


def test_a_program_that_does_not_read_is_named_by_both_ends() -> None:
    network = started(200e6, limit=10_000)
    assert verdict(network, "server").limit is Limit.FAR_PROGRAM
    assert verdict(network, "client").limit is Limit.NEAR_PROGRAM


def test_the_flows_that_have_carried_most_are_chosen_among_those_that_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = Network()
    network.add_path(1, LinkProfile(rate=1e9, delay=0.001))
    for number in range(1, 101):
        port = MemoryPort()
        port.feed(bytes(100 * number))
        network.open(f"origin.example:{number}", port)
    network.run(1.0)
    looked_at: list[int] = []
    choose = np.argpartition

    def watched(carried: NDArray[np.int64], most: int) -> NDArray[np.int64]:
        looked_at.append(len(carried))
        return choose(carried, most)

    monkeypatch.setattr(np, "argpartition", watched)
    flows = network.client.plane.snapshot()["flows"]
    assert isinstance(flows, dict)
    assert (flows["open"], flows["starved"], flows["blocked"]) == (100, 0, 0)
    assert [row["target"] for row in flows["largest"]] == [f"origin.example:{number}" for number in range(100, 36, -1)]
    assert looked_at == [100], "not all rows of the table: that holds a worker up for milliseconds"
