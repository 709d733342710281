"""Which lanes may carry data when some are backups: every state of two lanes, without packets."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from drivers.kernel import kernel
from vantun.session.lane_frames import fastest_lane
from vantun.session.limits import Limits
from vantun.session.recovery import ACTIVE, DEAD, SUSPECT, VALIDATING
from vantun.session.scheduler import _FRESH, _REPAIR, _settle_standby, choose_lane
from vantun.session.tables import BULK, CONTROL, Tables, head, make_tables

PRIMARY, BACKUP = 0, 1


@kernel
def _settle(t: Tables) -> None:
    _settle_standby(head(t), 0)


@kernel
def _choose(t: Tables, kind: int, urgency: int) -> int:
    return choose_lane(head(t), 0, kind, 1200, urgency)


@pytest.fixture(scope="module")
def tables() -> Tables:
    t, _ = make_tables(Limits(), 1600)
    t.session_lane[0, :] = -1
    t.session_lane[0, :2] = PRIMARY, BACKUP
    for lane, rtt in ((PRIMARY, 0.1), (BACKUP, 0.01)):
        t.lane[lane]["srtt"] = rtt
        t.lane[lane]["mtu"] = 1200
        t.lane[lane]["cwnd"] = t.lane[lane]["tokens"] = 1e6
        t.lane[lane]["pacing_rate"] = 1e6 * (1 + lane)
    t.lane[BACKUP]["backup"] = 1
    return t


@pytest.mark.parametrize(
    ("primary", "backup", "carries"),
    [
        (ACTIVE, ACTIVE, PRIMARY),
        (ACTIVE, SUSPECT, PRIMARY),
        (SUSPECT, ACTIVE, BACKUP),
        (VALIDATING, ACTIVE, BACKUP),
        (DEAD, ACTIVE, BACKUP),
        (SUSPECT, SUSPECT, -1),
    ],
)
def test_a_backup_carries_only_while_no_primary_lane_is_active(
    tables: Tables, primary: int, backup: int, carries: int
) -> None:
    tables.lane[PRIMARY]["state"], tables.lane[BACKUP]["state"] = primary, backup
    _settle(tables.root)
    found = {int(_choose(tables.root, kind, urgency)) for kind in (CONTROL, BULK) for urgency in (_FRESH, _REPAIR)}
    assert found == {carries}
    assert int(fastest_lane(tables.root, 0)) == carries
    assert tables.lane[BACKUP]["standby"] == (primary == ACTIVE)


def test_a_primary_lane_that_is_full_is_waited_for(tables: Tables) -> None:
    for lane in (PRIMARY, BACKUP):
        tables.lane[lane]["state"] = ACTIVE
    tables.lane[PRIMARY]["tokens"] = -np.inf
    _settle(tables.root)
    assert int(_choose(tables.root, BULK, _FRESH)) == -1
    tables.lane[PRIMARY]["tokens"] = 1e6


def test_what_is_spread_goes_by_one_lane_for_a_while(tables: Tables) -> None:
    for lane in (PRIMARY, BACKUP):
        tables.lane[lane]["state"] = ACTIVE
        tables.lane[lane]["backup"] = 0
        tables.lane[lane]["tokens"] = 1e5 * (1 + lane)
    _settle(tables.root)
    tables.session[0]["run"] = 0
    took = []
    for _ in range(200):
        took.append(int(_choose(tables.root, BULK, _FRESH)))
        tables.lane[took[-1]]["tokens"] -= 1200.0
    runs = [len(list(group)) for _, group in itertools.groupby(took)]
    assert set(took) == {PRIMARY, BACKUP}
    assert min(runs[:-1]) >= 32
    tables.session[0]["run"] = 0
    lane = int(_choose(tables.root, BULK, _FRESH))
    tables.lane[lane]["tokens"] = 0.0
    assert int(_choose(tables.root, BULK, _FRESH)) == 1 - lane, "a lane that has no room ends its run"
    tables.lane[BACKUP]["backup"] = 1
