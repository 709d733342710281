"""The state of a data plane as plain values: what ``vantun status`` shows and the lab asserts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from drivers.linux.address import unpack
from vantun.dataplane.context import STAGES
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
_LANE_FIELDS = (
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
)
_FLOWS_SHOWN = 64


def snapshot(plane: Dataplane) -> dict[str, object]:
    """Return engines, lanes, channels, flows, stages, drops and pool of ``plane``."""
    t = plane.context.tables
    engines = plane.context.engines
    return {
        "engines": {
            "fec.encode": engines.encode.engine.name,
            "fec.decode": engines.decode.engine.name,
            "aead.seal": engines.seal.engine.name,
            "aead.open": engines.open.engine.name,
        },
        "lanes": [_lane(plane, lane) for lane in plane.sessions.lanes()],
        "channels": [
            _channel(plane, row * CHANNELS + kind)
            for row in range(plane.config.limits.sessions)
            if t.session[row]["used"]
            for kind in range(CHANNELS)
        ],
        "packets": [_packets(plane, row) for row in range(plane.config.limits.sessions) if t.session[row]["used"]],
        "flows": {"open": len(plane.flows), "streams": plane.flows.streams, "largest": _largest_flows(plane)},
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


def _lane(plane: Dataplane, lane: int) -> dict[str, object]:
    record = plane.context.tables.lane[lane]
    spec = plane.sessions.lane_spec(lane)
    return {
        "session": f"{spec.session:x}",
        "user": spec.user,
        "path": spec.path,
        "name": spec.name or f"path {spec.path}",
        "peer": "{}:{}".format(*unpack(plane.sessions.peers[lane])),
        "state": STATE_NAMES[int(record["state"])],
        "priority": "backup" if spec.backup else "primary",
        "rtt_ms": round(float(record["srtt"]) * 1e3, 3),
        "min_rtt_ms": round(float(record["min_rtt"]) * 1e3, 3),
        "loss": round(_loss(record), 5),
        "control": CONTROL_NAMES[int(record["control"])],
        "mode": MODE_NAMES[int(record["mode"])],
        "rate_bps": round(float(record["pacing_rate"]) * 8),
        "bandwidth_bps": round(float(record["bandwidth"]) * 8),
        "cwnd": int(record["cwnd"]),
        "mtu_search": SEARCH_NAMES[int(record["mtu_state"])],
        **{name: int(record[name]) for name in _LANE_FIELDS},
    }


def _loss(record: np.void) -> float:
    """Return the smoothed loss; of a lane that has carried little, the share itself: the estimate begins at 1 %."""
    resolved = int(record["acked"]) + int(record["lost"])
    if resolved >= _ENOUGH:
        return float(record["loss_seen"])
    return int(record["lost"]) / resolved if resolved else 0.0


def _channel(plane: Dataplane, channel: int) -> dict[str, object]:
    record = plane.context.tables.channel[channel]
    return {
        "session": f"{plane.sessions.session_id(channel // CHANNELS):x}",
        "channel": channel % CHANNELS,
        "class": CHANNEL_NAMES[channel % CHANNELS],
        "k": int(record["last_k"]),
        "m": int(record["last_m"]),
        **{name: int(record[name]) for name in _CHANNEL_FIELDS},
    }


def _packets(plane: Dataplane, row: int) -> dict[str, object]:
    """Return what became of the packets of a session's packet flows."""
    tables = plane.context.tables
    record = tables.channel[row * CHANNELS + PACKETS]
    return {
        "session": f"{plane.sessions.session_id(row):x}",
        "waiting": int(tables.session[row]["pieces"]),
        "recovered": int(record["rx_recovered"]),
        **{name: int(record[name]) for name in _PACKET_FIELDS},
    }


def _largest_flows(plane: Dataplane) -> list[dict[str, object]]:
    """Return the flows that have carried most, at most _FLOWS_SHOWN: a worker may have thousands."""
    table = plane.context.tables.flow
    carried = np.where(table["used"] == 1, table["offset"] + table["next"], -1)
    most = min(_FLOWS_SHOWN, len(plane.flows))
    if most == 0:
        return []
    rows = []
    for index in np.argpartition(carried, -most)[-most:].tolist():
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
