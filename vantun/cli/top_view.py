"""``vantun top`` as tables for a terminal of some size, and as a plain document.

What limits throughput comes first. Tables that a terminal has no lines for are named instead, columns that it has no
room for are left out from the least wanted on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

from vantun.cli import render
from vantun.cli.top_limits import Finding, Limit
from vantun.cli.top_rates import ChannelRate, EngineNow, PathRate, Rates, StageRate

if TYPE_CHECKING:
    from rich.console import Console, Group, RenderableType
    from rich.table import Table
    from rich.text import Text

ROWS = 12
"""Rows of a table, at most: a server may have a thousand paths. The busiest are shown."""
_FIRST = 2
"""Lines about what limits, before anything else: they are there on the smallest terminal, too."""
_FINE = (Limit.IDLE, Limit.PROGRAMS, Limit.OTHER_END, Limit.UNKNOWN)

Shown = TypeVar("Shown")
Column = tuple[str, Callable[[Shown], str]]


def _percent(share: float | None) -> str:
    return render.percent(share, 1)


_STAGES: Sequence[Column[StageRate]] = (
    ("stage", lambda row: row.name),
    (">of busy time", lambda row: _percent(row.share)),
    (">ns/packet", lambda row: render.number(row.ns_per_packet)),
    (">packets/s", lambda row: render.number(row.packets)),
    (">packets/call", lambda row: render.number(row.per_call, 1)),
    (">calls/s", lambda row: render.number(row.calls)),
)
_PATHS: Sequence[Column[PathRate]] = (
    ("path", lambda row: row.name),
    ("state", lambda row: row.state),
    (">out", lambda row: render.rate(row.out_bps)),
    (">in", lambda row: render.rate(row.in_bps)),
    (">RTT ms", lambda row: render.number(row.rtt_ms, 1)),
    (">loss", lambda row: render.percent(row.loss)),
    (">paced at", lambda row: render.rate(row.rate_bps)),
    (">in flight/window", lambda row: f"{render.size(row.in_flight)}/{render.size(row.cwnd)}"),
    (">CPU, about", lambda row: _percent(row.cpu)),
    ("user", lambda row: row.user or render.MISSING),
    ("session", lambda row: row.session),
)
_CHANNELS: Sequence[Column[ChannelRate]] = (
    ("channel", lambda row: row.kind),
    (">queued", lambda row: render.number(row.queued)),
    (">sent/s", lambda row: render.number(row.sent)),
    (">repaired/s", lambda row: render.number(row.repaired, 1)),
    (">re-sent/s", lambda row: render.number(row.resent, 1)),
    ("session", lambda row: row.session),
)
_ENGINES: Sequence[Column[EngineNow]] = (
    ("operation", lambda row: row.operation),
    ("engine", lambda row: row.engine),
    ("instead of", lambda row: row.wanted if row.fallback else render.MISSING),
    ("out of service", lambda row: ", ".join(row.out) or render.MISSING),
    (">redone/s", lambda row: render.number(row.redone, 1)),
    ("reason", lambda row: row.reason or render.MISSING),
)


def document(found: Rates | None, said: Sequence[Finding]) -> dict[str, object]:
    """Return one sample as plain values: ``limit`` is the first finding, ``also`` the others; rates are per second."""
    plain = [{**asdict(finding), "limit": finding.limit.value} for finding in said]
    head: dict[str, object] = {"limit": plain[0], "also": plain[1:]}
    return head if found is None else {**head, "out_bps": found.out_bps, "in_bps": found.in_bps, **asdict(found)}


def view(found: Rates | None, said: Sequence[Finding], console: Console, lines: int | None = None) -> Group:
    """Return one sample for ``console``; with ``lines``, no higher than that."""
    from rich.console import Group
    from rich.text import Text

    parts: list[tuple[str, RenderableType]] = [("", text) for text in _findings(said)]
    if found is not None:
        parts.insert(_FIRST, ("", _heading(found)))
        parts += _tables(found, console)
    if lines is None:
        return Group(*(part for _, part in parts))
    shown: list[RenderableType] = []
    missing: list[str] = []
    left = lines - 1  # for the line that names what is missing
    for name, part in parts:
        height = len(console.render_lines(part, pad=False))
        if height > left:
            missing += [name] if name else []
            continue
        shown.append(part)
        left -= height
    if missing:
        shown.append(Text(f"A higher terminal shows {', '.join(missing)}.", style="dim", overflow="crop", no_wrap=True))
    return Group(*shown)


def _heading(found: Rates) -> Text:
    from rich.text import Text

    worker = found.worker
    said = [
        f"{found.role}: {render.rate(found.out_bps)} out, {render.rate(found.in_bps)} in",
        f"{found.flows.open} open flows",
        f"worker {worker.pid} busy {_percent(worker.busy)}",
    ]
    if worker.system is not None:
        said.append(f"in the kernel {_percent(worker.system)}")
    if worker.wait is not None:
        said.append(f"waiting for a processor {_percent(worker.wait)}")
    said += [f"{render.number(worker.turns)} turns/s", render.size(worker.resident)]
    if worker.deaths:
        said.append(f"{worker.deaths} lost before it ({worker.last_death})")
    if worker.standby not in ("", "none"):
        said.append(f"standby {worker.standby}")
    return Text(", ".join(said))


def _findings(said: Sequence[Finding]) -> list[Text]:
    from rich.text import Text

    first = said[0]
    style = "bold green" if first.limit in _FINE else "bold yellow"
    lines = [
        Text.assemble((f"Limit: {first.limit.value}, {first.subject}", style), f": {first.reason}."),
        Text(f"Next: {first.next_step}.", style="bold"),
    ]
    lines += [Text(f"Also: {other.limit.value}, {other.subject}: {other.reason}.") for other in said[1:]]
    return lines


def _tables(found: Rates, console: Console) -> list[tuple[str, RenderableType]]:
    paths = sorted(found.paths, key=lambda row: -(row.out_bps + row.in_bps))
    channels = [row for row in found.channels if row.queued or row.sent or row.repaired or row.resent]
    channels.sort(key=lambda row: -(row.queued + row.sent + row.repaired))
    parts: list[tuple[str, RenderableType]] = []
    parts += _part("Stages", _STAGES, found.stages, console)
    parts += _part("Paths", _PATHS, paths, console)
    parts += _part("Channels", _CHANNELS, channels, console)
    parts += _part("Engines", _ENGINES, found.engines, console)
    if found.drops:
        from rich.text import Text

        said = ", ".join(f"{name} {render.number(rate, 1)}" for name, rate in sorted(found.drops.items()))
        parts.append(("Drops", Text(f"Dropped per second: {said}")))
    return parts


def _part(
    title: str, columns: Sequence[Column[Shown]], rows: Sequence[Shown], console: Console
) -> list[tuple[str, RenderableType]]:
    """Return a table under its title, cut to what fits across; nothing without rows."""
    if not rows:
        return []
    more = f", {len(rows) - ROWS} more of them are not shown" if len(rows) > ROWS else ""
    wanted = len(columns)
    while (
        wanted > 2
        and _table(title + more, columns[:wanted], rows)
        .__rich_measure__(console, console.options.update(max_width=10_000))
        .maximum
        > console.width
    ):
        wanted -= 1
    return [(title, _table(title + more, columns[:wanted], rows))]


def _table(title: str, columns: Sequence[Column[Shown]], rows: Sequence[Shown]) -> Table:
    names = [name for name, _ in columns]
    return render.table(title, names, [[write(row) for _, write in columns] for row in rows[:ROWS]])
