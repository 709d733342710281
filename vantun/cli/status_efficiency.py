"""What the bytes on the wire were for, and where the worker's time went: ``vantun status --efficiency``.

Everything is computed from counters that the status has anyway. Counters of a path end with it, those of a channel with
its session: after a path has gone, what it has carried is missing from the sum, and shows as less coordination.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vantun.cli.status_rows import Row, number, rows_of

SHARD_HEADERS = 13 + 8 + 16
"""Bytes of a packet around its unit: header, shard header, AEAD tag."""
UNIT_FRAME = 2 + 4
"""Bytes of a unit around its records: length and CRC-32C."""
OUTSIDE = 28
"""Bytes of IPv4 and UDP headers around a packet."""


@dataclass(frozen=True)
class Share:
    """One kind of bytes, or of time, and its share of the whole (0 to 1)."""

    name: str
    amount: float
    share: float
    meaning: str


def bytes_sent(status: Row) -> list[Share]:
    """Return what the bytes that this end has sent were for; the whole is everything on the wire, IP included."""
    lanes = rows_of(status, "lanes")
    channels = rows_of(status, "channels")
    carrying = [row for row in channels if row.get("class") != "control"]
    packets = _sum(lanes, "sent")
    total = _sum(lanes, "sent_bytes")
    shards = _sum(carrying, "shards")
    carried = shards + _sum(carrying, "parity") + _sum(carrying, "resent")
    data = max(_sum(carrying, "bytes") - UNIT_FRAME * shards, 0.0)
    parts = {
        "data": (data, "records of flows, once"),
        "FEC": (_sum(carrying, "parity_bytes"), "parity shards"),
        "repeats": (_sum(carrying, "resent_bytes"), "data shards that went again"),
        "headers": (SHARD_HEADERS * carried + UNIT_FRAME * shards, "packet and shard headers, CRCs, tags"),
        "padding": (_sum(lanes, "padding"), "packets made longer to find the MTU"),
    }
    rest = max(total - sum(amount for amount, _ in parts.values()), 0.0)
    parts["coordination"] = (rest, "RECEIPTs, probes, the control channel")
    parts["IP and UDP"] = (OUTSIDE * packets, "headers outside of the packets (IPv4)")
    return _shares(parts)


def cpu_time(status: Row) -> list[Share]:
    """Return where the worker's processor time went, in seconds."""
    worker = status.get("worker")
    total = number(worker, "cpu_s") if isinstance(worker, Mapping) else 0.0
    parts = {
        str(stage.get("name")): (number(stage, "ns") * 1e-9, f"{number(stage, 'calls'):,.0f} calls")
        for stage in rows_of(status, "stages")
    }
    parts["sockets and loop"] = (
        max(total - sum(amount for amount, _ in parts.values()), 0.0),
        "sending, receiving, waiting, Python, start-up",
    )
    return _shares(parts)


def _sum(rows: list[Row], name: str) -> float:
    return sum(number(row, name) for row in rows)


def _shares(parts: Mapping[str, tuple[float, str]]) -> list[Share]:
    whole = sum(amount for amount, _ in parts.values())
    return [Share(name, amount, amount / whole if whole else 0.0, meaning) for name, (amount, meaning) in parts.items()]
