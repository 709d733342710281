"""A status as tables. Whatever an older or newer appliance leaves out is shown as a dash."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vantun.cli import render
from vantun.cli.status_efficiency import Share, bytes_sent, cpu_time
from vantun.cli.status_rows import Row, rows_of

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

Column = tuple[str, Callable[[Row], str]]


def _text(name: str) -> Callable[[Row], str]:
    return lambda row: render.MISSING if row.get(name) in (None, "") else str(row[name])


def _number(name: str, digits: int = 0) -> Callable[[Row], str]:
    return lambda row: render.number(row.get(name), digits)


def _list(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) and value else render.MISSING


def _code(row: Row) -> str:
    return f"{render.number(row.get('k'))}/{render.number(row.get('m'))}"


def _volume(row: Row) -> str:
    """Write what a path has used of its monthly volume."""
    return f"{render.size(row.get('cap_used'))} of {render.size(row.get('cap'))}" if row.get("cap") else render.MISSING


def _ecn(row: Row) -> str:
    """Write whether a path carries congestion marks, and how many of its packets were marked."""
    marks, state = row.get("ecn_marks"), _text("ecn")(row)
    return f"{state}, {marks} marked" if isinstance(marks, int) and marks else state


_LANES: tuple[Column, ...] = (
    ("session", _text("session")),
    ("path", _text("path")),
    ("name", _text("name")),
    ("state", _text("state")),
    (">RTT ms", _number("rtt_ms", 1)),
    (">loss", lambda row: render.percent(row.get("loss"))),
    (">rate", lambda row: render.rate(row.get("rate_bps"))),
    (">cwnd", lambda row: render.size(row.get("cwnd"))),
    (">in flight", lambda row: render.size(row.get("in_flight"))),
)
_WORKERS: tuple[Column, ...] = (
    ("worker", _text("worker")),
    (">pid", _text("pid")),
    (">processor", lambda row: render.number(row.get("cpu"))),
    (">CPU s", _number("cpu_s", 1)),
    (">memory", lambda row: render.size(row.get("rss_bytes"))),
    (">connections", lambda row: render.number(row.get("flows"))),
    (">UDP", lambda row: render.number(row.get("udp"))),
    (">lanes", lambda row: render.number(row.get("lanes"))),
    (">sent", lambda row: render.size(row.get("sent_bytes"))),
    (">received", lambda row: render.size(row.get("received_bytes"))),
)
_CHANNELS: tuple[Column, ...] = (
    ("session", _text("session")),
    ("channel", _text("channel")),
    ("class", _text("class")),
    (">k/m", _code),
    (">shards", _number("shards")),
    (">parity", _number("parity")),
    (">lost", _number("lost")),
    (">re-sent", _number("resent")),
    (">received", _number("rx_shards")),
    (">recovered", _number("rx_recovered")),
)
_PACKETS: tuple[Column, ...] = (
    ("session", _text("session")),
    (">packets in", _number("packets_in")),
    (">out", _number("packets_out")),
    (">no room", _number("dropped_full")),
    (">too late", _number("expired")),
    (">holes", _number("holes")),
    (">recovered", _number("recovered")),
    (">waiting", _number("waiting")),
)
_PATHS: tuple[Column, ...] = (
    ("session", _text("session")),
    ("user", _text("user")),
    ("name", _text("name")),
    ("peer", _text("peer")),
    ("state", _text("state")),
    (">RTT ms", _number("rtt_ms", 1)),
    (">least", _number("min_rtt_ms", 1)),
    (">loss", lambda row: render.percent(row.get("loss"))),
    (">rate", lambda row: render.rate(row.get("rate_bps"))),
    (">MTU", _number("mtu")),
    ("search", _text("mtu_search")),
    ("ECN", _ecn),
    (">sent", lambda row: render.size(row.get("sent_bytes"))),
    (">received", lambda row: render.size(row.get("received_bytes"))),
    (">lost", _number("lost")),
    (">rebinds", _number("rebinds")),
)
_CONFIGURED: tuple[Column, ...] = (
    ("name", _text("name")),
    ("server", _text("server")),
    ("interface", _text("interface")),
    ("source", _text("source")),
    ("priority", _text("priority")),
    ("from", _text("origin")),
    (">used", _volume),
    ("state", _text("state")),
    ("reason", _text("reason")),
)
_FLOWS: tuple[Column, ...] = (
    ("session", _text("session")),
    (">flow", _number("flow")),
    ("target", _text("target")),
    ("class", _text("class")),
    ("state", _text("state")),
    (">sent", lambda row: render.size(row.get("sent_bytes"))),
    (">received", lambda row: render.size(row.get("received_bytes"))),
    (">waiting", lambda row: render.size(row.get("waiting_bytes"))),
)
_TUN_CLIENTS: tuple[Column, ...] = (
    ("session", _text("session")),
    ("user", _text("user")),
    ("addresses", lambda row: _list(row.get("addresses"))),
    ("networks", lambda row: _list(row.get("prefixes"))),
    (">MTU", _number("mtu")),
)
_ENGINES: tuple[Column, ...] = (
    ("operation", _text("operation")),
    ("engine", _text("engine")),
    ("state", _text("state")),
    ("reason", _text("reason")),
    (">batches", _number("batches")),
    (">late", _number("late")),
    (">slowness", _number("slowness", 1)),
    ("failures", lambda row: _fallback(row.get("failures")) or render.MISSING),
)
_SERVICES: tuple[Column, ...] = (
    ("engine", _text("engine")),
    (">device", _number("device")),
    ("state", _text("state")),
    ("reason", _text("reason")),
    (">clients", _number("clients")),
    (">batches", _number("jobs")),
    (">launches", _number("launches")),
    (">batches/launch", _number("jobs_per_launch", 1)),
    (">waits us", _number("gather_us")),
    (">restarts", _number("restarts")),
)
_STAGES: tuple[Column, ...] = (
    ("stage", _text("name")),
    (">calls", _number("calls")),
    (">packets", _number("packets")),
    (">ns/packet", _number("ns_per_packet")),
    (">packets/call", _number("packets_per_call", 1)),
)


def _table(title: str, columns: tuple[Column, ...], rows: list[Row]) -> Table:
    names = [name for name, _ in columns]
    return render.table(title, names, [[write(row) for _, write in columns] for row in rows])


def _heading(status: Row) -> str:
    engines = status.get("engines")
    used = (
        ", ".join(f"{key} {value}" for key, value in engines.items()) if isinstance(engines, dict) else render.MISSING
    )
    flows = status.get("flows")
    opened = render.number(flows.get("open")) if isinstance(flows, dict) else render.MISSING
    role = status.get("role", "appliance")
    return f"{role}, up {render.seconds(status.get('uptime'))}, {opened} open flows; engines: {used}"


def _fallback(row: object) -> str:
    if isinstance(row, dict):
        return ", ".join(f"{key}: {value}" for key, value in row.items())
    return str(row)


def _tun(status: Row) -> list[Text | Table]:
    """Return the TUN device, and at a server its clients."""
    from rich.text import Text

    found = status.get("tun")
    if not isinstance(found, dict) or not found.get("name"):
        return []
    addresses = found.get("addresses")
    shown = ", ".join(map(str, addresses)) if isinstance(addresses, list) and addresses else "no address"
    state = f", {found['state']}" if found.get("state") else ""
    reason = f": {found['reason']}" if found.get("reason") else ""
    parts: list[Text | Table] = [
        Text(f"TUN {found['name']}: {shown}, MTU {found.get('mtu', render.MISSING)}{state}{reason}")
    ]
    parts += [Text(line) for line in _moves(found.get("packets"))]
    clients = rows_of(found, "clients")
    if clients:
        parts.append(_table("Clients in the tunnel", _TUN_CLIENTS, clients))
    return parts


def _moves(packets: object) -> list[str]:
    """Return what was moved between the workers' queues."""
    if not isinstance(packets, dict) or "steering" not in packets:
        return []
    counts = ", ".join(map(str, packets.get("queues", ())))
    moved, followed = packets.get("moved_buckets", 0), packets.get("followed_buckets", 0)
    if packets["steering"] != "program":
        return [f"Queues chosen by the kernel, packets handed over {packets.get('handed_over', 0)}"]
    lines = [f"Queues chosen by our program, buckets {counts}; moved {moved}, with the peer {followed}"]
    return lines + [f"  {move}" for move in packets.get("moves", ())]


