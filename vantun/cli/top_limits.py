"""What limits throughput: the first rule that fits names it, the numbers that say so, and what to do.

The order is that of certainty: without a worker or a path nothing flows; a worker without processor time explains
drops and waiting sockets, so it comes before them; a full path explains queues; and only when nothing here is at its
limit are the programs, or the other end, what everything waits for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from vantun.cli import render
from vantun.cli.status_rows import Row, rows_of
from vantun.cli.top_rates import PathRate, Rates, StageRate, rates

BUSY = 0.85
"""Share of time from which on a worker counts as busy: a turn that moves little rests, so 1 is hardly ever reached."""
_WAITING, _WANTED = 0.25, 0.6
"""Shares of time: ready to run without a processor, and that plus busy, from which on others slow the worker down. The
rest of the time it may sleep because receipts are late for the same reason at the other end (seen on one machine)."""
_ASLEEP = 0.15
"""Share of time inside stages, neither running nor waiting for a processor, that is no error of measurement."""
_BLOCKED = 0.6
"""A worker that is less busy, and in its stages for BUSY of the time, waits for a device there."""
_DROPPED = 1e-3
"""Dropped packets, as a share of those that came, from which on they cost throughput: repair and a slower sender."""
_NEAR = 0.9
"""Share of a configured rate that counts as all of it."""
_QUIET = 100_000.0
"""Bits per second on all paths below which it is idle: probes, receipts and the control channel need less."""
_NAMED = 3
"""Paths that are named in one line."""
_OPERATIONS = {"encode": "fec.encode", "decode": "fec.decode", "seal": "aead.seal", "open": "aead.open"}
_OUTSIDE = "sockets and loop"


class Limit(Enum):
    """What throughput waits for."""

    UNKNOWN = "unknown"
    """No counters to compare."""
    RESTART = "restart"
    PATH_DOWN = "no path"
    WORKER = "worker"
    """One processor's time; the subject is the stage that takes most of it."""
    MACHINE = "machine"
    """Others use the processor."""
    DEVICE = "device"
    """The worker sleeps in a stage: its engine is elsewhere."""
    BUFFERS = "packet buffers"
    RECEIVE_BUFFER = "receive buffer"
    SEND_BUFFER = "send buffer"
    NOT_SENT = "not sent"
    """The kernel refuses packets."""
    USER_RATE = "user rate"
    WINDOW = "congestion window"
    RATE = "path rate"
    CAP = "configured rate"
    FAR_PROGRAM = "far program"
    NEAR_PROGRAM = "near program"
    OTHER_END = "other end"
    PROGRAMS = "programs"
    IDLE = "idle"


@dataclass(frozen=True)
class Finding:
    """What limits throughput.

    Attributes
    ----------
    limit
        The kind of thing.
    subject
        Its name: a stage, a path, a user ...
    reason
        The numbers that say so.
    next_step
        What to do, or where to look.
    """

    limit: Limit
    subject: str
    reason: str
    next_step: str


def limits(before: Row, after: Row, seconds: float) -> Finding:
    """Return what limited throughput from the status ``before`` to the one ``after``, ``seconds`` later."""
    return findings(before, after, seconds)[0]


def findings(before: Row, after: Row, seconds: float) -> list[Finding]:
    """Return what limited throughput, then everything else that stands out."""
    found = rates(before, after, seconds)
    if found is None:
        return [_no_counters(after)]
    first = _restarted(found) or _no_path(found, after)
    noted = [finding for rule in _RULES if (finding := rule(found)) is not None]
    return [*([first] if first else []), *noted] or [_nothing_here(found)]


# --- without traffic to look at


def _no_counters(after: Row) -> Finding:
    life = after.get("workers")
    died = str(life.get("last_death") or "") if isinstance(life, Mapping) else ""
    if isinstance(after.get("worker"), Mapping):
        return Finding(Limit.UNKNOWN, "worker", "there is no sample before this one", "wait for the next sample")
    reason = "no data worker answers: it starts, is being replaced, or is too busy for 3 s"
    return Finding(
        Limit.UNKNOWN, "worker", reason + (f"; the last one was lost: {died}" if died else ""), "see the log"
    )


def _restarted(found: Rates) -> Finding | None:
    if not found.worker.replaced:
        return None
    who = "appliance" if found.restarted else "worker"
    why = f": {found.worker.last_death}" if not found.restarted and found.worker.last_death else ""
    reason = f"another {who} serves since the last sample{why}; open connections were reset"
    return Finding(Limit.RESTART, who, reason, "wait for the next sample; the log has more")


def _no_path(found: Rates, after: Row) -> Finding | None:
    if any(path.state == "active" for path in found.paths):
        return None
    if found.role == "server" and not found.paths:
        return Finding(Limit.IDLE, "clients", "no client has a path to here", "start a client, or see why it stays out")
    told = [
        f"{row.get('name')}: {row.get('reason') or row.get('state')}"
        for row in rows_of(after, "paths")
        if found.role == "client"
    ] or [f"{path.name}: {path.state}" for path in found.paths]
    reason = "no path is active" + (f" ({'; '.join(told[:3])})" if told else "")
    return Finding(Limit.PATH_DOWN, "paths", reason, "`vantun status --paths` says why each is not up")


