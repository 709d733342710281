"""Correctness under speed: full rate, 2 % loss, workers killed again and again, and what must hold meanwhile.

Offloads of the link are off, so that each packet is lost by itself; FEC is on; iperf3 runs both ways through the TUN. A
worker is killed (SIGKILL) every 20 s, of the server and of the client in turn, as soon as its successor is ready.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.line_bpf import Loss
from benchmarks.line_capture import SAMPLE, Capture
from benchmarks.line_measure import PORT, parse_report, pss_bytes, start_iperf
from benchmarks.line_stages import worker_pids
from benchmarks.line_subjects import Running, Vantun
from benchmarks.line_town import LineError, Town

LOSS = 0.02
KILL_EVERY = 20.0
_LOOK_EVERY = 0.5
_GROWTH = 0.05
"""How much more memory the second half may hold than the first."""
_UNTOLD = 1e-4
"""Share of packets that may be uncounted: those on the way while two statuses are read one after the other."""
_ROLES = {"a": "client", "b": "server"}


def falls(last: Mapping[str, float], now: Mapping[str, float]) -> list[str]:
    """Return the counters that are lower than before."""
    return [f"{name}: {last[name]:g}, then {value:g}" for name, value in now.items() if value < last.get(name, value)]


def counters(status: Mapping[str, Any]) -> dict[str, float]:
    """Return what may only grow while a worker lives: of lanes, channels, stages and drops."""
    found: dict[str, float] = {}
    kinds = {
        "lanes": (("session", "path"), ("sent", "sent_bytes", "received", "received_bytes", "acked", "bad_tags")),
        "channels": (("session", "class"), ("shards", "bytes", "parity", "resent", "rx_shards", "rx_recovered")),
        "stages": (("name",), ("calls", "packets", "bytes", "ns")),
    }
    for kind, (keys, names) in kinds.items():
        for row in status.get(kind) or ():
            whose = " ".join(str(row.get(key)) for key in keys)
            for name in names:
                place = f"{kind} {whose} {name}"
                found[place] = found.get(place, 0.0) + float(row.get(name, 0))
    for name, value in (status.get("drops") or {}).items():
        found[f"drops {name}"] = float(value)
    return found


def numbers(status: Mapping[str, Any]) -> dict[str, float]:
    """Return the next packet number of every lane: it never falls, whichever worker it is that tells it."""
    rows = status.get("lanes") or ()
    return {f"{row['session']} {row['path']} {row.get('worker', row.get('slice', 0))}": row["next_pn"] for row in rows}


def bad(status: Mapping[str, Any]) -> int:
    """Return the packets whose authentication has failed."""
    lanes = sum(int(row.get("bad_tags", 0)) for row in status.get("lanes") or ())
    return lanes + int((status.get("drops") or {}).get("bad", 0))


@dataclass
class Watch:
    """What is seen of both ends, again and again, in a thread; a context manager."""

    running: Running
    number_falls: list[str] = field(default_factory=list)
    counter_falls: list[str] = field(default_factory=list)
    bad_tags: int = 0
    memory: list[tuple[float, int]] = field(default_factory=list)
    looks: int = 0

    def __post_init__(self) -> None:
        self._numbers: dict[str, dict[str, float]] = {side: {} for side in _ROLES}
        self._counters: dict[str, tuple[list[int], dict[str, float]]] = {side: ([], {}) for side in _ROLES}
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ends.wait(_LOOK_EVERY):
            for side in _ROLES:
                status = self.running.status(side)
                if status.get("lanes"):
                    self.see(side, status)
            self.memory.append((time.monotonic(), pss_bytes(self.running.all_pids())))

    def see(self, side: str, status: Mapping[str, Any]) -> None:
        """Compare a status with those before."""
        self.looks += 1
        told = numbers(status)
        self.number_falls += [f"{_ROLES[side]} {it}" for it in falls(self._numbers[side], told)]
        self._numbers[side] |= told
        workers, counted = worker_pids(status), counters(status)
        before, last = self._counters[side]
        if workers == before:
            self.counter_falls += [f"{_ROLES[side]} {it}" for it in falls(last, counted)]
        self._counters[side] = workers, counted
        self.bad_tags = max(self.bad_tags, bad(status))


def growth(samples: list[int]) -> float:
    """Return how much more, as a share, the largest of the second half is than the largest of the first."""
    half = len(samples) // 2
    return max(samples[half:]) / max(samples[:half]) - 1.0 if half else 0.0


def gaps(report: Mapping[str, Any]) -> tuple[int, bool]:
    """Return the seconds in which iperf3 moved nothing, and whether it moved something in the last three."""
    moved = [interval["sum"]["bytes"] for interval in report.get("intervals") or ()]
    return sum(not size for size in moved), any(moved[-3:])


def untold(before: Mapping[str, Any], after: Mapping[str, Any], kernel_dropped: int, lost: int) -> float:
    """Return the share of packets between two quiet moments that no counter tells.

    ``before`` and ``after`` have the lanes' ``sent`` of one end and ``received`` of the other; what was neither is in
    the drops of the receiving worker, in those of its socket (``kernel_dropped``) or of the link (``lost``).
    """
    sent = after["sent"] - before["sent"]
    told = after["received"] - before["received"] + after["drops"] - before["drops"] + kernel_dropped + lost
    return abs(sent - told) / sent if sent else 0.0


def soak(town: Town, seconds: float, workers: int = 0) -> dict[str, Any]:
    """Run for ``seconds`` and return what was seen; ``failed`` names the checks that failed.

    Each end has ``workers`` data workers, 0 = its own choice.

    Raises
    ------
    LineError
        When the laboratory itself fails.
    """
    town.offloads(0, on=False)
    start_iperf(town)
    subject = Vantun(standby=True, workers=workers, more={"fec": {"mode": "on"}})
    running = subject(town)
    with Loss(town, "b", LOSS) as up, Loss(town, "a", LOSS) as down, Capture(town, "b", 443) as capture:
        with Watch(running) as watch:
            command = ["iperf3", "-J", "-c", running.target, "-p", str(PORT), "-t", f"{seconds:.0f}", "--bidir"]
            iperf = town.spawn("a", *command, name="iperf3-soak")
            killed = _kill_in_turn(running, iperf, seconds)
            iperf.process.wait(120.0)
            report = parse_report(iperf.log.read_text(encoding="utf-8"))
        conserved = _conservation(town, running, (up, down))
        counts = {"up": up.counts(), "down": down.counts()}
        missed = capture.missed()
    return judge(watch, capture, report, killed, {"conserved": conserved, "counts": counts, "missed": missed})


def _kill_in_turn(running: Running, iperf: Any, seconds: float) -> list[dict[str, Any]]:
    """Kill a worker every KILL_EVERY seconds until the end is near; return what became of each end."""
    began = time.monotonic()
    killed: list[dict[str, Any]] = []
    due = KILL_EVERY / 2
    while due < seconds - 5.0 and iperf.process.poll() is None:
        time.sleep(max(began + due - time.monotonic(), 0.0))
        side = "ba"[len(killed) % 2]
        _standby(running, side)
        victims = worker_pids(running.status(side))
        if not victims:
            raise LineError(f"the {_ROLES[side]} tells no worker in its status")
        victim = victims[len(killed) // 2 % len(victims)]
        os.kill(victim, signal.SIGKILL)
        at = time.monotonic()
        while not (now := worker_pids(running.status(side))) or victim in now:
            if time.monotonic() > at + 30.0:
                raise LineError(f"no worker has taken over from {victim} of the {_ROLES[side]} within 30 s")
            time.sleep(0.02)
        killed.append({"role": _ROLES[side], "at_s": round(at - began, 1), "back_s": round(time.monotonic() - at, 2)})
        print(
            f"{at - began:5.0f} s: a worker of the {_ROLES[side]} was killed, and replaced in {killed[-1]['back_s']} s"
        )
        due = at - began + KILL_EVERY  # a machine that stood still does not make up for what it missed
    return killed


def _standby(running: Running, side: str) -> None:
    """Wait until a worker of one side has a successor that is ready."""
    end = time.monotonic() + 60.0
    while '"standby": "ready"' not in json.dumps(running.status(side).get("workers")):
        if time.monotonic() > end:
            raise LineError(f"no standby worker of the {_ROLES[side]} within 60 s")
        time.sleep(0.05)


def _conservation(town: Town, running: Running, links: tuple[Loss, Loss]) -> dict[str, float]:
    """Send at full rate once more, undisturbed; return the share of packets that no counter tells, by direction."""
    before, lost = _quiet(running), [loss.counts()[1] for loss in links]
    options = ["-J", "-c", running.target, "-p", str(PORT), "-t", "3", "--bidir"]
    town.run("a", "iperf3", *options, seconds=60.0)
    after = _quiet(running)
    found = {}
    for place, (name, source, sink) in enumerate((("up", "a", "b"), ("down", "b", "a"))):
        then, now = (
            {"sent": it[source]["sent"], **{k: it[sink][k] for k in ("received", "drops")}} for it in (before, after)
        )
        kernel = int(after[sink]["kernel"] - before[sink]["kernel"])
        found[name] = round(untold(then, now, kernel, links[place].counts()[1] - lost[place]), 6)
    return found


def _quiet(running: Running) -> dict[str, dict[str, float]]:
    """Return what both ends have counted, once nothing moves any more."""
    time.sleep(1.5)
    found = {}
    for side in _ROLES:
        status = running.status(side)
        lanes, drops = status.get("lanes") or [], status.get("drops") or {}
        found[side] = {
            "sent": float(sum(row["sent"] for row in lanes)),
            "received": float(sum(row["received"] for row in lanes)),
            "drops": float(drops.get("unknown", 0) + drops.get("bad", 0) + drops.get("replay", 0)),
            "kernel": float(sum(row.get("kernel_dropped") or 0 for row in status.get("udp") or ())),
        }
    return found


def judge(
    watch: Watch, capture: Capture, report: Mapping[str, Any], killed: list[dict[str, Any]], rest: dict[str, Any]
) -> dict[str, Any]:
    """Return everything that was seen, and which checks have failed."""
    silent, goes_on = gaps(report)
    more = growth([size for _, size in watch.memory[4:]])
    checks = {
        "iperf3 goes on": goes_on and not report.get("error"),
        "a worker was killed": bool(killed),
        "memory is flat": more <= _GROWTH,
        "no packet number repeats": capture.repeated == 0 and capture.seen > 1000 and not watch.number_falls,
        "no counter is lost": not watch.counter_falls and max(rest["conserved"].values()) <= _UNTOLD,
        "no bad tags": watch.bad_tags == 0,
        "packets were lost": all(dropped for _, dropped in rest["counts"].values()),
    }
    end = report.get("end") or {}
    return {
        "failed": [name for name, held in checks.items() if not held],
        "checks": checks,
        "killed": killed,
        "iperf3": {
            "error": str(report.get("error", "")),
            "up_mbit": round(end.get("sum_received", {}).get("bits_per_second", 0.0) / 1e6, 1),
            "down_mbit": round(end.get("sum_received_bidir_reverse", {}).get("bits_per_second", 0.0) / 1e6, 1),
            "silent_seconds": silent,
        },
        "memory_growth": round(more, 4),
        "memory_mb": [round(size / 1e6, 1) for _, size in watch.memory[:: max(len(watch.memory) // 30, 1)]],
        "packets_sampled": capture.seen,
        "sample": f"1 in {SAMPLE}",
        "sample_missed": rest["missed"],
        "repeated": capture.repeated,
        "number_falls": watch.number_falls[:10],
        "counter_falls": watch.counter_falls[:10],
        "untold_share": rest["conserved"],
        "bad_tags": watch.bad_tags,
        "looks": watch.looks,
        "loss": {
            way: {"packets": seen, "dropped": dropped, "share": round(dropped / seen, 5) if seen else 0.0}
            for way, (seen, dropped) in rest["counts"].items()
        },
    }
