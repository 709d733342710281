from __future__ import annotations

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
