"""What the line laboratory's figures must reach, and whether they do: ratios of one round, medians over rounds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Rounds = Sequence[dict[str, dict[str, float]]]
"""Figures by round, subject and measure."""
REACHED, MISSED, NOT_MEASURED = "reached", "missed", "not measured"
WAYS = ("up", "down")


@dataclass(frozen=True)
class Case:
    """One figure of a demand, from every round in which it could be formed."""

    name: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.values)


@dataclass(frozen=True)
class Demand:
    """A line of the table.

    Attributes
    ----------
    text
        As it was demanded.
    least
        Whether ``target`` is the least that is allowed; else the most.
    stretch
        What would be better still; None = nothing was named.
    unit
        ``x`` for ratios.
    why_not
        What is missing when there are no cases.
    """

    text: str
    target: float
    cases: tuple[Case, ...]
    unit: str = "x"
    least: bool = True
    stretch: float | None = None
    why_not: str = ""

    @property
    def verdict(self) -> str:
        """Whether every case reaches the target."""
        if not self.cases:
            return NOT_MEASURED
        return REACHED if all(self._reaches(case.median, self.target) for case in self.cases) else MISSED

    @property
    def gap(self) -> str:
        """By how much the worst case misses the target; empty when it does not."""
        if self.verdict != MISSED:
            return ""
        values = [case.median for case in self.cases]
        worst = min(values) if self.least else max(values)
        share = worst / self.target if self.least else self.target / worst if worst else 0.0
        return f"{1 - share:.0%} short" if self.least else f"{worst / self.target:.2f} times as much"

    def _reaches(self, value: float, target: float) -> bool:
        return value >= target if self.least else value <= target

    @property
    def stretched(self) -> bool:
        """Whether every case reaches the stretch goal, too."""
        return bool(self.cases) and self.stretch is not None and all(
            self._reaches(case.median, self.stretch) for case in self.cases
        )  # fmt: skip

    def document(self) -> dict[str, object]:
        """Return it as JSON."""
        return {
            "text": self.text,
            "target": self.target,
            "stretch": self.stretch,
            "unit": self.unit,
            "verdict": self.verdict,
            "gap": self.gap,
            "why_not": "" if self.cases else self.why_not,
            "cases": [
                {"case": case.name, "median": round(case.median, 3), "rounds": [round(it, 3) for it in case.values]}
                for case in self.cases
            ],
        }


@dataclass
class Once:
    """Figures that are measured once, outside of the rounds; NaN or empty = not measured."""

    memory: dict[str, float] = field(default_factory=dict)
    workers: dict[str, float] = field(default_factory=dict)
    profile: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    """Whose the workers' time was: by what was done, role and owner."""


def ratios(rounds: Rounds, mine: str, theirs: str, measure: str, *, inverse: bool = False) -> tuple[float, ...]:
    """Return mine / theirs (``inverse``: theirs / mine) in every round that has both, none of them 0."""
    found = []
    for each in rounds:
        one, other = each.get(mine, {}).get(measure, 0.0), each.get(theirs, {}).get(measure, 0.0)
        if one > 0 and other > 0:
            found.append(other / one if inverse else one / other)
    return tuple(found)


def values(rounds: Rounds, subject: str, measure: str) -> tuple[float, ...]:
    """Return a figure of every round that has it."""
    return tuple(each[subject][measure] for each in rounds if measure in each.get(subject, {}))


def added(rounds: Rounds, mine: str, theirs: str) -> tuple[float, ...]:
    """Return the idle round-trip time that mine adds to the bare link, over what theirs adds, by round."""
    found = []
    for each in rounds:
        times = [each.get(name, {}).get("rtt_idle_p50_us", 0.0) for name in (mine, theirs, "direct")]
        if all(times) and times[1] > times[2]:
            found.append((times[0] - times[2]) / (times[1] - times[2]))
    return tuple(found)


def _cases(*named: tuple[str, tuple[float, ...]]) -> tuple[Case, ...]:
    return tuple(Case(name, found) for name, found in named if found)


def _both_ways(form: Callable[[str], tuple[float, ...]]) -> tuple[Case, ...]:
    return _cases(*((way, form(way)) for way in WAYS))


def _rate(rounds: Rounds, mine: str, theirs: str) -> tuple[Case, ...]:
    return _both_ways(lambda way: ratios(rounds, mine, theirs, f"tcp1_{way}_mbit"))


