"""The snapshots of all workers as one, with the keys that each of them has (:mod:`vantun.dataplane.snapshot`).

What is about a session, a path or a user is summed up over its slices, so that whoever reads a status need not know of
them; ``slices`` of a path and ``each`` (a row per worker) tell them apart.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from vantun.control.slices import Slices
from vantun.errors import WorkerError

Row = dict[str, Any]
Snapshot = Mapping[str, object]
Look = Callable[[int, Snapshot], None]
Last = dict[int, dict[str, object]]
"""By worker, what it has said last."""

_PATIENCE = 2.5
"""Seconds to wait for all workers; one that is slower is left out."""
_FLOWS_SHOWN = 64
_STATES = ("active", "suspect", "validating", "dead")
"""Of a path with several slices the first that one of them is in."""
_LEAST = ("min_rtt_ms", "mtu", "mtu_limit", "rtt_ms")
_MOST = ("next_pn", "loss", "limited", "k", "m", "row_bytes", "sessions", "prefixes", "rules", "conflicts")
_SHOWN = ("state", "rtt_ms", "loss", "rate_bps", "sent", "sent_bytes", "received", "received_bytes")
_NAMES = ("session", "path", "channel", "socket", "flow", "pid")


class Source(Protocol):
    """What WorkerLink is here."""

    @property
    def serving(self) -> bool:
        """Whether there is a worker now."""

    async def snapshot(self) -> dict[str, object]:
        """Return a worker's snapshot. Raises WorkerError."""


async def gather(links: Sequence[Source], look: Look, slices: Slices, last: Last) -> dict[str, object]:
    """Return the snapshot of all workers that answer in time, and show each to ``look``. Raises WorkerError."""
    if len(links) == 1:
        alone = await links[0].snapshot()
        look(0, alone)
        return merged({0: alone}, slices) if slices.divided else {**alone, "each": [_each(0, alone)]}
    tasks = [asyncio.ensure_future(link.snapshot()) for link in links]
    try:
        await asyncio.wait(tasks, timeout=_PATIENCE)
    finally:
        for task in tasks:
            task.cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    # of one that is there and too busy to answer, what it said last: sums that fall and rise again would count twice
    found = {worker: last[worker] for worker, link in enumerate(links) if link.serving and worker in last}
    found |= {worker: each for worker, each in enumerate(done) if isinstance(each, dict)}
    last.clear()
    last.update(found)
    for worker, each in found.items():
        look(worker, each)
    if not found:
        raise next((each for each in done if isinstance(each, WorkerError)), WorkerError("no data worker answers"))
    return {**merged(found, slices), "crew": len(links)}


def merged(snapshots: Mapping[int, Snapshot], slices: Slices) -> dict[str, object]:
    """Return one snapshot; ``snapshots`` are by worker, at least one."""
    of = {worker: {**each, **_named(worker, each, slices)} for worker, each in snapshots.items()}
    all_of = list(of.values())
    first = all_of[0]

    def together(name: str, key: Callable[[Row], object]) -> list[Row]:
        return _grouped((row for each in all_of for row in _rows(each, name)), key)

    return {
        **first,
        "engine_watch": [_engine(group) for group in _groups(all_of, "engine_watch", lambda row: row["operation"])],
        "lanes": [_lane(group) for group in _groups(all_of, "lanes", lambda row: (row["session"], row["path"]))],
        "channels": together("channels", lambda row: (row["session"], row["channel"])),
        "packets": together("packets", lambda row: row["session"]),
        "users": together("users", lambda row: row["user"]),
        "flows": _flows(all_of),
        "stages": [_stage(row) for row in together("stages", lambda row: row["name"])],
        "udp": together("udp", lambda row: row["socket"]),
        "fallbacks": together("fallbacks", lambda row: (row.get("operation"), row.get("what"), row.get("reason"))),
        **{name: _sum([_map(each, name) for each in all_of]) for name in ("drops", "pool", "udp_flows")},
        "tun": _tun([_map(each, "tun") for each in all_of]),
        "worker": _worker([_map(each, "worker") for each in all_of]),
        "each": [_each(worker, each) for worker, each in snapshots.items()],
    }


def _rows(snapshot: Snapshot, name: str) -> list[Row]:
    found = snapshot.get(name)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def _map(snapshot: Snapshot, name: str) -> Row:
    found = snapshot.get(name)
    return found if isinstance(found, dict) else {}


def _named(worker: int, snapshot: Snapshot, slices: Slices) -> dict[str, object]:
    """Return the lists that name sessions, with the ids of sessions in place of a worker's numbers."""

    def name(row: Row) -> Row:
        number = int(str(row["session"]), 16)
        return {
            **row,
            "session": f"{slices.session_of(number):x}",
            "slice": slices.index_of(number),
            "worker": worker,
        }

    flows, tun = _map(snapshot, "flows"), _map(snapshot, "tun")
    return {
        **{key: [name(row) for row in _rows(snapshot, key)] for key in ("lanes", "channels", "packets")},
        "flows": {**flows, "largest": [name(row) for row in _rows(flows, "largest")]},
        "tun": {**tun, "sessions": [name(row) for row in _rows(tun, "sessions")]},
    }


