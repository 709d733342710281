"""The search for a path's MTU, and black holes: virtual time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vantun.dataplane.events import UnitChanged
from vantun.lab.link import LinkProfile
from vantun.lab.network import SESSION, Network
from vantun.lab.transfer import Transfer, start_transfer
from vantun.session.mtu import COMPLETE, FIXED, SEARCHING

PATH = LinkProfile(rate=40e6, delay=0.02, queue_bytes=200_000)
SIZE = 4_000_000
MOST = 1472
OVERHEAD = 37


def lanes(network: Network, row: int = 0) -> list[Any]:
    return [end.plane.context.tables.lane[row] for end in (network.client, network.server)]


def units(network: Network) -> list[int]:
    return [int(end.plane.context.tables.session[0]["unit"]) for end in (network.client, network.server)]


def set_mtu(network: Network, mtu: int, path: int = 1, directions: tuple[int, ...] = (0, 1)) -> None:
    for direction in directions:
        link = network.links[path, direction]
        link.set_profile(replace(link.profile, mtu=mtu))


def finish(network: Network, transfer: Transfer, limit: float = 60.0) -> None:
    assert network.run(network.now + limit, lambda: transfer.done(network)), network.client.plane.snapshot()["lanes"]
    network.run(network.now + 1.0)
    transfer.check(network)


@pytest.mark.parametrize("loss", [0.0, 0.1])
@pytest.mark.parametrize("mtu", [1280, 1400, 1500])
def test_the_mtu_of_the_path_is_found(mtu: int, loss: float) -> None:
    network = Network(seed=41)
    network.add_path(1, replace(PATH, mtu=mtu, loss=loss), max_mtu=MOST)
    network.run(6.0)
    for lane in lanes(network):
        assert mtu - 28 - 8 <= int(lane["mtu"]) <= mtu - 28
        assert int(lane["mtu_state"]) == COMPLETE
        assert int(lane["lost"]) == 0 or loss, "a probe that is lost is no loss"
        assert int(lane["state"]) == 2
    assert units(network) == [int(lane["mtu"]) - OVERHEAD for lane in lanes(network)]
    for end in (network.client, network.server):
        told = [event for event in end.events if isinstance(event, UnitChanged)]
        assert told[-1] == UnitChanged(SESSION, int(lanes(network)[0]["mtu"]) - OVERHEAD) or loss
    shown = network.client.plane.snapshot()["lanes"]
    assert isinstance(shown, list)
    assert (shown[0]["mtu_search"], shown[0]["mtu_limit"]) == ("complete", MOST)


def test_the_usual_path_takes_one_probe() -> None:
    network = Network(seed=42)
    network.add_path(1, PATH, max_mtu=MOST)
    network.run(0.25)
    assert [int(lane["mtu"]) for lane in lanes(network)] == [MOST, MOST]


def test_each_direction_has_its_own() -> None:
    network = Network(seed=43)
    network.add_path(1, replace(PATH, mtu=1300), back=replace(PATH, mtu=1500), max_mtu=MOST)
    network.run(5.0)
    there, back = (int(lane["mtu"]) for lane in lanes(network))
    assert 1264 <= there <= 1272
    assert back == MOST


def test_without_a_limit_nothing_is_searched() -> None:
    network = Network(seed=44)
    network.add_path(1, PATH)
    network.run(3.0)
    assert [(int(lane["mtu"]), int(lane["mtu_state"])) for lane in lanes(network)] == [(1200, FIXED)] * 2


def test_a_search_under_load_costs_no_byte() -> None:
    network = Network(seed=45)
    network.add_path(1, replace(PATH, mtu=1400, loss=0.02), max_mtu=MOST)
    transfer = start_transfer(network, SIZE, SIZE)
    finish(network, transfer)
    assert min(int(lane["mtu"]) for lane in lanes(network)) > 1300


@pytest.mark.parametrize("mtu", [1240, 1300])
def test_a_black_hole_in_the_middle(mtu: int) -> None:
    network = Network(seed=46)
    network.add_path(1, replace(PATH, loss=0.01), max_mtu=MOST)
    transfer = start_transfer(network, 2 * SIZE, 2 * SIZE)
    network.run(0.6)
    assert [int(lane["mtu"]) for lane in lanes(network)] == [MOST, MOST]
    set_mtu(network, mtu)
    network.run(network.now + 1.2)
    assert [int(lane["mtu"]) for lane in lanes(network)] == [1200, 1200], "within a second"
    finish(network, transfer)
    network.run(network.now + 8.0)
    for lane in lanes(network):
        assert mtu - 36 <= int(lane["mtu"]) <= mtu - 28
    assert not [event for end in (network.client, network.server) for event in end.events if "Violated" in str(event)]


def test_a_black_hole_that_heals_is_found_again() -> None:
    network = Network(seed=47)
    network.add_path(1, PATH, max_mtu=MOST)
    transfer = start_transfer(network, SIZE, SIZE)
    network.run(0.5)
    set_mtu(network, 1228)
    network.run(1.5)
    assert int(lanes(network)[0]["mtu"]) == 1200
    finish(network, transfer)
    set_mtu(network, 1500)
    network.run(network.now + 700.0)
    assert [int(lane["mtu"]) for lane in lanes(network)] == [MOST, MOST]


def test_an_outage_is_no_black_hole() -> None:
    network = Network(seed=48)
    network.add_path(1, PATH, max_mtu=MOST)
    transfer = start_transfer(network, SIZE, SIZE)
    network.run(0.5)
    network.cut(1)
    network.run(2.5)
    network.restore(1)
    finish(network, transfer)
    for end in (network.client, network.server):
        told = [event.unit for event in end.events if isinstance(event, UnitChanged)]
        assert told == [MOST - OVERHEAD], "the packets stay as long as they were"


def test_a_new_path_makes_no_shard_short_while_it_searches() -> None:
    network = Network(seed=49)
    network.add_path(1, PATH, max_mtu=MOST)
    network.run(1.0)
    network.add_path(2, PATH, max_mtu=MOST)
    network.run(2.0)
    assert units(network) == [MOST - OVERHEAD] * 2
    for end in (network.client, network.server):
        assert [event.unit for event in end.events if isinstance(event, UnitChanged)] == [MOST - OVERHEAD]


def test_a_short_path_joins_and_leaves_under_load() -> None:
    network = Network(seed=50)
    network.add_path(1, PATH, max_mtu=MOST)
    transfer = start_transfer(network, 2 * SIZE, 2 * SIZE)
    network.run(0.5)
    network.add_path(2, replace(PATH, mtu=1300), max_mtu=MOST)
    assert network.run(10.0, lambda: max(units(network)) <= 1272 - OVERHEAD)
    for end in (network.client, network.server):
        end.plane.close_lane(SESSION, 2, network.now)
    assert units(network) == [MOST - OVERHEAD] * 2
    finish(network, transfer)


def test_the_long_path_dies_while_the_new_one_searches() -> None:
    network = Network(seed=51)
    network.add_path(1, PATH, max_mtu=MOST)
    transfer = start_transfer(network, SIZE, SIZE)
    network.run(0.5)
    network.add_path(2, replace(PATH, mtu=1240), max_mtu=MOST)
    network.run(0.6)
    network.cut(1)
    finish(network, transfer)


def test_what_the_interface_refuses_is_not_tried_again() -> None:
    network = Network(seed=52)
    network.add_path(1, replace(PATH, mtu=1400), max_mtu=MOST)
    plane = network.client.plane
    sizes: list[int] = []
    depart = network.client.depart_to

    def refuse(now: float) -> list[Any]:
        datagrams = depart(now)
        for _, datagram, _ in datagrams:
            if len(datagram) > 1372:
                sizes.append(len(datagram))
                plane.refused_for_size(0, len(datagram), now)
        return [entry for entry in datagrams if len(entry[1]) <= 1372]

    network.client.depart_to = refuse  # type: ignore[method-assign]
    network.run(0.6)
    assert len(sizes) == len(set(sizes))
    assert 1364 <= int(lanes(network)[0]["mtu"]) <= 1372
    # the interface shrinks under a lane that has found its MTU
    plane.refused_for_size(0, int(lanes(network)[0]["mtu"]), network.now)
    assert int(lanes(network)[0]["mtu"]) == 1200
    assert int(lanes(network)[0]["mtu_state"]) == SEARCHING
