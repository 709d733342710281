"""Every subject once in every round: what is measured of whom, and in which order."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks import line_udp
from benchmarks.line_demands import WAYS
from benchmarks.line_measure import end_seconds, iperf, look, pss_bytes, start_iperf, transfer
from benchmarks.line_peers import Hysteria, Kcptun, OpenVpn, WireGuard
from benchmarks.line_stages import parity_share, stage_costs
from benchmarks.line_subjects import STREAM_PORT, Running, Subject, Vantun, direct
from benchmarks.line_town import LineError, Program, Town, wait_until

Values = dict[str, float]
"""Figures of one subject in one round, by measure."""
PACKETS = ("tcp1", "tcp8", "udp", "rtt")
OFFERED_MBIT = 100
_EVERY_ROUND = ("direct", "vantun", "vantun-latency", "wireguard-go")
"""Everything of these is measured in every round: the demands are about them."""
LATENCY = {"accel": {"calibration": "off", "goal": "latency"}}


@dataclass
class Lab:
    """A town with the far ends of all measures, and how long each may take."""

    town: Town
    seconds: float
    counts: Path
    ends: list[Program] = field(default_factory=list)
    profile: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    """Stages of the workers of the subject that runs, by direction and role, of its last transfer."""

    @classmethod
    def open(cls, town: Town, seconds: float) -> Lab:
        """Start the far ends on side b."""
        counts = line_udp.counter_file(town.folder)
        ends = [
            start_iperf(town),
            town.spawn("b", sys.executable, "-m", "benchmarks.line_udp", "count", "--file", str(counts), name="count"),
            town.spawn("b", sys.executable, "-m", "benchmarks.line_stream", "serve", "", str(STREAM_PORT), name="ends"),
        ]
        listening = (f":{STREAM_PORT} ", f":{line_udp.PORT} ")
        wait_until(lambda: all(it in town.run("b", "ss", "-lntu") for it in listening), "the far ends listen", ends)
        return cls(town, seconds, counts, ends)

    def python(self, side: str, module: str, *words: str, seconds: float = 60.0) -> Values:
        """Run a module of this folder on a side and return what it prints."""
        found: Values = json.loads(self.town.run(side, sys.executable, "-m", module, *words, seconds=seconds))
        return found


def tcp(lab: Lab, running: Running, streams: int, seconds: float) -> Values:
    """Measure iperf3 both ways."""
    found: Values = {}
    for direction in WAYS:
        name = f"tcp{streams}_{direction}"
        before = {side: look(running, side) for side in running.sockets}
        took = transfer(lab.town, running, seconds, streams, down=direction == "down")
        for side, (status, busy) in before.items():
            after, now = look(running, side)
            role = {"a": "client", "b": "server"}[side]
            if (side == "a") == (direction == "up"):
                found[f"{name}_parity"] = parity_share(status, after)
            lab.profile[f"{direction}, {role}"] = [asdict(it) for it in stage_costs(status, after, now - busy)]
        found |= {f"{name}_mbit": took.mbit_s, f"{name}_cpu": took.cpu_s_per_gbit}
        found |= {f"{name}_end_cpu": took.end_s_per_gbit, f"{name}_again": float(took.retransmits)}
    return found


def udp(lab: Lab, running: Running) -> Values:
    """Return the most packets per second that arrive, by mix."""
    words = ["search", "--target", running.target, "--seconds", f"{max(lab.seconds * 0.4, 0.5)}"]
    found = lab.python("a", "benchmarks.line_udp", *words, "--file", str(lab.counts))
    return {f"udp{mix}_kpps": round(rate / 1e3, 1) for mix, rate in found.items()}


def rtt(lab: Lab, running: Running) -> Values:
    """Measure round trips of the idle tunnel, then beside one TCP stream."""
    words = [running.target, "--seconds", str(max(lab.seconds * 0.6, 0.6))]
    idle = lab.python("a", "benchmarks.line_rtt", *words, "--beat", "0.004")
    load = lab.town.spawn("a", "iperf3", "-c", running.target, "-p", "5201", "-t", "30", name="iperf3-load")
    try:
        time.sleep(0.5)
        loaded = lab.python("a", "benchmarks.line_rtt", *words, "--beat", "0.004")
        load.check()
    finally:
        lab.town.end([load])
    time.sleep(0.3)  # its server sees it go
    names = ("p50_us", "p99_us")
    return {f"rtt_{what}_{name}": it[name] for what, it in (("idle", idle), ("load", loaded)) for name in names}


def socks(lab: Lab, running: Running, ways: Sequence[str] = WAYS) -> Values:
    """Measure one stream through the proxy, both ways."""
    assert running.proxy is not None
    words = ["connect", lab.town.address("b"), str(STREAM_PORT), "--proxy", f"{running.proxy[0]}:{running.proxy[1]}"]
    words += ["--seconds", str(lab.seconds), *([] if running.socks else ["--plain"])]
    found: Values = {}
    for direction in ways:
        before = sum(end_seconds(running))
        got = lab.python("a", "benchmarks.line_stream", *words, *(["--down"] if direction == "down" else []))
        used = sum(end_seconds(running)) - before
        gigabits = got["bytes"] * 8 / 1e9
        found[f"socks_{direction}_mbit"] = got["mbit_s"]
        found[f"socks_{direction}_cpu"] = round(used / gigabits, 4) if gigabits else 0.0
    return found


def offered(lab: Lab, running: Running) -> Values:
    """Return the share of a core that each end needs for OFFERED_MBIT of UDP in packets of 1400 bytes."""
    seconds = max(round(2 * lab.seconds), 2)
    before, began = end_seconds(running), time.monotonic()
    size = str(1400 - line_udp.HEADERS)
    report = iperf(lab.town, running.target, seconds, "-u", "-b", f"{OFFERED_MBIT}M", "-l", size)
    took = time.monotonic() - began
    shares = [100 * (now - then) / took for now, then in zip(end_seconds(running), before, strict=True)]
    got = report["end"]["sum"]
    return {
        "offered_end_percent": round(max(shares), 2),
        "offered_both_percent": round(sum(shares), 2),
        "offered_mbit": round(got["bits_per_second"] / 1e6, 1),
        "offered_lost_percent": round(got.get("lost_percent", 0.0), 3),
    }


def memory(running: Running, when: str) -> Values:
    """Return the PSS of all processes of a tunnel, both ends; nothing where there is none.

    Pages that both ends have count once, as the two are beside each other here.
    """
    pids = running.all_pids()
    return {f"pss_{when}_mb": round(pss_bytes(pids) / 1e6, 1)} if pids else {}


MEASURES: dict[str, Callable[[Lab, Running], Values]] = {
    "tcp1": lambda lab, running: tcp(lab, running, 1, lab.seconds),
    "tcp8": lambda lab, running: tcp(lab, running, 8, max(lab.seconds / 2, 1.0)),
    "udp": udp,
    "rtt": rtt,
    "socks": socks,
    "offered": offered,
}


def subjects_of(options: argparse.Namespace) -> list[tuple[Subject, tuple[str, ...]]]:
    """Return who takes part, in order, with what is measured of each.

    Raises
    ------
    LineError
        When ``--only`` names nobody.
    """
    found: list[tuple[Subject, tuple[str, ...]]] = [(Subject("direct", direct), PACKETS)]
    for paths in (1, 2):
        for overhead in (0, 10, 25):
            name = "vantun" + ("-2paths" if paths == 2 else "") + (f"-fec{overhead}" if overhead else "")
            more = ("socks",) if name == "vantun" else ()
            found.append((Subject(name, Vantun(paths, overhead, workers=options.workers), links=paths), PACKETS + more))
    found += [(Subject("vantun-latency", Vantun(workers=options.workers, more=LATENCY)), ("rtt",))]
    found += [(Subject("vantun-fec20", Vantun(1, 20, workers=options.workers)), ("offered", "tcp1"))]
    if options.wireguard_go:
        found.append((Subject("wireguard-go", WireGuard(str(options.wireguard_go.resolve()))), PACKETS))
    found += [(Subject("wireguard-go-debian", WireGuard()), PACKETS), (Subject("openvpn", OpenVpn()), PACKETS)]
    if options.hysteria:
        found.append((Subject("hysteria", Hysteria(str(options.hysteria.resolve()))), ("socks",)))
    if options.kcptun_client:
        ends = Kcptun(str(options.kcptun_client.resolve()), str(options.kcptun_server.resolve()))
        found.append((Subject("kcptun", ends), ("socks",)))
    if options.profile == "offload":
        again = ("direct", "vantun", "wireguard-go")
        found += [
            (Subject(f"{it.name}-software", it.start, profile="software"), ("tcp1",))
            for it, _ in list(found)
            if it.name in again
        ]
    names = [subject.name for subject, _ in found]
    strange = sorted(set(options.only) - set(names))
    if strange:
        raise LineError(f"there is no subject {strange[0]!r}; there are {', '.join(names)}")
    return [row for row in found if not options.only or row[0].name in options.only]


@dataclass
class Rounds:
    """What was measured: by round and subject; and what could not be, with the reason."""

    rounds: list[dict[str, Values]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    profiles: dict[str, dict[str, list[dict[str, object]]]] = field(default_factory=dict)
    """Where the workers' time went in the last transfer of one stream, by subject."""