def _groups(snapshots: Iterable[Snapshot], name: str, key: Callable[[Row], object]) -> list[list[Row]]:
    found: dict[object, list[Row]] = {}
    for snapshot in snapshots:
        for row in _rows(snapshot, name):
            found.setdefault(key(row), []).append(row)
    return list(found.values())


def _grouped(rows: Iterable[Row], key: Callable[[Row], object]) -> list[Row]:
    found: dict[object, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return [_sum(group) for group in found.values()]


def _sum(rows: list[Row]) -> Row:
    """Return rows as one: numbers are added up, of anything else the first counts; ``slice`` and ``worker`` go."""
    total: Row = {}
    for row in rows:
        for name, value in row.items():
            total[name] = _both(name, total[name], value) if name in total else value
    return {name: value for name, value in total.items() if name not in ("slice", "worker")}


def _both(name: str, one: object, other: object) -> object:
    if isinstance(one, dict) and isinstance(other, dict):
        return _sum([one, other])
    if name in _NAMES or not isinstance(one, int | float) or not isinstance(other, int | float):
        return one
    if name in _LEAST:
        return min(one, other)
    if name in _MOST or isinstance(one, bool):
        return max(one, other)
    return one + other


def _lane(rows: list[Row]) -> Row:
    """Return a path: what its slices have carried together, and each of them."""
    rows = sorted(rows, key=lambda row: int(row["slice"]))
    states = [row.get("state") for row in rows]
    return {
        **_sum(rows),
        "state": next((state for state in _STATES if state in states), states[0]),
        "slices": [
            {"slice": row["slice"], "worker": row["worker"], **{name: row.get(name) for name in _SHOWN}} for row in rows
        ],
    }


def _engine(rows: list[Row]) -> Row:
    """Return an operation as the worker has it that is worst off, with the counts of all."""
    worst = next((row for row in rows if row.get("fallback")), rows[0])
    rungs = _grouped((rung for row in rows for rung in _rows(row, "rungs")), lambda rung: rung.get("engine"))
    counts = {name: value for name, value in _sum(rows).items() if type(value) is int}
    return {**worst, **counts, "rungs": rungs if len(rows) > 1 else worst.get("rungs", [])}


def _flows(snapshots: list[dict[str, object]]) -> Row:
    rows = [row for each in snapshots for row in _rows(_map(each, "flows"), "largest")]
    rows.sort(key=lambda row: -(row["sent_bytes"] + row["received_bytes"]))
    counts = _sum([{**_map(each, "flows"), "largest": []} for each in snapshots])
    return {**counts, "largest": rows[:_FLOWS_SHOWN]}


def _tun(rows: list[Row]) -> Row:
    sessions = _grouped((row for each in rows for row in _rows(each, "sessions")), lambda row: row["session"])
    return {**_sum(rows), "sessions": sessions}


def _stage(row: Row) -> Row:
    packets, calls = row.get("packets", 0), row.get("calls", 0)
    return {
        **row,
        "ns_per_packet": round(row.get("ns", 0) / packets, 1) if packets else 0.0,
        "packets_per_call": round(packets / calls, 2) if calls else 0.0,
    }


def _worker(rows: list[Row]) -> Row:
    """Return the processor time and memory of all workers; a count that one of them does not have, none has."""
    total = _sum(rows)
    return {name: None if any(row.get(name) is None for row in rows) else value for name, value in total.items()}


def _only_cpu(pid: object) -> int | None:
    """Return the processor that a worker is tied to; None = several, or it has ended."""
    try:
        allowed = os.sched_getaffinity(pid) if isinstance(pid, int) and pid > 0 else set()
    except OSError:
        return None
    return next(iter(allowed)) if len(allowed) == 1 else None


def _each(worker: int, snapshot: Snapshot) -> Row:
    own, lanes, udp = _map(snapshot, "worker"), _rows(snapshot, "lanes"), _map(snapshot, "udp_flows")
    shown = ["pid", "rss_bytes", "cpu_s", "cpu_system_s", "cpu_wait_s", "turns", "fast_turns"]
    shown += ["handed_over", "hand_over_dropped"]
    return {
        "worker": worker,
        **{name: own.get(name) for name in shown},
        "cpu": _only_cpu(own.get("pid")),
        "flows": _map(snapshot, "flows").get("open", 0),
        "udp": sum(int(udp.get(name, 0)) for name in ("relays", "associations", "sources")),
        "lanes": len(lanes),
        "sent_bytes": sum(int(row.get("sent_bytes", 0)) for row in lanes),
        "received_bytes": sum(int(row.get("received_bytes", 0)) for row in lanes),
    }
