"""The lanes of two workers that share the rate of their path."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.vantun.dataplane.worker_pair import SMALL, lane_pair
from vantun.dataplane.path_rates import PathRates
from vantun.dataplane.pipeline import Dataplane
from vantun.lab.network import lab_engines
from vantun.session.limits import SHARE_PLACES, SLICES
from vantun.session.path_share import EVERY, LEAST, share_dtype
from vantun.session.tables import Tables

LIMIT = 8e6
"""Bit/s of the path: 1e6 bytes per second."""


class Workers:
    def __init__(self, *, brutal: bool) -> None:
        page = np.zeros((SHARE_PLACES, SLICES), share_dtype)
        page["at"] = -np.inf
        self.now = 50.0
        self.tables: list[Tables] = []
        self.rates: list[PathRates] = []
        for line in (0, 1):
            plane = Dataplane(SMALL, lab_engines())
            spec = replace(lane_pair(1, (1, 2))[0], share=(7, line), slices=2)
            spec = replace(spec, rate=LIMIT / 2 * brutal, cap=LIMIT / 2 * (not brutal))
            row = plane.add_lane(spec, 1.0)
            rates = PathRates(plane.context, plane.sessions, page, lambda: self.now)
            rates.add(row, spec)
            self.tables.append(plane.context.tables)
            self.rates.append(rates)
            self.planes = [*getattr(self, "planes", []), plane]

    def pass_time(self, looks: int, greedy: set[int]) -> list[float]:
        """Let both look so often, ``greedy`` ones sending all that they may; return the limits of the lanes."""
        for _ in range(looks):
            self.now += EVERY
            for worker, (t, rates) in enumerate(zip(self.tables, self.rates, strict=True)):
                record = t.lane[0]
                record["limited"] = worker in greedy
                record["sent_bytes"] += int(float(record["rate_cap"]) * EVERY) if worker in greedy else 0
                rates.run()
        return [float(t.lane[0]["rate_cap"]) * 8.0 for t in self.tables]


@pytest.mark.parametrize("brutal", [True, False])
def test_one_lane_has_all_and_two_have_half_each(brutal: bool) -> None:
    workers = Workers(brutal=brutal)
    alone, idle = workers.pass_time(60, {0})
    assert alone >= 0.97 * LIMIT
    assert idle >= LEAST * LIMIT / SLICES
    for share in workers.pass_time(60, {0, 1}):
        assert abs(share - LIMIT / 2) < 0.03 * LIMIT
    assert sum(float(t.lane[0]["pacing_rate"]) for t in workers.tables) * 8 <= LIMIT / 0.8 * 1.01


def test_a_lane_that_ended_leaves_its_share() -> None:
    workers = Workers(brutal=True)
    workers.pass_time(60, {0, 1})
    spec = workers.planes[1].sessions.lane_spec(0)
    workers.planes[1].close_lane(spec.session, spec.path, 1.0)
    workers.rates[1].run()
    workers.now += EVERY
    workers.rates[1].run()
    for _ in range(30):
        share, _ = workers.pass_time(1, {0})
    assert share >= 0.97 * LIMIT


def test_without_a_page_a_rate_is_the_lanes_own() -> None:
    plane = Dataplane(SMALL, lab_engines())
    plane.add_lane(replace(lane_pair(1, (1, 2))[0], share=(7, 1), rate=LIMIT), 1.0)
    plane.transmit(1.0)
    assert plane.context.tables.lane[0]["rate_cap"] * 8.0 == LIMIT
