"""One phase: start everything, load it, cut what is to be cut, and collect the figures."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from vantun.demo.appliances import Appliances, Workplace
from vantun.demo.load import REQUEST, Download, Requests, Route, Transfer, Upload
from vantun.demo.machine import cpu_seconds
from vantun.demo.origin import OriginProcess
from vantun.demo.scene import Phase, Settings
from vantun.demo.statistics import longest_silence, percentile
from vantun.lab.ceiling import ceiling
from vantun.lab.link import FRAME_OVERHEAD
from vantun.lab.relay import Relay

TICK = 0.1
"""Seconds between two looks at what has been moved."""
_LOOK = 0.005
"""The same while a cut is due."""


@dataclass(frozen=True)
class Progress:
    """What a phase is at."""

    phase: str
    doing: str
    down: float = 0.0
    """Fraction that has arrived."""
    up: float = 0.0
    down_rate: float = 0.0
    """Bit/s since the start of the transfer."""
    up_rate: float = 0.0
    latency: float | None = None
    """Of the last small request, seconds."""


@dataclass
class TransferFigures:
    """One bulk transfer. Bit/s, bytes, seconds."""

    bytes: int
    seconds: float
    goodput_bps: float | None
    ceiling_bps: float
    sha256: str
    expected_sha256: str
    error: str

    @property
    def intact(self) -> bool:
        """Whether everything arrived as it was sent."""
        return not self.error and self.sha256 == self.expected_sha256

    @property
    def share(self) -> float | None:
        """Goodput as a fraction of the ceiling."""
        return self.goodput_bps / self.ceiling_bps if self.goodput_bps else None


@dataclass
class PhaseFigures:
    """Everything that was seen of a phase; JSON-able."""

    name: str
    fec: bool
    start_seconds: float
    """From nothing to both paths up."""
    download: TransferFigures
    upload: TransferFigures
    requests: dict[str, Any]
    shards: dict[str, int]
    wire_bytes: int
    """Ethernet frames that both ends sent, both directions, from the load's start to its end."""
    delivered_bytes: int
    cut: str
    """Name of the path that was to be cut; empty = none."""
    failover: dict[str, float | None]
    """Longest silence after the cut, seconds; None when nothing was cut."""
    relay: dict[str, Any]
    engines: dict[str, Any]
    status: dict[str, Any] = field(default_factory=dict)
    cpu_busy: float | None = None
    """Fraction of all cores in use while the load ran, by whomever: at 1 the machine was the limit, not the paths."""

    @property
    def overhead(self) -> float | None:
        """Bytes sent on the wire for each byte delivered."""
        return self.wire_bytes / self.delivered_bytes if self.delivered_bytes else None


@dataclass
class _Cut:
    """When a path was cut; ``time.monotonic()``, 0 = not."""

    path: str = ""
    time: float = 0.0


