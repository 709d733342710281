"""The state of a data plane as plain values: what ``vantun status`` shows and the lab asserts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from drivers.batch import CE, ECT0, ECT1
from drivers.linux.address import unpack
from vantun.dataplane.context import STAGES
from vantun.session.ecn import ECN_NAMES, ECN_REASONS
from vantun.session.mtu import SEARCH_NAMES
from vantun.session.rate import CONTROL_NAMES, MODE_NAMES
from vantun.session.recovery import STATE_NAMES
from vantun.session.tables import CHANNEL_NAMES, CHANNELS, PACKETS

if TYPE_CHECKING:
    from vantun.dataplane.pipeline import Dataplane

_CHANNEL_FIELDS = (
    "shards",
    "bytes",
    "parity",
    "resent",
    "lost",
    "rx_shards",
    "rx_parity",
    "rx_recovered",
    "queued",
    "parity_bytes",
    "resent_bytes",
)
_PACKET_FIELDS = (
    "packets_in",
    "packets_out",
    "dropped_full",
    "expired",
    "dropped_bound",
    "dropped_late",
    "holes",
    "skipped",
)
_ENOUGH = 512
"""Resolved packets, twice the memory of the estimate."""
_MEASURED = (
    "state",
    "srtt",
    "min_rtt",
    "loss_seen",
    "control",
    "mode",
    "pacing_rate",
    "bandwidth",
    "cwnd",
    "mtu_state",
    "rate_cap",
    "limited",
)
_LANE_FIELDS = (
    "next_pn",
    "bad_tags",
    "sent",
    "sent_bytes",
    "received",
    "received_bytes",
    "acked",
    "lost",
    "spurious",
    "in_flight",
    "mtu",
    "mtu_limit",
    "rebinds",
    "refused",
    "spoofed",
    "elsewhere",
    "padding",
    "ecn_marks",
    "ecn_events",
)
_FLOWS_SHOWN = 64


def snapshot(plane: Dataplane) -> dict[str, object]:
    """Return engines, lanes, channels, flows, stages, drops and pool of ``plane``."""
    t = plane.context.tables
    engines = plane.context.engines
    sessions = np.flatnonzero(t.session["used"][: plane.config.limits.sessions])
    return {
        "engines": {serving.operation.value: serving.engine.name for serving in engines},
        "engine_watch": [serving.report() for serving in engines],
        "lanes": _lanes(plane),
        "channels": _channels(plane, sessions),
        "packets": _packets(plane, sessions),
        "users": plane.sessions.users.snapshot(),
        "flows": {
            "open": len(plane.flows),
            "streams": plane.flows.streams,
            **_stuck_flows(plane),
            "largest": _largest_flows(plane),
        },
        "stages": _stages(plane),
        "drops": {
            name.removeprefix("dropped_"): int(t.pool[0][name])
            for name in t.pool.dtype.names or ()
            if name.startswith("dropped_")
        },
        "pool": {
            "rows": plane.config.limits.rows,
            "rows_free": int(t.pool[0]["rows_free"]),
            "row_bytes": int(t.pool[0]["stride"]),
        },
    }


def engine_fallbacks(plane: Dataplane) -> list[dict[str, object]]:
    """Return every operation whose chosen engine is out of service, and why."""
    return [
        {
            "operation": report["operation"],
            "what": f"{report['engine']} instead of {report['wanted']}",
            "reason": report["reason"],
            "times": report["redone"],
        }
        for report in (serving.report() for serving in plane.context.engines)
        if report["fallback"]
    ]


def _columns(table: NDArray[Any], names: Iterable[str]) -> list[dict[str, int]]:
    """Return integer fields of each row; by column, because a thousand lanes have thirty thousand of them."""
    names = tuple(names)
    return [dict(zip(names, row, strict=True)) for row in zip(*(table[name].tolist() for name in names), strict=True)]


def _lanes(plane: Dataplane) -> list[dict[str, object]]:
    lanes = plane.sessions.lanes()
    table = plane.context.tables.lane[lanes]
    counters = _columns(table, _LANE_FIELDS)
    measured = zip(*(table[name].tolist() for name in _MEASURED), strict=True)
    rows: list[dict[str, object]] = []
    for lane, counted, values in zip(lanes, counters, measured, strict=True):
        spec = plane.sessions.lane_spec(lane)
        state, srtt, min_rtt, loss, control, mode, pacing, bandwidth, cwnd, search, cap, limited = values
        rows.append(
            {
                "session": f"{spec.session:x}",
                "user": spec.user,
                "path": spec.path,
                "name": spec.name or f"path {spec.path}",
                "peer": "{}:{}".format(*unpack(plane.sessions.peers[lane])),
                "state": STATE_NAMES[state],
                "priority": "backup" if spec.backup else "primary",
                "rtt_ms": round(srtt * 1e3, 3),
                "min_rtt_ms": round(min_rtt * 1e3, 3),
                "loss": round(_loss(counted["acked"], counted["lost"], loss), 5),
                "control": CONTROL_NAMES[control],
                "mode": MODE_NAMES[mode],
                "rate_bps": round(pacing * 8),
                "bandwidth_bps": round(bandwidth * 8),
                "rate_cap_bps": round(cap * 8),
                "cwnd": int(cwnd),
                "limited": bool(limited),
                **_marks(plane.context.tables.lane[lane]),
                "mtu_search": SEARCH_NAMES[search],
                **counted,
            }
        )
    return rows


def _marks(record: Any) -> dict[str, object]:
    counts = record["rx_ecn"].tolist()
    return {
        "ecn": ECN_NAMES[record["ecn"]],
        "ecn_reason": ECN_REASONS[record["ecn_why"]],
        "ecn_received": {"ect0": counts[ECT0], "ect1": counts[ECT1], "ce": counts[CE]},
    }


def _loss(acked: int, lost: int, smoothed: float) -> float:
    """Return the smoothed loss; of a lane that has carried little, the share itself: the estimate begins at 1 %."""
    resolved = acked + lost
    if resolved >= _ENOUGH:
        return smoothed
    return lost / resolved if resolved else 0.0


def _channels(plane: Dataplane, sessions: NDArray[np.int64]) -> list[dict[str, object]]:
    numbers = (sessions[:, None] * CHANNELS + np.arange(CHANNELS)).ravel()
    table = plane.context.tables.channel[numbers]
    names = [f"{plane.sessions.session_id(int(row)):x}" for row in sessions]
    return [
        {
            "session": names[place // CHANNELS],
            "channel": place % CHANNELS,
            "class": CHANNEL_NAMES[place % CHANNELS],
            "k": counted.pop("last_k"),
            "m": counted.pop("last_m"),
            **counted,
        }
        for place, counted in enumerate(_columns(table, ("last_k", "last_m", *_CHANNEL_FIELDS)))
    ]


def _packets(plane: Dataplane, sessions: NDArray[np.int64]) -> list[dict[str, object]]:
    """Return what became of the packets of each session's packet flows."""
    tables = plane.context.tables
    table = tables.channel[sessions * CHANNELS + PACKETS]
    waiting = tables.session["pieces"][sessions].tolist()
    return [
        {
            "session": f"{plane.sessions.session_id(int(row)):x}",
            "waiting": pieces,
            "recovered": counted.pop("rx_recovered"),
            **counted,
        }
        for row, pieces, counted in zip(
            sessions, waiting, _columns(table, ("rx_recovered", *_PACKET_FIELDS)), strict=True
        )
    ]


