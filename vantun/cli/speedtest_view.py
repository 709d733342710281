"""The tables of ``vantun speedtest``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vantun.cli import render
from vantun.speedtest.outcome import Datagrams, Exchanges, Outcome, Streams

if TYPE_CHECKING:
    from rich.table import Table

_STREAMS = ("", ">rate", ">arrived", ">seconds")
_DATAGRAMS = ("", ">rate", ">sent", ">received", ">lost", ">loss", ">late", ">duplicated", ">reordered", ">jitter")


def view(outcome: Outcome) -> list[Table]:
    """Return what was measured, and the times of exchanges; directions that were not begun are left out."""
    directions = [
        (name, found)
        for name, found in (("download", outcome.download), ("upload", outcome.upload))
        if found is not None
    ]
    tables = []
    streams = [(name, found) for name, found in directions if isinstance(found, Streams)]
    datagrams = [(name, found) for name, found in directions if isinstance(found, Datagrams)]
    if streams:
        tables.append(render.table("Streams", _STREAMS, [_stream_row(*row) for row in streams]))
    if datagrams:
        tables.append(render.table("Datagrams", _DATAGRAMS, [_datagram_row(*row) for row in datagrams]))
    rows = [_exchange_row("idle", outcome.idle)]
    rows += [_exchange_row(f"during the {name}", found.loaded) for name, found in directions]
    return [*tables, render.table("Exchanges with the server", ("", ">p50", ">p99", ">number"), rows)]


def _stream_row(name: str, found: Streams) -> list[str]:
    said = found.document()
    return [
        name,
        render.rate(said["bits_per_second"]),
        render.size(found.octets),
        render.number(found.seconds, 2),
    ]


def _datagram_row(name: str, found: Datagrams) -> list[str]:
    said = found.document()
    counts = ("sent", "received", "lost")
    kinds = ("late", "duplicated", "reordered")
    return [
        name,
        render.rate(said["bits_per_second"]),
        *(render.number(said[count]) for count in counts),
        render.percent(said["loss"]),
        *(render.number(said[kind]) for kind in kinds),
        render.number(said["jitter_ms"], 2, " ms"),
    ]


def _exchange_row(name: str, found: Exchanges) -> list[str]:
    said = found.document()
    return [
        name,
        render.number(said["p50_ms"], 2, " ms"),
        render.number(said["p99_ms"], 2, " ms"),
        render.number(said["count"]),
    ]