class PhaseRun:
    """Runs one phase. :meth:`play` is a generator, so that whoever shows the progress keeps the thread.

    Attributes
    ----------
    figures
        Set when :meth:`play` is exhausted.
    """

    def __init__(
        self, settings: Settings, phase: Phase, place: Workplace, origin: OriginProcess, upload: bytes
    ) -> None:
        self.figures: PhaseFigures | None = None
        self._settings = settings
        self._phase = phase
        self._place = place
        self._origin = origin
        self._data = upload
        self._cut = _Cut(phase.cut)

    def play(self) -> Generator[Progress, None, None]:
        """Run the phase and yield its progress; raises VantunError when a part of it cannot be started."""
        begin = time.monotonic()
        with ExitStack() as stack:
            appliances = stack.enter_context(Appliances(self._place, fec=self._phase.fec))
            appliances.start_server()  # before the emulator: both load kernels, and there are two cores
            yield Progress(self._phase.name, "starting the link emulator")
            profiles = [path.profile() for path in self._settings.paths]
            relay = stack.enter_context(Relay.start(profiles, appliances.server, self._settings.seed))
            ports = {path.name: port for path, port in zip(self._settings.paths, relay.ports, strict=True)}
            for doing in appliances.start_client(ports):
                yield Progress(self._phase.name, doing)
            route = Route(appliances.proxy, ("127.0.0.1", self._origin.port))
            started = time.monotonic() - begin
            requests = Requests(route, self._settings.seed + 2)
            requests.start()
            requests.warm.wait()
            before, cpu_before = relay.counters(), cpu_seconds()
            programs = Download("download", route, self._origin.size, self._origin.digest), Upload(route, self._data)
            for program in programs:
                program.start()
            yield from self._load(programs, requests, relay, appliances)
            requests.stop()
            requests.join()
            after, cpu_after = relay.counters(), cpu_seconds()
            status = {role: appliances.status(role) for role in ("client", "server")}
            self.figures = self._collect(programs, requests, started, (before, after), status)
            busy, passed = (late - early for early, late in zip(cpu_before, cpu_after, strict=True))
            self.figures.cpu_busy = busy / passed if passed else None
            yield replace(self._progress(programs, requests, time.monotonic()), doing="stopping")

    def _load(
        self, programs: tuple[Download, Upload], requests: Requests, relay: Relay, appliances: Appliances
    ) -> Iterator[Progress]:
        names = [path.name for path in self._settings.paths]
        download = programs[0]
        shown = 0.0
        while any(program.is_alive() for program in programs):
            if self._cut.path and not self._cut.time and download.done * 2 >= download.size:
                relay.cut(names.index(self._cut.path))
                self._cut.time = time.monotonic()
            now = time.monotonic()
            if now - shown >= TICK:
                shown = now
                appliances.check()
                yield self._progress(programs, requests, now)
            waiting = next((program for program in programs if program.is_alive()), None)
            if waiting is not None:
                waiting.join(_LOOK if self._cut.path and not self._cut.time else TICK / 2)

    def _progress(self, programs: tuple[Download, Upload], requests: Requests, now: float) -> Progress:
        down, up = [
            program.done * 8 / max(1e-3, (program.ended or now) - program.started) if program.started else 0.0
            for program in programs
        ]
        return Progress(
            self._phase.name,
            f"path {self._cut.path} is cut" if self._cut.time else "loading",
            programs[0].done / programs[0].size,
            programs[1].done / programs[1].size,
            down,
            up,
            requests.latencies[-1] if requests.latencies else None,
        )

    def _collect(
        self,
        programs: tuple[Download, Upload],
        requests: Requests,
        started: float,
        counters: tuple[dict[str, Any], dict[str, Any]],
        status: dict[str, dict[str, Any]],
    ) -> PhaseFigures:
        end = max(program.ended for program in programs)
        answered = len(requests.latencies)
        return PhaseFigures(
            name=self._phase.name,
            fec=self._phase.fec,
            start_seconds=started,
            download=self._transfer(programs[0]),
            upload=self._transfer(programs[1]),
            requests={
                "count": answered,
                "p50_s": percentile(requests.latencies, 50),
                "p99_s": percentile(requests.latencies, 99),
                "max_s": max(requests.latencies, default=None),
                "latencies_s": [round(value, 6) for value in requests.latencies],
                "error": requests.error,
            },
            shards=shards_of(status),
            wire_bytes=wire_bytes(counters[1]) - wire_bytes(counters[0]),
            delivered_bytes=sum(program.done for program in programs) + 2 * REQUEST * answered,
            cut=self._cut.path,
            failover={
                "download_s": self._silence(programs[0].times, programs[0].ended),
                "requests_s": self._silence(requests.times, end),
            },
            relay=counters[1],
            engines=dict(status["client"].get("engines") or {}),
            status=status,
        )

    def _silence(self, times: list[float], end: float) -> float | None:
        return longest_silence(times, self._cut.time, end) if self._cut.time else None

    def _transfer(self, program: Transfer) -> TransferFigures:
        seconds = program.ended - program.started
        return TransferFigures(
            bytes=program.done,
            seconds=seconds,
            goodput_bps=program.goodput,
            ceiling_bps=ceiling(
                (path.rate, path.loss, self._usable(path.name, program) if seconds > 0 else 1.0)
                for path in self._settings.paths
            ),
            sha256=program.digest,
            expected_sha256=program.expected,
            error=program.error,
        )

    def _usable(self, path: str, program: Transfer) -> float:
        """Return the share of the transfer's time in which the path was not cut."""
        if path != self._cut.path or not self._cut.time:
            return 1.0
        alive = (self._cut.time - program.started) / (program.ended - program.started)
        return min(1.0, max(0.0, alive))


def wire_bytes(counters: dict[str, Any]) -> int:
    """Return the bytes of Ethernet frames that both ends have put on the paths."""
    ways = [way for path in counters["paths"] for way in path]
    return sum(int(way["bytes_in"]) + FRAME_OVERHEAD * int(way["in"]) for way in ways)


def shards_of(status: dict[str, dict[str, Any]]) -> dict[str, int]:
    """Return what the channels of both ends counted: sent, parity, lost, recovered by parity, re-sent."""
    fields = {"sent": "shards", "parity": "parity", "lost": "lost", "recovered": "rx_recovered", "resent": "resent"}
    channels = [channel for end in status.values() for channel in end.get("channels") or []]
    return {name: sum(int(channel.get(key, 0)) for channel in channels) for name, key in fields.items()}