# --- processor


def _worker(found: Rates) -> Finding | None:
    worker = found.worker
    if worker.busy < BUSY:
        return None
    stages = sum(stage.share for stage in found.stages)
    most = max(found.stages, key=lambda stage: stage.share, default=None)
    outside = max(1.0 - stages, 0.0)
    said = f"the worker is busy {_percent(worker.busy)} of the time"
    if most is None or outside > most.share:
        kernel = "" if worker.system is None else f", {_percent(worker.system / worker.busy)} of it in the kernel"
        reason = f"{said}{kernel}; {_percent(outside)} go to UDP sockets and the loop, more than to any stage"
        step = "`vantun status` lists fallbacks: without segmentation offload each packet is a system call"
        return Finding(Limit.WORKER, _OUTSIDE, reason, f"{step}; else a faster processor, or several appliances")
    each = "" if most.ns_per_packet is None else f", {render.number(most.ns_per_packet)} ns per packet"
    reason = f"{said}, and stage {most.name} takes {_percent(most.share)} of that{each}"
    return Finding(Limit.WORKER, most.name, reason, _about_stage(found, most))


def _about_stage(found: Rates, stage: StageRate) -> str:
    operation = _OPERATIONS.get(stage.name)
    if operation is None:
        few = stage.per_call is not None and stage.per_call < 8
        hint = f"only {render.number(stage.per_call, 1)} packets per call: fewer, larger writes help; " if few else ""
        return f"{hint}a faster processor, or several appliances"
    engine = next((each for each in found.engines if each.operation == operation), None)
    if engine is not None and engine.fallback:
        return f"{engine.engine} serves instead of {engine.wanted} ({engine.reason}): `vantun accel explain`"
    kind = operation.split(".", maxsplit=1)[0]
    less = ", or less parity (fec)" if kind == "fec" else ""
    serves = f"{engine.engine} serves {operation}; " if engine is not None else ""
    return f"{serves}`vantun accel bench {kind}` compares engines; else a faster processor{less}"


def _machine(found: Rates) -> Finding | None:
    busy, wait = found.worker.busy, found.worker.wait
    if wait is None or wait < _WAITING or busy + wait < _WANTED or busy >= BUSY:
        return None
    reason = f"the worker had a processor {_percent(busy)} of the time, and waited for one {_percent(wait)}"
    return Finding(
        Limit.MACHINE, "processors", reason, "stop what else runs on this machine, or give it more processors"
    )


def _device(found: Rates) -> Finding | None:
    most = max(found.stages, key=lambda stage: stage.busy, default=None)
    inside = sum(stage.busy for stage in found.stages)
    away = inside - found.worker.busy - (found.worker.wait or 0.0)
    if most is None or found.worker.busy >= _BLOCKED or inside < BUSY or away < _ASLEEP:
        return None
    reason = f"the worker spends {_percent(most.busy)} of the time in stage {most.name}, most of it asleep"
    operation = _OPERATIONS.get(most.name)
    engine = next((each.engine for each in found.engines if each.operation == operation), "")
    step = (
        f"its engine {engine} works elsewhere: `vantun accel bench`" if engine else "the log may say what it waits for"
    )
    return Finding(Limit.DEVICE, most.name, reason, step)


# --- memory and sockets


def _buffers(found: Rates) -> Finding | None:
    dropped = found.drops.get("no_row", 0.0)
    if not dropped and found.rows_free != 0:
        return None
    reason = f"{render.number(found.rows_free)} packet buffers are free, {render.number(dropped, 1)} packets/s had none"
    return Finding(Limit.BUFFERS, "rows", reason, "programs that do not read hold them: `vantun status --flows`")


def _receive_buffer(found: Rates) -> Finding | None:
    dropped = found.drops.get("receive buffer", 0.0)
    came = sum(path.in_packets for path in found.paths)
    if dropped <= _DROPPED * (came + dropped):
        return None
    share = _percent(dropped / (came + dropped), 1)
    reason = f"the kernel dropped {render.number(dropped, 1)} packets/s ({share}) before the worker read them"
    return Finding(Limit.RECEIVE_BUFFER, "UDP socket", reason, "raise net.core.rmem_max and restart")


def _send_buffer(found: Rates) -> Finding | None:
    calls = next((stage.calls for stage in found.stages if stage.name == "seal"), 0.0)
    if not found.send_waits or found.send_waits < 0.1 * calls:
        return None
    reason = f"the socket, or the interface's queue, was full {render.number(found.send_waits, 1)} times a second"
    step = "raise net.core.wmem_max and restart; if the interface is the limit, bandwidth.up paces below it"
    return Finding(Limit.SEND_BUFFER, "UDP socket", reason, step)