def _engines(status: Row) -> list[Text | Table]:
    """Return the engines that are watched, when one of them has failed or was asked twice."""
    from rich.text import Text

    watch = rows_of(status, "engine_watch")
    rungs: list[Row] = [
        {"operation": each.get("operation"), **rung} for each in watch for rung in rows_of(each, "rungs")
    ]
    if not any(rung.get("failures") for rung in rungs):
        return []
    sums = {name: sum(_count(each, name) for each in watch) for name in ("redone", "audited", "mismatched", "lost")}
    said = ", ".join(f"{count} {name}" for name, count in sums.items())
    return [_table("Engines", _ENGINES, rungs), Text(f"Packets and spans that software did again: {said}")]


def _kernels(status: Row) -> list[Text | Table]:
    """Return which of their kernels devices have measured as faster, of their services and of engines without one."""
    from rich.text import Text

    services = rows_of(status, "gpu_services")
    told = {f"{each.get('engine')}, device {each.get('device')}": each.get("kernels") for each in services}
    served = {each.get("engine") for each in services}
    for watch in rows_of(status, "engine_watch"):
        for rung in rows_of(watch, "rungs"):
            if rung.get("engine") not in served and rung.get("kernels"):
                told[str(rung.get("engine"))] = rung["kernels"]
    lines: list[Text | Table] = []
    for who, kernels in told.items():
        if isinstance(kernels, list) and kernels:
            lines += [Text(f"Kernels of {who}", style="bold"), *(Text(f"  {each}") for each in kernels)]
    return lines


