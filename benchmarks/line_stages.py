"""Where a worker's time went between two statuses of one VANTUN: a line for each stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class StageCost:
    """One stage: nanoseconds per packet and per call, packets per call, and its share of the worker's busy time."""

    name: str
    packets: int
    ns_per_packet: float
    packets_per_call: float
    share: float


def stage_costs(before: Mapping[str, Any], after: Mapping[str, Any], busy_s: float) -> list[StageCost]:
    """Return the costs of every stage that did something, and last what no stage counts.

    ``busy_s`` is the processor time of the workers meanwhile. Counters that went down began anew.
    """
    last = {row["name"]: row for row in before.get("stages") or ()}
    found: list[StageCost] = []
    counted = 0.0
    for row in after.get("stages") or ():
        calls, packets, ns = (_more(last.get(row["name"], {}), row, name) for name in ("calls", "packets", "ns"))
        if not calls:
            continue
        counted += ns / 1e9
        found.append(
            StageCost(
                str(row["name"]),
                packets,
                round(ns / packets, 1) if packets else 0.0,
                round(packets / calls, 1),
                round(ns / 1e9 / busy_s, 3) if busy_s else 0.0,
            )
        )
    rest = max(busy_s - counted, 0.0)
    found.append(StageCost("(sockets, devices, loop)", 0, 0.0, 0.0, round(rest / busy_s, 3) if busy_s else 0.0))
    return found


def _more(before: Mapping[str, Any], after: Mapping[str, Any], name: str) -> int:
    now, last = int(after.get(name, 0)), int(before.get(name, 0))
    return now - last if now >= last else now


def parity_share(before: Mapping[str, Any], after: Mapping[str, Any]) -> float:
    """Return the parity that an end has sent for its packets between two statuses, as a share of the data shards."""

    def sent(status: Mapping[str, Any], name: str) -> int:
        return sum(int(row[name]) for row in status.get("channels") or () if row["class"] == "packets")

    shards = sent(after, "shards") - sent(before, "shards")
    return round((sent(after, "parity") - sent(before, "parity")) / shards, 4) if shards > 0 else 0.0


def worker_pids(status: Mapping[str, Any]) -> list[int]:
    """Return the process ids of the workers that carry traffic."""
    rows = (status.get("workers") or {}).get("each") or [status.get("worker") or {}]
    return sorted(int(row["pid"]) for row in rows if row.get("pid"))


def stage_table(costs: list[StageCost]) -> str:
    """Return the costs as lines of text."""
    lines = [f"    {'stage':26}{'packets':>12}{'ns/packet':>11}{'per call':>10}{'of busy':>9}"]
    for cost in costs:
        ns = f"{cost.ns_per_packet:.1f}" if cost.packets else "-"
        per = f"{cost.packets_per_call:.1f}" if cost.packets else "-"
        lines.append(f"    {cost.name:26}{cost.packets or '-':>12}{ns:>11}{per:>10}{cost.share:>8.1%}")
    return "\n".join(lines)
