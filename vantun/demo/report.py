"""The figures as one table, and as one JSON document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from vantun.cli import render
from vantun.lab.ceiling import ETHERNET, FRAME, OUTER_HEADERS

if TYPE_CHECKING:
    from rich.table import Table

    from vantun.demo.phase import PhaseFigures, TransferFigures
    from vantun.demo.scene import Settings


def problems(phases: Sequence[PhaseFigures]) -> list[str]:
    """Return what makes the demo fail: transfers that did not arrive, or not as they were sent."""
    found: list[str] = []
    for phase in phases:
        for name, figures in (("download", phase.download), ("upload", phase.upload)):
            if figures.error:
                found.append(f"{phase.name}: the {name} broke after {figures.bytes:,} bytes: {figures.error}")
            elif not figures.intact:
                found.append(f"{phase.name}: the {name} arrived with other bytes than were sent (SHA-256 differs)")
        if phase.cut and phase.failover["download_s"] is None and not phase.download.error:
            found.append(f"{phase.name}: the download was over before path {phase.cut} was cut; choose a larger --size")
        if phase.requests["error"]:
            found.append(f"{phase.name}: the small requests broke: {phase.requests['error']}")
    return found


def document(settings: Settings, phases: Sequence[PhaseFigures], machine: dict[str, object]) -> dict[str, object]:
    """Return everything that was measured, raw figures included."""
    return {
        "machine": machine,
        "settings": asdict(settings),
        "ceiling": {"frame_bytes": FRAME, "ethernet_bytes": ETHERNET, "outer_header_bytes": OUTER_HEADERS},
        "phases": [
            {
                **asdict(phase),
                "overhead": phase.overhead,
                "download_share_of_ceiling": phase.download.share,
                "upload_share_of_ceiling": phase.upload.share,
                "valid": bool(phase.relay["valid"]),
            }
            for phase in phases
        ],
        "problems": problems(phases),
    }


def _goodput(figures: TransferFigures) -> str:
    return "BROKEN" if figures.error else render.rate(figures.goodput_bps)


def _milliseconds(*seconds: float | None) -> str:
    return " / ".join(render.MISSING if value is None else f"{value * 1e3:.0f}" for value in seconds) + " ms"


def _silence(phase: PhaseFigures, name: str) -> str:
    return render.MISSING if phase.failover[name] is None else _milliseconds(phase.failover[name])


def _lag(phase: PhaseFigures) -> str:
    lag = f"{phase.relay['lag_mean_s'] * 1e3:.2f} / {phase.relay['lag_max_s'] * 1e3:.1f} ms"
    return lag if phase.relay["valid"] else f"INVALID {lag}"


def _digests(phase: PhaseFigures) -> str:
    return "equal" if phase.download.intact and phase.upload.intact else "DIFFERENT"


_ROWS: tuple[tuple[str, Callable[[PhaseFigures], str]], ...] = (
    ("download", lambda phase: _goodput(phase.download)),
    ("  of the ceiling", lambda phase: render.percent(phase.download.share, 0)),
    ("upload", lambda phase: _goodput(phase.upload)),
    ("  of the ceiling", lambda phase: render.percent(phase.upload.share, 0)),
    ("1 kB requests, p50 / p99", lambda phase: _milliseconds(phase.requests["p50_s"], phase.requests["p99_s"])),
    ("shards lost", lambda phase: f"{phase.shards['lost']:,}"),
    ("  recovered by parity", lambda phase: f"{phase.shards['recovered']:,}"),
    ("  re-sent", lambda phase: f"{phase.shards['resent']:,}"),
    ("wire bytes per byte", lambda phase: render.number(phase.overhead, 2)),
    ("silence after the cut", lambda phase: _silence(phase, "download_s")),
    ("  of the requests", lambda phase: _silence(phase, "requests_s")),
    ("all cores busy", lambda phase: render.percent(phase.cpu_busy, 0)),
    ("emulator lag, mean / max", _lag),
    ("digests", _digests),
)


def table(phases: Sequence[PhaseFigures]) -> Table:
    """Return the one table: a column per phase."""
    rows = [[name, *(write(phase) for phase in phases)] for name, write in _ROWS]
    return render.table("", ["", *(f">{phase.name}" for phase in phases)], rows)


def notes(settings: Settings, phases: Sequence[PhaseFigures]) -> list[str]:
    """Return what the reader of the table has to know."""
    top = max((phase.download.ceiling_bps for phase in phases), default=0.0)
    engines = phases[-1].engines if phases else {}
    lines = [
        f"Ceiling: rate x (1 - loss) x {FRAME - ETHERNET - OUTER_HEADERS}/{FRAME} (payload of a full frame with "
        f"{OUTER_HEADERS} bytes of outer headers), summed over the paths for as long as they are usable: "
        f"{render.rate(top)} each way with both.",
        *(f"Path {path}." for path in settings.paths),
        f"Engines: {', '.join(f'{key} {value}' for key, value in engines.items()) or render.MISSING}.",
    ]
    if any(not phase.relay["valid"] for phase in phases):
        lines.append(
            "A column marked INVALID says nothing about VANTUN: the emulator itself was late by more than 1 ms on "
            "average. Run it on a machine with more idle cores, or as root."
        )
    return lines
