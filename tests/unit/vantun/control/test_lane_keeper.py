"""What outlives a worker: lanes, their places in the page of floors, and nothing of those that have ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.unit.vantun.dataplane.worker_pair import lane_pair
from vantun.control.lane_keeper import FloorPage, LaneKeeper
from vantun.session.floor_layout import floors_dtype
from vantun.session.limits import FLOOR_BYTES, LANE_FLOORS, SESSION_FLOORS, SHARE_BYTES
from vantun.session.path_share import share_dtype

SPEC = lane_pair(1, (1, 2))[0]


@pytest.fixture
def keeper() -> Iterator[LaneKeeper]:
    floors = FloorPage()
    yield LaneKeeper(floors)
    floors.close()


def test_places_belong_to_one_lane_at_a_time(keeper: LaneKeeper) -> None:
    lanes = [keeper.add(replace(SPEC, path=path, session=1 + path // 8)) for path in range(64)]
    assert len({lane.floor for lane in lanes}) == 64
    assert len({(lane.session, lane.session_floor) for lane in lanes}) == 8
    again = keeper.add(replace(SPEC, path=3, session=1, mtu=1400))
    assert (again.floor, again.session_floor, again.mtu) == (lanes[3].floor, lanes[3].session_floor, 1400)
    assert len(keeper) == 64
    keeper.end(1)
    assert len(keeper) == 56
    assert {lane.session for lane in keeper.take_over()[0]} == set(range(2, 9))


def test_a_session_without_lanes_keeps_its_place(keeper: LaneKeeper) -> None:
    before = keeper.add(SPEC)
    keeper.remove(SPEC.session, SPEC.path)
    assert keeper.take_over() == ([], [])
    assert keeper.add(replace(SPEC, path=2)).session_floor == before.session_floor


def test_places_are_given_back(keeper: LaneKeeper) -> None:
    for number in range(3 * SESSION_FLOORS):
        lane = keeper.add(replace(SPEC, session=1 + number))
        assert lane.floor >= 0
        assert lane.session_floor >= 0
        keeper.end(lane.session)
    keeper.remove(1, 1)
    keeper.end(1)


def test_a_lane_without_a_place_ends_with_its_worker(keeper: LaneKeeper) -> None:
    for path in range(LANE_FLOORS):
        keeper.add(replace(SPEC, path=path))
    last = keeper.add(replace(SPEC, path=LANE_FLOORS))
    assert last.floor == -1
    kept, over = keeper.take_over()
    assert len(kept) == LANE_FLOORS
    assert over == [last]
    assert len(keeper) == LANE_FLOORS


def test_a_peer_that_moved_stays_where_it_is(keeper: LaneKeeper) -> None:
    keeper.add(SPEC)
    keeper.move(SPEC.session, SPEC.path, ("192.0.2.1", 4433))
    keeper.move(SPEC.session, 99, ("192.0.2.2", 1))
    assert keeper.take_over()[0][0].peer == ("192.0.2.1", 4433)


def test_pages_made_without_numpy_have_the_size_that_workers_expect() -> None:
    assert floors_dtype.itemsize == (LANE_FLOORS + SESSION_FLOORS) * FLOOR_BYTES
    assert share_dtype.itemsize == SHARE_BYTES
