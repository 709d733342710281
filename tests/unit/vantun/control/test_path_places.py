"""Which paths share a rate, and where."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.vantun.dataplane.worker_pair import lane_pair
from vantun.control.path_places import PathPlaces
from vantun.lanes import LaneSpec


def lane(path: int, part: int, slices: int = 2) -> LaneSpec:
    spec = lane_pair(path, (1, 2))[0]
    return replace(spec, slice=part, slices=slices, rate=1e6)


def test_all_lanes_of_a_path_have_a_place_in_common_and_a_line_each() -> None:
    places = PathPlaces()
    found = [places.of(lane(path, part)) for path in (1, 2) for part in (0, 1)]
    assert found == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert places.of(lane(1, 0)) == (0, 0), "told again"


def test_places_come_back() -> None:
    places = PathPlaces(2)
    session = lane(1, 0).session
    assert [places.of(lane(path, 0))[0] for path in (1, 2, 3)] == [0, 1, -1]
    assert places.of(lane(3, 1))[0] == -1, "a path shares with all of its lanes or none"
    places.give_back(session, 2)
    assert places.of(lane(3, 1))[0] == -1
    assert places.of(lane(4, 0))[0] == 1
    places.give_back(session)
    assert [places.of(lane(path, 0))[0] for path in (5, 6)] == [0, 1]


@pytest.mark.parametrize("spec", [lane(1, 0, 1), replace(lane(1, 0), rate=0.0), replace(lane(1, 0), slice=16)])
def test_what_has_nothing_to_share_has_no_place(spec: LaneSpec) -> None:
    assert PathPlaces().of(spec) == (-1, 0)