def _not_sent(found: Rates) -> Finding | None:
    refused = {name: rate for name, rate in found.drops.items() if name.startswith("not sent: ")}
    total = sum(refused.values())
    left = sum(path.out_packets for path in found.paths)
    if total <= _DROPPED * (left + total):
        return None
    worst = max(refused, key=lambda name: refused[name]).removeprefix("not sent: ")
    reason = f"the kernel refused {render.number(total, 1)} packets/s, mostly with {worst}"
    return Finding(Limit.NOT_SENT, worst, reason, "look at routes and the firewall; `vantun status` has the last error")


# --- rates


def _user_rate(found: Rates) -> Finding | None:
    for user in found.users:
        for way, rate, limit in (("to", user.out_bps, user.out_limit), ("from", user.in_bps, user.in_limit)):
            if limit and rate >= _NEAR * limit:
                name = user.user or "everybody"
                reason = f"{render.rate(rate)} {way} {name}, whose limit is {render.rate(limit)}"
                return Finding(Limit.USER_RATE, name, reason, "raise the user's rate, and `vantun reload`")
    return None


def _path(found: Rates) -> Finding | None:
    waiting = {row.session for row in found.channels if row.queued}
    full = [path for path in found.paths if path.state == "active" and _is_full(path, path.session in waiting)]
    if not full:
        return None
    full.sort(key=lambda path: -path.out_bps)
    path, name = full[0], _names(full)
    queued = sum(row.queued for row in found.channels if row.session == path.session)
    said = f"{render.rate(path.out_bps)} leave on {path.name}, {render.number(queued)} shards wait"
    if path.control == "brutal" or (path.cap_bps and path.rate_bps >= _NEAR * path.cap_bps):
        cap = f" is configured as {render.rate(path.cap_bps)}" if path.cap_bps else " is configured"
        return Finding(
            Limit.CAP, name, f"{said}: its rate{cap}", "raise `bandwidth` at the end that sends, if it is more"
        )
    trouble = f", loss {render.percent(path.loss)}, RTT {path.rtt_ms:.1f} ms"
    if path.in_flight + path.mtu > path.cwnd > 0:
        reason = (
            f"{said}: {render.size(path.in_flight)} of its window of {render.size(path.cwnd)} are in flight{trouble}"
        )
        return Finding(
            Limit.WINDOW, name, reason, "another path adds its rate; the window grows if the path takes more"
        )
    reason = f"{said}: packets are paced at {render.rate(path.rate_bps)}, as measured{trouble}"
    step = "another path adds its rate; if the line is known to do more, say so in `bandwidth`"
    return Finding(Limit.RATE, name, reason, step)


def _names(paths: Sequence[PathRate]) -> str:
    """Name some of ``paths``: a server may have a thousand."""
    names = list(dict.fromkeys(f"{path.name} of {path.user}" if path.user else path.name for path in paths))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _is_full(path: PathRate, waiting: bool) -> bool:  # noqa: FBT001 - a fact, not a mode
    """Tell whether what could be sent waits for this path."""
    if path.limited is not None:
        return path.limited and (waiting or path.out_bps >= 0.5 * path.rate_bps)
    return waiting and path.out_bps >= 0.7 * path.rate_bps  # an older appliance does not tell


# --- programs, and the other end


def _programs_stuck(found: Rates) -> Finding | None:
    flows = found.flows
    if flows.blocked:
        reason = f"{flows.blocked} of {flows.open} flows have bytes that the program here does not take"
        step = "the program, or its disk or network, is what is slow: `vantun status --flows`"
        return Finding(Limit.NEAR_PROGRAM, "programs here", reason, step)
    if flows.starved:
        reason = f"{flows.starved} of {flows.open} flows have bytes to send, and no credit from the far end"
        return Finding(Limit.FAR_PROGRAM, "programs there", reason, "the program there reads slowly; look at that end")
    return None


def _nothing_here(found: Rates) -> Finding:
    """Say what is left when nothing of this end is at its limit."""
    total = found.out_bps + found.in_bps
    busy = f"the worker is busy {_percent(found.worker.busy)}"
    if total < _QUIET:
        reason = f"{render.rate(total)} on all paths, {found.flows.open} open flows; {busy}"
        return Finding(Limit.IDLE, "programs", reason, "nothing to do: no program sends anything")
    way = f"{render.rate(found.out_bps)} leave, {render.rate(found.in_bps)} arrive; {busy}, nothing waits here"
    if found.in_bps > found.out_bps:
        return Finding(
            Limit.OTHER_END, "the end that sends", way, "run `vantun top` there; nothing here is at its limit"
        )
    return Finding(Limit.PROGRAMS, "programs here", way, "the programs here send no more than that")


def _percent(share: float, digits: int = 0) -> str:
    return render.percent(min(share, 1.0), digits)


_RULES: tuple[Callable[[Rates], Finding | None], ...] = (
    _worker,
    _machine,
    _device,
    _buffers,
    _receive_buffer,
    _not_sent,
    _user_rate,
    _send_buffer,
    _path,
    _programs_stuck,
)
