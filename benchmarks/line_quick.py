"""The quick run: one TCP stream each way, direct, through VANTUN without FEC and wireguard-go, and where time goes."""

from __future__ import annotations

import argparse
import statistics
import time

from benchmarks.line_full import OFFERED_MBIT
from benchmarks.line_measure import Transfer, end_seconds, iperf, look, start_iperf, transfer
from benchmarks.line_peers import WireGuard
from benchmarks.line_python import Samples
from benchmarks.line_stages import stage_costs, stage_table, worker_pids
from benchmarks.line_subjects import Running, Subject, Vantun, direct
from benchmarks.line_town import LineError, Town
from benchmarks.line_udp import HEADERS

VANTUN = "vantun"


def subjects_of(options: argparse.Namespace) -> list[Subject]:
    """Return who takes part."""
    binary = str(options.wireguard_go.resolve()) if options.wireguard_go else "wireguard-go"
    found = [
        Subject("direct", direct),
        Subject(VANTUN, Vantun(workers=options.workers)),
        Subject("wireguard-go", WireGuard(binary)),
    ]
    chosen = [subject for subject in found if not options.only or subject.name in options.only]
    strange = sorted(set(options.only) - {subject.name for subject in found})
    if strange:
        raise LineError(f"there is no subject {strange[0]!r}; there are {', '.join(subject.name for subject in found)}")
    return chosen


def quick(town: Town, options: argparse.Namespace) -> int:
    """Measure and print."""
    seconds, rounds = options.seconds or 3.0, options.rounds or 1
    print(f"profile {options.profile}, {'each side on a core' if town.pinned else 'not pinned'}, {seconds:g} s each")
    start_iperf(town)
    found: dict[tuple[str, str], list[Transfer]] = {}
    for _ in range(rounds):
        for subject in subjects_of(options):
            began = time.monotonic()
            running = subject.start(town)
            try:
                print(f"{subject.name}: up after {time.monotonic() - began:.1f} s", flush=True)
                for direction in ("up", "down"):
                    took = _one(town, running, seconds, direction)
                    found.setdefault((subject.name, direction), []).append(took)
                if running.sockets:
                    _paced(town, running, seconds)
            finally:
                town.end(list(running.programs.values()))
    print(summary(found))
    return 0


def _one(town: Town, running: Running, seconds: float, direction: str) -> Transfer:
    before = {side: look(running, side) for side in running.sockets}
    samples = _sample(town, running, seconds)
    began = time.monotonic()
    took = transfer(town, running, seconds, 1, down=direction == "down")
    wall = time.monotonic() - began
    cost = f"{took.cpu_s_per_gbit:8.3f} CPU s/Gbit, {took.retransmits} retransmits"
    print(f"  {direction:5}{took.mbit_s:9.1f} Mbit/s{cost}")
    for side, (status, busy) in before.items():
        after, now = look(running, side)
        role = {"a": "client", "b": "server"}[side]
        print(f"   {role}: workers {(now - busy) / wall:.0%} of a core")
        print(stage_table(stage_costs(status, after, now - busy)))
        print(f"   {samples[side].tell()}", flush=True)
    return took


def _sample(town: Town, running: Running, seconds: float) -> dict[str, Samples]:
    """Begin to sample the workers of each side."""
    pids = {side: worker_pids(running.status(side)) for side in running.sockets}
    return {side: Samples(each, seconds, town.folder / f"perf-{side}.data") for side, each in pids.items()}


def _paced(town: Town, running: Running, seconds: float) -> None:
    """Offer OFFERED_MBIT of UDP in packets of 1400 bytes, and print what that costs."""
    before, began = end_seconds(running), time.monotonic()
    samples = _sample(town, running, seconds)
    iperf(town, running.target, seconds, "-u", "-b", f"{OFFERED_MBIT}M", "-l", str(1400 - HEADERS))
    wall = time.monotonic() - began
    for side, then, now in zip("ab", before, end_seconds(running), strict=True):
        role = {"a": "client", "b": "server"}[side]
        print(
            f"  {OFFERED_MBIT} Mbit/s: {role} {(now - then) / wall:.1%} of a core; {samples[side].tell()}", flush=True
        )


def summary(found: dict[tuple[str, str], list[Transfer]]) -> str:
    """Return medians, and the ratios of VANTUN to the others in the same round."""
    lines = []
    for (name, direction), runs in found.items():
        rate = statistics.median(run.mbit_s for run in runs)
        cost = statistics.median(run.cpu_s_per_gbit for run in runs)
        line = f"{name:14}{direction:5}{rate:9.1f} Mbit/s{cost:8.3f} CPU s/Gbit"
        ours = found.get((VANTUN, direction))
        if ours and name != VANTUN:
            rates = statistics.median(mine.mbit_s / run.mbit_s for mine, run in zip(ours, runs, strict=True))
            line += f"   vantun has {rates:.2f}x the rate"
            if cost:
                work = [run.cpu_s_per_gbit / mine.cpu_s_per_gbit for mine, run in zip(ours, runs, strict=True)]
                line += f", {statistics.median(work):.2f}x the work per CPU second"
        lines.append(line)
    return "\n".join(lines)
