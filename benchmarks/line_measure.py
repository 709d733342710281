"""What is measured of one subject: throughput by iperf3, processor time and memory from /proc."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.line_stages import worker_pids
from benchmarks.line_subjects import Running
from benchmarks.line_town import LineError, Program, Town, run, wait_until

PORT = 5201
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Transfer:
    """One iperf3 run.

    Attributes
    ----------
    mbit_s
        Goodput at the receiver.
    cpu_s_per_gbit
        Processor time of all tunnel processes for a gigabit of goodput; 0 without a tunnel.
    end_s_per_gbit
        The same of the end that needs more.
    retransmits
        TCP segments sent again by the inner connections.
    """

    mbit_s: float
    cpu_s_per_gbit: float
    end_s_per_gbit: float
    retransmits: int


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the processor time that processes have used so far, with that of children they have waited for."""
    total = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))
    return total / _TICK


def pss_bytes(pids: Iterable[int], *kinds: str) -> int:
    """Return the memory of processes, pages that several share divided among them.

    ``kinds`` are those of the lines of smaps_rollup that count, like ``Pss_Anon``; default: all memory.
    """
    total = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
            total += sum(parse_pss(text, kind) for kind in kinds or ("Pss",))
    return total


def parse_pss(text: str, kind: str = "Pss") -> int:
    """Return the bytes that a smaps_rollup file tells.

    Raises
    ------
    LineError
        When it tells none.
    """
    found = re.search(rf"^{kind}:\s+(\d+) kB$", text, re.MULTILINE)
    if found is None:
        raise LineError(f"smaps_rollup has no line {kind}; Linux 5.3 or newer is needed")
    return int(found[1]) * 1024


_ATTEMPTS = 6
_PASSING = ("busy", "refused")
"""What an iperf3 server says that has not ended its last test yet, or does not listen yet."""


def start_iperf(town: Town) -> Program:
    """Start the iperf3 server on side b, for all subjects, and wait until it listens."""
    run("iperf3", "--version")
    server = town.spawn("b", "iperf3", "-s", "-p", str(PORT))
    wait_until(lambda: f":{PORT} " in town.run("b", "ss", "-ltn"), "iperf3 listens", [server])
    return server


def iperf(town: Town, target: str, seconds: float, *options: str) -> dict[str, Any]:
    """Run an iperf3 client on side a and return its report.

    Raises
    ------
    LineError
        When it fails, with what it said.
    """
    command = ["iperf3", "-J", "-c", target, "-p", str(PORT), "-t", f"{max(round(seconds), 1)}", *options]
    for attempt in range(_ATTEMPTS):
        program = town.spawn("a", *command, name="iperf3-client")
        try:
            program.process.wait(seconds + 20)
        finally:
            town.end([program])
        report = parse_report(program.log.read_text(encoding="utf-8"))
        problem = str(report.get("error", "" if "end" in report else "no report"))
        if not problem:
            return report
        if not any(word in problem for word in _PASSING) or attempt == _ATTEMPTS - 1:
            raise LineError(f"iperf3 to {target}: {problem}")
        time.sleep(0.5)
    raise AssertionError


def parse_report(text: str) -> dict[str, Any]:
    """Return the report in the output of ``iperf3 -J``, which writes warnings before it; empty if there is none."""
    start = text.find("{")
    found: dict[str, Any] = json.loads(text[start:]) if start >= 0 else {}
    return found


def parse_transfer(report: dict[str, Any], cpu_s: Sequence[float]) -> Transfer:
    """Return what an iperf3 report of TCP and each end's processor time meanwhile tell."""
    got = report["end"]["sum_received"]
    gigabits = got["bytes"] * 8 / 1e9
    return Transfer(
        round(got["bits_per_second"] / 1e6, 1),
        round(sum(cpu_s) / gigabits, 4) if gigabits else 0.0,
        round(max(cpu_s) / gigabits, 4) if gigabits else 0.0,
        int(report["end"].get("sum_sent", {}).get("retransmits", 0)),
    )


def end_seconds(running: Running) -> list[float]:
    """Return the processor time that the tunnel's processes have used so far, by end."""
    return [cpu_seconds(running.pids(side)) for side in "ab"]


def transfer(town: Town, running: Running, seconds: float, streams: int, *, down: bool) -> Transfer:
    """Measure TCP through a subject."""
    options = ["-P", str(streams), *(["-R"] if down else [])]
    before = end_seconds(running)
    report = iperf(town, running.target, seconds, *options)
    return parse_transfer(report, [now - then for now, then in zip(end_seconds(running), before, strict=True)])


def look(running: Running, side: str) -> tuple[dict[str, Any], float]:
    """Return the status of a VANTUN's end, and the processor time of its workers so far."""
    status = running.status(side)
    return status, cpu_seconds(worker_pids(status))
