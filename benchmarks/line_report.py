"""The line laboratory's figures as Markdown tables, as a picture, and as the section of docs/measurements.md."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from accel.bench import plot
from benchmarks import line_profile
from benchmarks.line_demands import MISSED, Demand, Rounds, values
from benchmarks.line_profile import Shares

Profiles = Mapping[str, Mapping[str, Sequence[Mapping[str, object]]]]
"""Stages by subject, and by direction and role."""
BEGIN, END = "<!-- line MACHINE -->", "<!-- end: line MACHINE -->"
"""Around the section of a machine; its name as in the names of results."""
_MEMORY = (("pss_idle_mb", "PSS idle MB", "{:,.0f}"), ("pss_load_mb", "at the end", "{:,.0f}"))
_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("tcp1_up_mbit", "TCP up", "{:,.0f}"),
    ("tcp1_down_mbit", "down", "{:,.0f}"),
    ("tcp8_up_mbit", "8 up", "{:,.0f}"),
    ("tcp8_down_mbit", "8 down", "{:,.0f}"),
    ("tcp1_up_cpu", "CPU s/Gbit up", "{:.3f}"),
    ("tcp1_down_cpu", "down", "{:.3f}"),
    ("tcp1_up_parity", "parity up", "{:.0%}"),
    ("udp64_kpps", "64 B kpps", "{:,.0f}"),
    ("udpimix_kpps", "IMIX", "{:,.0f}"),
    ("udp1400_kpps", "1400 B", "{:,.0f}"),
    ("rtt_idle_p50_us", "idle RTT p50 us", "{:,.0f}"),
    ("rtt_idle_p99_us", "p99", "{:,.0f}"),
    ("rtt_load_p50_us", "loaded p50", "{:,.0f}"),
    ("rtt_load_p99_us", "p99", "{:,.0f}"),
    *_MEMORY,
)
_PROXY: tuple[tuple[str, str, str], ...] = (
    ("socks_up_mbit", "up Mbit/s", "{:,.0f}"),
    ("socks_down_mbit", "down Mbit/s", "{:,.0f}"),
    ("socks_up_cpu", "CPU s/Gbit up", "{:.3f}"),
    ("socks_down_cpu", "down", "{:.3f}"),
    *_MEMORY,
)


def medians(rounds: Rounds) -> dict[str, dict[str, float]]:
    """Return the median of every figure, by subject, in the order of their turns."""
    names = dict.fromkeys(name for each in rounds for name in each)
    found: dict[str, dict[str, float]] = {}
    for name in names:
        measures = dict.fromkeys(measure for each in rounds for measure in each.get(name, {}))
        found[name] = {measure: round(statistics.median(values(rounds, name, measure)), 4) for measure in measures}
    return found


def demand_table(found: Sequence[Demand]) -> str:
    """Return the demands, what was measured, and the verdicts."""
    lines = ["| demanded | at least, or at most | measured (median of ratios of one round) | |", "|---|---|---|---|"]
    for each in found:
        sign = "" if each.least else "<= "
        target = f"{sign}{_amount(each.target, each.unit)}"
        if each.stretch is not None:
            target += f" ({_amount(each.stretch, each.unit)})"
        cases = [f"{case.name} {_amount(case.median, each.unit)}".strip() for case in each.cases]
        told = ", ".join(cases) or each.why_not or "-"
        verdict = f"**{each.verdict}**, {each.gap}" if each.verdict == MISSED else each.verdict
        lines.append(f"| {each.text} | {target} | {told} | {verdict}{', and the stretch' if each.stretched else ''} |")
    return "\n".join(lines) + "\n"


def _amount(value: float, unit: str) -> str:
    return f"{value:.2f}x" if unit == "x" else f"{value:.1f} {unit}"


def figure_table(found: dict[str, dict[str, float]], columns: Sequence[tuple[str, str, str]] = _COLUMNS) -> str:
    """Return the medians of subjects that have any of the columns; all have memory, which is no reason."""
    telling = [measure for measure, _, _ in columns if not measure.startswith("pss_")]
    shown = {name: row for name, row in found.items() if any(measure in row for measure in telling)}
    lines = ["| | " + " | ".join(title for _, title, _ in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in shown.items():
        cells = [form.format(row[measure]) if measure in row else "-" for measure, _, form in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def profile_table(profile: Mapping[str, Sequence[Mapping[str, object]]]) -> str:
    """Return where the workers' time went: stages as rows, direction and role as columns."""
    names = dict.fromkeys(str(row["name"]) for rows in profile.values() for row in rows)
    lines = ["| stage | " + " | ".join(profile) + " |", "|---" * (len(profile) + 1) + "|"]
    for name in names:
        cells = []
        for rows in profile.values():
            row = next((it for it in rows if it["name"] == name), None)
            cells.append("-" if row is None else _stage(row))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _stage(row: Mapping[str, object]) -> str:
    share = f"{float(str(row['share'])):.0%}"
    return f"{share}, {float(str(row['ns_per_packet'])):,.0f} ns/packet" if row["packets"] else share