_GO = "wireguard-go"
_NEED_GO = "give --wireguard-go PATH, a binary of December 2023 or newer"


def demands(rounds: Rounds, once: Once) -> list[Demand]:
    """Return every line of the table."""
    return _throughput(rounds) + _latency_and_cost(rounds) + _once(once)


def _throughput(rounds: Rounds) -> list[Demand]:
    work = _both_ways(lambda way: ratios(rounds, "vantun", _GO, f"tcp1_{way}_cpu", inverse=True))
    hysteria = _both_ways(lambda way: ratios(rounds, "vantun", "hysteria", f"socks_{way}_mbit"))
    small = _cases(("64 B", ratios(rounds, "vantun", _GO, "udp64_kpps")))
    return [
        Demand(
            "iperf3 TCP through TUN, FEC off, vs wireguard-go with TUN and UDP GSO",
            *(2.0, _rate(rounds, "vantun", _GO)),
            stretch=3.0,
            why_not=_NEED_GO,
        ),
        Demand("the same, work per CPU second", 2.5, work, stretch=4.0, why_not=_NEED_GO),
        Demand("the same vs Debian's wireguard-go", 6.0, _rate(rounds, "vantun", "wireguard-go-debian")),
        Demand("the same vs OpenVPN", 4.0, _rate(rounds, "vantun", "openvpn")),
        Demand(
            "with 25 % FEC overhead and two paths, vs wireguard-go with GSO",
            *(1.5, _rate(rounds, "vantun-2paths-fec25", _GO)),
            stretch=2.0,
            why_not=_NEED_GO,
        ),
        Demand(
            "segmentation in software, vs the same",
            *(1.5, _rate(rounds, "vantun-software", f"{_GO}-software")),
            why_not=_NEED_GO,
        ),
        Demand("one SOCKS5 stream vs Hysteria 2", 2.0, hysteria, why_not="give --hysteria PATH"),
        Demand("64 B UDP packets per second vs wireguard-go", 2.0, small, why_not=_NEED_GO),
    ]


def _latency_and_cost(rounds: Rounds) -> list[Demand]:
    saturated = tuple(
        10.0 * it for way in WAYS for it in values(rounds, "vantun-fec20", f"tcp1_{way}_end_cpu")
    )  # CPU seconds per gigabit are tenths of a core per 100 Mbit/s
    return [
        Demand(
            "idle RTT added, goal latency, as a share of wireguard-go's",
            *(0.5, _cases(("p50", added(rounds, "vantun-latency", _GO)))),
            least=False,
            why_not=_NEED_GO,
        ),
        Demand(
            "idle RTT added, default, as a share of wireguard-go's",
            *(1.0, _cases(("p50", added(rounds, "vantun", _GO)))),
            least=False,
            why_not=_NEED_GO,
        ),
        Demand(
            "CPU at 100 Mbit/s offered with FEC 20 %, the busier end",
            *(4.0, _cases(("UDP, 1400 B", values(rounds, "vantun-fec20", "offered_end_percent")))),
            unit="% of a core",
            least=False,
        ),
        Demand(
            "CPU per 100 Mbit/s at saturation with FEC 20 %, the busier end",
            *(1.5, _cases(("TCP", saturated))),
            unit="% of a core",
            least=False,
        ),
    ]


def _once(once: Once) -> list[Demand]:
    def one(found: dict[str, float], name: str) -> tuple[Case, ...]:
        return (Case("", (found[name],)),) if name in found else ()

    python = tuple(
        Case(way, (100 * max(row["Python"] for row in roles.values()),))
        for way in WAYS
        if (roles := once.profile.get(f"TCP {way}"))
    )
    return [
        Demand(
            "Python's share of a worker's busy time at full rate, the end with more of it",
            *(5.0, python, "%"),
            least=False,
            why_not="needs perf, and a run without --only",
        ),
        Demand(
            "memory of a started server, control and one worker, PSS",
            *(72.0, one(once.memory, "server_mb"), "MB"),
            least=False,
        ),
        Demand("memory per idle path", 110.0, one(once.memory, "path_kb"), "kB", least=False),
        Demand("memory per idle flow", 4.0, one(once.memory, "flow_kb"), "kB", least=False),
        Demand(
            "two workers on two cores, loopback pipeline without the test ends, vs one",
            *(1.8, one(once.workers, "ratio")),
            why_not="needs two cores, and a run without --only",
        ),
    ]
