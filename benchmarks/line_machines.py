"""The newest line results of every machine side by side: tables of the README and of docs/measurements.md."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.line_demands import REACHED

SECTION = "machines"
"""Its markers' name, see ``line_report.replace_section``."""
_NAME = re.compile(r"line-(?P<machine>[a-z0-9-]+?-\d+core-(?:vm|host))-\d{4}-\d{2}-\d{2}(?:-.*)?\.json")
_PYTHON = "Python's share"
"""Of a demand that a machine without ``perf`` does not measure."""
_TITLES: tuple[tuple[str, str], ...] = (
    ("iperf3 TCP through TUN, FEC off", "one TCP stream, against wireguard-go (2026)"),
    ("the same, work per CPU second", "its work per CPU second"),
    ("the same vs Debian's wireguard-go", "one TCP stream, against Debian 12's wireguard-go"),
    ("the same vs OpenVPN", "against OpenVPN"),
    ("with 25 % FEC overhead and two paths", "25 % of parity over two paths, against wireguard-go (2026)"),
    ("segmentation in software", "where the card does not split UDP"),
    ("one SOCKS5 stream vs Hysteria 2", "one SOCKS5 stream, against Hysteria 2"),
    ("64 B UDP packets per second", "64 B packets per second, against wireguard-go (2026)"),
    ("idle RTT added, goal latency", "idle round trip added, goal latency, against the same"),
    ("idle RTT added, default", "idle round trip added, default"),
    ("CPU at 100 Mbit/s offered", "CPU at 100 Mbit/s with FEC 20 %, the busier end"),
    ("CPU per 100 Mbit/s at saturation", "CPU per 100 Mbit/s at saturation, the same"),
    (_PYTHON, "Python's share of a worker's busy time at full rate"),
    ("memory of a started server", "memory of a started server with one worker"),
    ("memory per idle path", "memory of an idle path"),
    ("memory per idle flow", "memory of an idle flow"),
    ("two workers on two cores", "two workers, against one"),
)
"""How each demand begins, and what it is called here."""
_FIRST_SCREEN = 8
"""How many of them the README has: throughput."""


@dataclass(frozen=True)
class Machine:
    """The newest full result of a machine."""

    name: str
    file: str
    document: Mapping[str, Any]


def newest(folder: Path) -> list[Machine]:
    """Return for each machine the result that was measured last, the newest first.

    Results of a part (``--only``, ``--quick``, ``--loss``, ``--soak``) do not count.
    """
    found: dict[str, Machine] = {}
    for path in sorted(folder.glob("line-*.json")):
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        document = json.loads(path.read_text(encoding="utf-8"))
        if not _is_full(document):
            continue
        before = found.get(match["machine"])
        if before is None or before.document["date"] < document["date"]:
            found[match["machine"]] = Machine(match["machine"], path.name, document)
    return sorted(found.values(), key=lambda each: str(each.document["date"]), reverse=True)


def _is_full(document: Mapping[str, Any]) -> bool:
    demands = document.get("demands", ())
    return bool(demands) and all(each["cases"] for each in demands if not each["text"].startswith(_PYTHON))


def table(machines: Sequence[Machine], *, short: bool = False) -> str:
    """Return demands that any result has as rows (``short``: those of throughput), and machines as columns."""
    names = [f"{each.name.removesuffix('-vm')}, {each.document['commit']}" for each in machines]
    lines = ["| | demanded | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|", _rates(machines)]
    for begin, title in _TITLES[: _FIRST_SCREEN if short else None]:
        if _demanded(machines, begin) == "-":
            continue
        cells = [_cell(each.document, begin) for each in machines]
        lines.append(f"| {title} | {_demanded(machines, begin)} | " + " | ".join(cells) + " |")
    text = (
        "\n".join(lines) + "\n\nUp / down; medians of the ratios of one round; **bold**: what is demanded is reached."
    )
    return text if short else f"{text} {', '.join(f'`{each.file}`' for each in machines)}."


def _rates(machines: Sequence[Machine]) -> str:
    cells = []
    for each in machines:
        figures = each.document["medians"]["vantun"]
        cells.append(f"{figures['tcp1_up_mbit'] / 1e3:.1f} / {figures['tcp1_down_mbit'] / 1e3:.1f}")
    return "| one TCP stream, Gbit/s | - | " + " | ".join(cells) + " |"


def _find(document: Mapping[str, Any], begin: str) -> Mapping[str, Any] | None:
    return next((each for each in document["demands"] if each["text"].startswith(begin)), None)


def _demanded(machines: Sequence[Machine], begin: str) -> str:
    for each in machines:
        found = _find(each.document, begin)
        if found is not None:
            share = found["unit"] == "x" and found["text"].startswith("idle")
            return f"{'<= ' if share or found['unit'] != 'x' else ''}{_amount(found['target'], found['unit'])}"
    return "-"


def _cell(document: Mapping[str, Any], begin: str) -> str:
    found = _find(document, begin)
    if found is None or not found["cases"]:
        return "-"
    told = " / ".join(_amount(case["median"], found["unit"]) for case in found["cases"])
    return f"**{told}**" if found["verdict"] == REACHED else told


def _amount(value: float, unit: str) -> str:
    if unit == "x":
        return f"{value:.2f}x" if value < 10 else f"{value:.0f}x"
    return f"{value:.1f} {unit.removesuffix(' of a core')}"
