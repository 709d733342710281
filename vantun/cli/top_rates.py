"""Two statuses of one appliance as rates: what happened between them, per second.

Counters that went down belong to a successor (an appliance, worker, lane or session that began anew) and count from 0.
Nothing here is negative, and nothing divides by 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vantun.cli.status_rows import Row, number, rows_of
from vantun.cli.top_crew import busiest, crew_changed

_NOTHING: Row = {}


@dataclass(frozen=True)
class StageRate:
    """One stage of the worker.

    Attributes
    ----------
    calls, packets
        Per second.
    per_call, ns_per_packet
        Packets per call, and nanoseconds per packet, of this interval; None without any.
    busy
        Time inside it over all time, 0 to 1.
    share
        Its part of the worker's busy time, 0 to 1.
    """

    name: str
    calls: float
    packets: float
    per_call: float | None
    ns_per_packet: float | None
    busy: float
    share: float


@dataclass(frozen=True)
class PathRate:
    """One lane.

    Attributes
    ----------
    out_bps, in_bps
        Bits of UDP payload per second.
    rate_bps, cap_bps
        What packets are paced at, and the configured limit (0 = none), bits per second.
    cwnd, in_flight, mtu
        Bytes.
    limited
        Whether the last packet waited for this path; None if the appliance does not tell.
    cpu
        Its part of the worker's processor time over all time, by packets: an estimate.
    """

    session: str
    user: str
    name: str
    state: str
    rtt_ms: float
    loss: float
    out_bps: float
    in_bps: float
    out_packets: float
    in_packets: float
    rate_bps: float
    cap_bps: float
    control: str
    cwnd: float
    in_flight: float
    mtu: float
    limited: bool | None
    cpu: float


@dataclass(frozen=True)
class ChannelRate:
    """One channel of a session: shards that wait now, and per second those sent, repaired by parity and sent again."""

    session: str
    kind: str
    queued: float
    sent: float
    repaired: float
    resent: float


@dataclass(frozen=True)
class EngineNow:
    """Who serves an operation; ``out`` are the engines out of service, ``reason`` says why the wanted one is."""

    operation: str
    engine: str
    wanted: str
    fallback: bool
    out: tuple[str, ...]
    reason: str
    redone: float
    """Rows per second that another engine had to do again."""


@dataclass(frozen=True)
class WorkerRate:
    """The data worker: processor time over all time (0 to 1), of it in the kernel; and waiting for a processor.

    ``system`` and ``wait`` are None if the appliance does not tell. ``replaced``: since the status before.
    """

    pid: int
    replaced: bool
    busy: float
    system: float | None
    wait: float | None
    turns: float
    resident: float
    deaths: int
    last_death: str
    standby: str


@dataclass(frozen=True)
class UserRate:
    """A user's bits per second out and in, and the limits of both (0 = none)."""

    user: str
    out_bps: float
    in_bps: float
    out_limit: float
    in_limit: float


@dataclass(frozen=True)
class FlowsNow:
    """Flows now: open, waiting for credit of the far end, and with bytes that the program here does not take."""

    open: int
    starved: int
    blocked: int


@dataclass(frozen=True)
class Rates:
    """Everything that happened within ``seconds``.

    Attributes
    ----------
    restarted
        Whether the appliance did in between.
    drops
        Packets per second by reason, without those of which there were none.
    send_waits
        Per second, how often the socket's send buffer, or a queue below it, was full.
    rows_free
        Packet buffers that are free now; None if the appliance does not tell.
    """

    seconds: float
    role: str
    restarted: bool
    worker: WorkerRate
    stages: tuple[StageRate, ...]
    paths: tuple[PathRate, ...]
    channels: tuple[ChannelRate, ...]
    engines: tuple[EngineNow, ...]
    users: tuple[UserRate, ...]
    flows: FlowsNow
    drops: Mapping[str, float]
    send_waits: float
    rows_free: int | None

    @property
    def out_bps(self) -> float:
        """Bits per second sent on all paths."""
        return sum(path.out_bps for path in self.paths)

    @property
    def in_bps(self) -> float:
        """Bits per second received on all paths."""
        return sum(path.in_bps for path in self.paths)


_SHORTEST = 1e-3
"""Seconds: what happened in less is no rate, and by next to nothing it would be none of a number."""