def _count(row: Row, name: str) -> int:
    value = row.get(name)
    return value if isinstance(value, int) else 0


def document(status: Row) -> Group:
    """Return everything that a person wants to see of a status."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Text | Table] = [Text(_heading(status))]
    workers = status.get("workers")
    if isinstance(workers, dict) and workers.get("deaths"):
        parts.append(Text(f"Data workers lost: {workers['deaths']}, at last because {workers.get('last_death')}"))
    each = rows_of(workers, "each") if isinstance(workers, dict) else []
    if len(each) > 1:
        parts.append(_table("Workers", _WORKERS, each))
    lanes, channels, stages = (rows_of(status, name) for name in ("lanes", "channels", "stages"))
    parts.append(_table("Paths", _LANES, lanes) if lanes else Text("No path is up."))
    if channels:
        parts.append(_table("Channels", _CHANNELS, channels))
    packets = [row for row in rows_of(status, "packets") if row.get("packets_in") or row.get("packets_out")]
    if packets:
        parts.append(_table("Packets", _PACKETS, packets))
    parts += _tun(status)
    if stages:
        parts.append(_table("Stages", _STAGES, stages))
    parts += _engines(status)
    services = rows_of(status, "gpu_services")
    if services:
        parts.append(_table("GPU services, by which data workers reach devices", _SERVICES, services))
    parts += _kernels(status)
    fallbacks = status.get("fallbacks")
    if isinstance(fallbacks, list) and fallbacks:
        parts += [Text("Fallbacks in force", style="bold"), *(Text(f"  {_fallback(row)}") for row in fallbacks)]
    return Group(*parts)


def paths(status: Row) -> Group:
    """Return everything about paths: those in use, and at a client those that are configured."""
    from rich.console import Group
    from rich.text import Text

    lanes, configured = rows_of(status, "lanes"), rows_of(status, "paths")
    parts: list[Text | Table] = [_table("Paths", _PATHS, lanes) if lanes else Text("No path is up.")]
    if status.get("role") == "client" and configured:
        parts.append(_table("Configured", _CONFIGURED, configured))
    return Group(*parts)


def flows(status: Row) -> Group:
    """Return the flows that have carried most."""
    from rich.console import Group
    from rich.text import Text

    found = status.get("flows")
    table = rows_of(found, "largest") if isinstance(found, dict) else []
    count = render.number(found.get("open")) if isinstance(found, dict) else render.MISSING
    head = Text(f"{count} open flows, the {len(table)} largest:" if table else "No flow is open.")
    return Group(head, _table("", _FLOWS, table)) if table else Group(head)


def efficiency(status: Row) -> Group:
    """Return what the bytes on the wire were for, and where the processor time went."""
    from rich.console import Group

    def table(title: str, shares: list[Share], write: Callable[[object], str]) -> Table:
        rows = [[share.name, write(share.amount), render.percent(share.share, 1), share.meaning] for share in shares]
        return render.table(title, ["", ">amount", ">share", ""], rows)

    return Group(
        table("Bytes sent", bytes_sent(status), render.size),
        table("Processor time of the data worker", cpu_time(status), lambda amount: render.number(amount, 2, " s")),
    )


def is_degraded(status: Row) -> bool:
    """Tell whether a fallback is in force or a path is not well."""
    return bool(status.get("fallbacks")) or any(
        lane.get("state") in ("suspect", "dead") for lane in rows_of(status, "lanes")
    )
