"""Statuses of an appliance at two moments, for the tests of ``vantun top``."""

from __future__ import annotations

import copy
from typing import Any

STAGES = ("open", "accept", "decode", "deliver", "refill", "encode", "schedule", "seal")
Status = dict[str, Any]


def status(role: str = "server") -> Status:
    """Return the status of an appliance with one path, in which nothing has happened yet."""
    rungs = [{"engine": "simd", "state": "serving"}]
    watch = {"operation": "aead.seal", "engine": "simd", "wanted": "simd", "fallback": False, "reason": "", "redone": 0}
    return {
        "role": role,
        "pid": 10,
        "worker": {"pid": 11, "cpu_s": 7.0, "cpu_system_s": 1.0, "cpu_wait_s": 0.5, "turns": 5, "rss_bytes": 10**8},
        "workers": {"deaths": 0, "last_death": "", "standby": "ready"},
        "stages": [{"name": name, "calls": 10, "packets": 100, "ns": 10**9} for name in STAGES],
        "lanes": [
            {
                "session": "1f",
                "user": "alice",
                "path": 0,
                "name": "dsl",
                "state": "active",
                "rtt_ms": 20.0,
                "loss": 0.01,
                "control": "bbr",
                "rate_bps": 50_000_000,
                "rate_cap_bps": 0,
                "cwnd": 300_000,
                "in_flight": 0,
                "mtu": 1400,
                "limited": False,
                **dict.fromkeys(("sent", "sent_bytes", "received", "received_bytes"), 1000),
            }
        ],
        "channels": [
            {"session": "1f", "channel": 2, "class": "bulk", "queued": 0, "shards": 9, "rx_recovered": 4, "resent": 2}
        ],
        "packets": [{"session": "1f", "dropped_full": 0, "expired": 0}],
        "users": [{"user": "alice", "sent_bytes": 0, "received_bytes": 0, "send_limit_bps": 0, "receive_limit_bps": 0}],
        "flows": {"open": 3, "starved": 0, "blocked": 0},
        "engine_watch": [{**watch, "rungs": rungs}, {**watch, "operation": "fec.encode", "rungs": rungs}],
        "drops": {"bad": 0, "no_row": 0},
        "udp": [{"socket": 0, "kernel_dropped": 0, "would_block": 0, "no_buffer": 0, "dropped": {}}],
        "pool": {"rows": 100, "rows_free": 90},
    }


def later(before: Status, out_bps: float = 0.0, in_bps: float = 0.0) -> Status:
    """Return the status a second after ``before``, in which one path has carried so much, in packets of 1250 bytes."""
    after = copy.deepcopy(before)
    lane = after["lanes"][0]
    for name, rate in (("sent", out_bps), ("received", in_bps)):
        lane[f"{name}_bytes"] += round(rate / 8)
        lane[name] += round(rate / 10_000)
    return after


def spend(after: Status, stage: str, share: float, *, calls: int = 100) -> None:
    """Have a stage take this share of the second, for ten packets per call."""
    row = next(row for row in after["stages"] if row["name"] == stage)
    row["ns"] += round(share * 1e9)
    row["calls"] += calls
    row["packets"] += 10 * calls