def rates(before: Row, after: Row, seconds: float) -> Rates | None:
    """Return what happened from ``before`` to ``after``; None if one of them has no worker's counters.

    A status lacks them while a worker is being replaced, or is too busy to answer. Of several, one was replaced.
    """
    worker, last = _part(after, "worker"), _part(before, "worker")
    if not worker or not last or seconds < _SHORTEST or crew_changed(before, after):
        return None
    restarted = _changed(before, after, "pid")
    replaced = restarted or _changed(last, worker, "pid")
    if replaced:  # what it has counted, it has counted since
        before, last = _NOTHING, _NOTHING
    per_second = 1.0 / seconds
    pool = _part(after, "pool")
    found = _worker(before, after, worker, last, per_second, replaced=replaced)
    return Rates(
        seconds=seconds,
        role=str(after.get("role", "appliance")),
        restarted=restarted,
        worker=found,
        stages=_stages(before, after, per_second, found.busy),
        paths=_paths(before, after, per_second, found.busy),
        channels=_channels(before, after, per_second),
        engines=_engines(before, after, per_second),
        users=_users(before, after, per_second),
        flows=_flows(after),
        drops=_drops(before, after, per_second),
        send_waits=_send_waits(before, after, per_second),
        rows_free=int(number(pool, "rows_free")) if "rows_free" in pool else None,
    )


def _part(row: Row, name: str) -> Row:
    found = row.get(name)
    return found if isinstance(found, Mapping) else _NOTHING


def _changed(before: Row, after: Row, name: str) -> bool:
    return name in before and name in after and before[name] != after[name]


def _more(before: Row, after: Row, name: str) -> float:
    now, last = max(number(after, name), 0.0), max(number(before, name), 0.0)
    return now - last if now >= last else now


def _pairs(before: Row, after: Row, name: str, identity: Callable[[Row], tuple[str, ...]]) -> list[tuple[Row, Row]]:
    """Return (before, after) of each row that is there now; what is new has {} before."""
    known = {identity(row): row for row in rows_of(before, name)}
    return [(known.get(identity(row), _NOTHING), row) for row in rows_of(after, name)]


def _worker(before: Row, after: Row, worker: Row, last: Row, per_second: float, *, replaced: bool) -> WorkerRate:
    def share(name: str) -> float | None:
        if not isinstance(worker.get(name), int | float):
            return None
        return min(_more(last, worker, name) * per_second, 1.0)

    life = _part(after, "workers")
    worker, last = busiest(before, after, (worker, last))
    return WorkerRate(
        pid=int(number(worker, "pid")),
        replaced=replaced,
        busy=share("cpu_s") or 0.0,
        system=share("cpu_system_s"),
        wait=share("cpu_wait_s"),
        turns=_more(last, worker, "turns") * per_second,
        resident=sum(number(row, "rss_bytes") for row in rows_of(life, "each")) or number(worker, "rss_bytes"),
        deaths=int(number(life, "deaths")),
        last_death=str(life.get("last_death") or ""),
        standby=str(life.get("standby") or ""),
    )


def _stages(before: Row, after: Row, per_second: float, busy: float) -> tuple[StageRate, ...]:
    pairs = _pairs(before, after, "stages", lambda row: (str(row.get("name")),))
    spent = [_more(old, new, "ns") * 1e-9 * per_second for old, new in pairs]
    whole = max(busy, sum(spent))  # time of stages is that of the clock: more than the processor's if one had to wait
    found = []
    for (old, new), time in zip(pairs, spent, strict=True):
        calls, packets, ns = (_more(old, new, name) for name in ("calls", "packets", "ns"))
        found.append(
            StageRate(
                name=str(new.get("name")),
                calls=calls * per_second,
                packets=packets * per_second,
                per_call=packets / calls if calls else None,
                ns_per_packet=ns / packets if packets else None,
                busy=min(time, 1.0),
                share=time / whole if whole else 0.0,
            )
        )
    return tuple(found)


def _paths(before: Row, after: Row, per_second: float, busy: float) -> tuple[PathRate, ...]:
    pairs = _pairs(before, after, "lanes", lambda row: (str(row.get("session")), str(row.get("path"))))
    moved = [_more(old, new, "sent") + _more(old, new, "received") for old, new in pairs]
    whole = sum(moved)
    return tuple(
        _path(old, new, per_second, busy * packets / whole if whole else 0.0)
        for (old, new), packets in zip(pairs, moved, strict=True)
    )