def _stuck_flows(plane: Dataplane) -> dict[str, int]:
    """Return the flows that have bytes to send and no credit for them, and those whose program here takes nothing."""
    table, rows = plane.context.tables.flow, plane.flows.rows
    used, starved, writable, pending = (table[name][rows] for name in ("used", "starved", "writable", "pending"))
    return {
        "starved": int(np.count_nonzero((used == 1) & (starved == 1))),
        "blocked": int(np.count_nonzero((used == 1) & (writable == 0) & (pending > 0))),
    }


def _largest_flows(plane: Dataplane) -> list[dict[str, object]]:
    """Return the flows that have carried most, at most _FLOWS_SHOWN: a worker may have thousands.

    Only rows that are taken are looked at: to choose among all 32,768 held a worker up for 5 to 12 ms.
    """
    table, taken = plane.context.tables.flow, plane.flows.rows
    most = min(_FLOWS_SHOWN, len(taken))
    if most == 0:
        return []
    carried = table["offset"][taken] + table["next"][taken]
    rows = []
    for index in taken[np.argpartition(carried, -most)[-most:]].tolist():
        flow, record = plane.flows.by_index(index), table[index]
        if flow is None or not record["used"]:
            continue
        rows.append(
            {
                "session": f"{plane.sessions.session_id(flow.session):x}",
                "flow": int(record["id"]),
                "target": flow.target,
                "state": "open" if flow.accepted else "opening",
                "class": "packets" if flow.packets is not None else "bulk" if record["bulk"] else "interactive",
                "sent_bytes": int(record["offset"]),
                "received_bytes": int(record["next"]),
                "waiting_bytes": int(record["pending"]),
            }
        )
    return sorted(rows, key=lambda row: -(row["sent_bytes"] + row["received_bytes"]))  # type: ignore[operator]


def _stages(plane: Dataplane) -> list[dict[str, object]]:
    rows = []
    for name, (calls, packets, size, ns) in zip(STAGES, plane.context.counters.tolist(), strict=True):
        rows.append(
            {
                "name": name,
                "calls": calls,
                "packets": packets,
                "bytes": size,
                "ns": ns,
                "ns_per_packet": round(ns / packets, 1) if packets else 0.0,
                "packets_per_call": round(packets / calls, 2) if calls else 0.0,
            }
        )
    return rows
