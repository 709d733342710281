"""Wherever a worker dies: no packet number is used twice, and none is accepted twice."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vantun.session.floor_layout import FLOW_STEP, SEND_STEP
from vantun.session.floors import (
    claim_lane,
    claim_session,
    note_received,
    private_floors,
    refuse_all_below,
    reserve_flow,
    reserve_numbers,
)
from vantun.session.limits import Limits
from vantun.session.received import is_replay, note_number
from vantun.session.tables import Tables, make_tables

CID = b"\0a lane!"
PLACE = 5

TABLES, ARENA = make_tables(Limits(sessions=1, flows=1, rows=4096), 1600)
_ZERO = np.zeros(1, np.int32)


class _Worker:
    """The lane of one worker: begins above what the page says."""

    def __init__(self, floors: NDArray[Any]) -> None:
        self.t: Tables = TABLES
        self.floors = floors
        first, largest, _, _ = claim_lane(floors, PLACE, CID)
        record = self.t.lane[0]
        record["floor"] = PLACE
        record["next_pn"], record["largest_rx"] = first, largest
        self.t.replay[0] = 0
        if first:
            refuse_all_below(self.t, 0)


_DEATHS = st.lists(
    st.tuples(
        st.sampled_from(["send", "receive"]),
        st.one_of(st.integers(1, 600), st.integers(SEND_STEP - 2, SEND_STEP + 2)),
        st.sampled_from([None, "before", "between", "after"]),
    ),
    max_size=30,
)


def _send(worker: _Worker, count: int, death: str | None, wire: list[tuple[int, int]]) -> None:
    """Plan ``count`` numbers, reserve them, let them leave; die where ``death`` says."""
    record = worker.t.lane[0]
    first = int(record["next_pn"])
    record["next_pn"] = first + count
    if death == "before":
        return
    numbers = np.arange(first, first + count, dtype=np.int64)
    reserve_numbers(worker.t.root, worker.floors, np.zeros(count, np.int32), numbers, count)
    if death != "between":
        wire.append((first, first + count))


def _receive(worker: _Worker, numbers: list[int], death: str | None, delivered: list[int]) -> None:
    """Take a batch, note it, deliver it; die where ``death`` says."""
    fresh = []
    for number in numbers:
        if not is_replay(worker.t, 0, number):
            note_number(worker.t, 0, number)
            fresh.append(number)
    if death == "before":
        return
    note_received(worker.t.root, worker.floors, _ZERO, 1)
    if death != "between":
        delivered += fresh


@given(_DEATHS)
def test_a_crash_at_any_point_repeats_no_number(steps: list[tuple[str, int, str | None]]) -> None:
    floors = private_floors()
    worker = _Worker(floors)
    wire: list[tuple[int, int]] = []
    delivered: list[int] = []
    recorded: list[int] = []
    newest = 0
    for what, count, death in steps:
        if what == "send":
            _send(worker, count, death, wire)
        else:
            batch = list(range(newest, newest + min(count, 200)))
            newest += len(batch)
            recorded += batch
            _receive(worker, batch, death, delivered)
        if death is not None:
            worker = _Worker(floors)
            _receive(worker, recorded, None, delivered)  # an attacker sends everything again
    for (_, end), (start, _) in pairwise(wire):
        assert end <= start <= end + 2 * SEND_STEP * (1 + len(steps))
    assert len(delivered) == len(set(delivered))


@given(st.lists(st.tuples(st.integers(1, 3000), st.booleans()), max_size=30))
def test_flow_ids_and_epochs_only_rise(lives: list[tuple[int, bool]]) -> None:
    floors = private_floors()
    used = -1
    before = -1
    for opened, announced in lives:
        epoch, flow = claim_session(floors, PLACE, 77, 1)
        assert epoch == before + 1
        before = epoch
        assert flow & 1
        assert flow > used
        for number in range(opened):
            reserve_flow(floors, PLACE, flow + 2 * number)
            if announced:
                used = flow + 2 * number
    assert claim_session(floors, PLACE, 78, 0) == (0, 0)
    assert FLOW_STEP % 2 == 0


def test_a_place_that_another_lane_had_begins_anew() -> None:
    floors = private_floors()
    assert claim_lane(floors, PLACE, CID) == (0, -1, 0, 0)
    floors[0]["lane"][PLACE]["receive_updates"] = 3
    assert claim_lane(floors, PLACE, CID) == (SEND_STEP, -1, 0, 3)
    assert claim_lane(floors, PLACE, b"\0another") == (0, -1, 0, 0)
    assert claim_lane(floors, PLACE, CID) == (0, -1, 0, 0)