def _path(old: Row, new: Row, per_second: float, cpu: float) -> PathRate:
    limited = new.get("limited")
    return PathRate(
        session=str(new.get("session", "")),
        user=str(new.get("user") or ""),
        name=str(new.get("name", "")),
        state=str(new.get("state", "")),
        rtt_ms=number(new, "rtt_ms"),
        loss=number(new, "loss"),
        out_bps=_more(old, new, "sent_bytes") * 8 * per_second,
        in_bps=_more(old, new, "received_bytes") * 8 * per_second,
        out_packets=_more(old, new, "sent") * per_second,
        in_packets=_more(old, new, "received") * per_second,
        rate_bps=number(new, "rate_bps"),
        cap_bps=number(new, "rate_cap_bps"),
        control=str(new.get("control", "")),
        cwnd=number(new, "cwnd"),
        in_flight=number(new, "in_flight"),
        mtu=number(new, "mtu"),
        limited=limited if isinstance(limited, bool) else None,
        cpu=cpu,
    )


def _channels(before: Row, after: Row, per_second: float) -> tuple[ChannelRate, ...]:
    pairs = _pairs(before, after, "channels", lambda row: (str(row.get("session")), str(row.get("channel"))))
    return tuple(
        ChannelRate(
            session=str(new.get("session", "")),
            kind=str(new.get("class", "")),
            queued=number(new, "queued"),
            sent=_more(old, new, "shards") * per_second,
            repaired=_more(old, new, "rx_recovered") * per_second,
            resent=_more(old, new, "resent") * per_second,
        )
        for old, new in pairs
    )


def _engines(before: Row, after: Row, per_second: float) -> tuple[EngineNow, ...]:
    pairs = _pairs(before, after, "engine_watch", lambda row: (str(row.get("operation")),))
    return tuple(
        EngineNow(
            operation=str(new.get("operation", "")),
            engine=str(new.get("engine", "")),
            wanted=str(new.get("wanted") or new.get("engine", "")),
            fallback=bool(new.get("fallback")),
            out=tuple(
                f"{rung.get('engine')} ({rung.get('state')})"
                for rung in rows_of(new, "rungs")
                if rung.get("state") in ("suspect", "quarantined", "retired")
            ),
            reason=str(new.get("reason") or ""),
            redone=_more(old, new, "redone") * per_second,
        )
        for old, new in pairs
    )


def _users(before: Row, after: Row, per_second: float) -> tuple[UserRate, ...]:
    return tuple(
        UserRate(
            user=str(new.get("user", "")),
            out_bps=_more(old, new, "sent_bytes") * 8 * per_second,
            in_bps=_more(old, new, "received_bytes") * 8 * per_second,
            out_limit=number(new, "send_limit_bps"),
            in_limit=number(new, "receive_limit_bps"),
        )
        for old, new in _pairs(before, after, "users", lambda row: (str(row.get("user")),))
    )


def _flows(after: Row) -> FlowsNow:
    found = _part(after, "flows")
    return FlowsNow(*(int(number(found, name)) for name in ("open", "starved", "blocked")))


def _send_waits(before: Row, after: Row, per_second: float) -> float:
    pairs = _pairs(before, after, "udp", _socket)
    return sum(_more(old, new, name) for old, new in pairs for name in ("would_block", "no_buffer")) * per_second


def _socket(row: Row) -> tuple[str, ...]:
    return (str(row.get("socket")),)


def _drops(before: Row, after: Row, per_second: float) -> dict[str, float]:
    """Return the packets per second that were dropped, by reason; reasons without any are left out."""
    found: dict[str, float] = {}

    def add(reason: str, old: Row, new: Row, name: str) -> None:
        found[reason] = found.get(reason, 0.0) + _more(old, new, name) * per_second

    for name in _part(after, "drops"):
        add(name, _part(before, "drops"), _part(after, "drops"), name)
    for old, new in _pairs(before, after, "udp", _socket):
        add("receive buffer", old, new, "kernel_dropped")
        for name in _part(new, "dropped"):
            add(f"not sent: {name}", _part(old, "dropped"), _part(new, "dropped"), name)
    for old, new in _pairs(before, after, "packets", lambda row: (str(row.get("session")),)):
        add("queue full", old, new, "dropped_full")
        add("too late", old, new, "expired")
    return {reason: rate for reason, rate in found.items() if rate > 0.0}