def measures_of(subject: str, measures: tuple[str, ...], number: int) -> tuple[str, ...]:
    """Return what is measured in round ``number``: of those that no demand compares, TCP only after the first."""
    if number == 0 or subject in _EVERY_ROUND:
        return measures
    return tuple(name for name in measures if name in ("tcp1", "socks", "offered")) or measures


def run_rounds(lab: Lab, options: argparse.Namespace) -> Rounds:
    """Let every subject take its turn once in every round; a subject that fails leaves a reason, and others go on."""
    found, town = Rounds(), lab.town
    subjects = subjects_of(options)
    for number in range(options.rounds or 3):
        found.rounds.append({})
        for subject, measures in subjects:
            town.set_profile(subject.profile or options.profile)
            began = time.monotonic()
            values = _turn(lab, subject, measures_of(subject.name, measures, number), found.problems)
            if lab.profile:
                found.profiles[subject.name], lab.profile = lab.profile, {}
            found.rounds[-1][subject.name] = values
            print(f"round {number + 1} {subject.name:24}{time.monotonic() - began:6.1f} s  {brief(values)}", flush=True)
    town.set_profile(options.profile)
    return found


def _turn(lab: Lab, subject: Subject, measures: tuple[str, ...], problems: list[str]) -> Values:
    values: Values = {}
    try:
        for end in lab.ends:
            end.check()
        running = subject.start(lab.town)
        values |= memory(running, "idle")
        for name in measures:
            try:
                values |= MEASURES[name](lab, running)
            except (LineError, OSError, KeyError, ValueError) as error:
                problems.append(f"{subject.name}, {name}: {error}")
        values |= memory(running, "load")
    except (LineError, OSError) as error:
        problems.append(f"{subject.name}: {error}")
    finally:
        lab.town.end_others(lab.ends)
    return values


def brief(values: Values) -> str:
    """Return the most telling figures as a line."""
    shown = (
        ("tcp1_up_mbit", "up {:.0f}"),
        ("tcp1_down_mbit", "down {:.0f} Mbit/s"),
        ("tcp1_up_cpu", "{:.3f} CPU s/Gbit"),
        ("udp64_kpps", "64 B {:.0f} kpps"),
        ("rtt_idle_p50_us", "RTT {:.0f} us"),
        ("socks_up_mbit", "SOCKS {:.0f} Mbit/s"),
        ("offered_end_percent", "{:.1f} % of a core at 100 Mbit/s"),
    )
    return ", ".join(form.format(values[name]) for name, form in shown if name in values) or "nothing measured"