def markdown(
    found: Sequence[Demand], rounds: Rounds, problems: Sequence[str], profiles: Profiles, owners: Shares | None = None
) -> str:
    """Return all tables; ``owners`` = whose the workers' time was, by ``perf``."""
    middle = medians(rounds)
    text = demand_table(found)
    text += "\nMbit/s of iperf3 with one and eight streams, and packets of UDP that arrive; medians:\n\n"
    text += figure_table(middle)
    if any("socks_up_mbit" in row for row in middle.values()):
        text += "\nOne stream through a proxy:\n\n" + figure_table(middle, _PROXY)
    if "vantun" in profiles:
        text += (
            "\nWhere the time of VANTUN's workers went, one stream (share of their processor time; a stage's own clock "
        )
        text += "runs on while another process has the core):\n\n" + profile_table(profiles["vantun"])
    if owners:
        text += "\nWhose the busy time of VANTUN's workers was (`perf`):\n\n" + line_profile.table(owners)
    if problems:
        text += "\nNot measured:\n\n" + "\n".join(f"- {problem}" for problem in problems) + "\n"
    return text


def draw(rounds: Rounds, path: Path, subtitle: str) -> None:
    """Write throughput and work per CPU second of every subject as bars; the format follows the name's ending.

    Raises
    ------
    UnavailableError
        When matplotlib is not installed.
    """
    plot.check(path)
    from matplotlib.figure import Figure

    found = {name: row for name, row in medians(rounds).items() if "tcp1_up_mbit" in row}
    figure = Figure(figsize=(9.6, 1.2 + 0.34 * len(found)), layout="constrained")
    for place, title in enumerate(("Gbit/s, one TCP stream", "Gbit per CPU second of the tunnel"), 1):
        axes = figure.add_subplot(1, 2, place)
        for shift, way in ((-0.2, "up"), (0.2, "down")):
            bars = [_rate(row, way) if place == 1 else _work(row, way) for row in found.values()]
            axes.barh([it + shift for it in range(len(found))], bars, 0.4, label=way)
        axes.set_yticks(range(len(found)), list(found) if place == 1 else [""] * len(found))
        axes.invert_yaxis()
        axes.set_title(title)
        axes.grid(visible=True, axis="x", alpha=0.3)
        axes.legend()
    figure.suptitle(subtitle, fontsize="small")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _rate(row: dict[str, float], way: str) -> float:
    return row.get(f"tcp1_{way}_mbit", 0.0) / 1e3


def _work(row: dict[str, float], way: str) -> float:
    cost = row.get(f"tcp1_{way}_cpu", 0.0)
    return 1.0 / cost if cost else 0.0


def replace_section(text: str, section: str, machine: str) -> str:
    """Return a page with a machine's section replaced; a machine that is not there yet follows the last one that is.

    Raises
    ------
    ValueError
        When the page has no section of any machine, or two of this one.
    """
    begin, end = (marker.replace("MACHINE", machine) for marker in (BEGIN, END))
    made = f"{begin}\n\n{section.strip()}\n\n{end}"
    text, count = re.subn(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: made, text, flags=re.DOTALL)
    if count > 1:
        raise ValueError(f"the markers {begin} and {end} must stand there once")
    if count:
        return text
    sections = list(re.finditer(END.replace("MACHINE", r"\S+"), text))
    if not sections:
        raise ValueError(f"the markers {BEGIN} and {END} must stand there, with the name of a machine")
    at = sections[-1].end()
    return f"{text[:at]}\n\n{made}{text[at:]}"
