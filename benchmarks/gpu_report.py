"""What benchmarks/gpu.py has found: the table of targets, Markdown, and a picture. An emulator reaches no target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accel.bench import plot
from benchmarks.gpu_rates import Rates, Roofline
from benchmarks.gpu_work import ENCODE, SEAL, WORKS, EndToEnd, OnDevice, Work

REACHED, MISSED, NOT_MEASURED = "reached", "missed", "not measured"
LATENCY_BATCH = 64
MOST_LATENCY = 150e-6
"""Seconds, median."""
_OF_ROOFLINE = {"encode (10,4)": 0.8, "encode (32,8)": 0.7, "encode (128,16)": 0.6, "decode (10,4)": 0.5}
_OF_SUITE, _OF_BUS = 0.5, 0.8
SERVED_PACKETS = 65_536
"""Packets of the batch that the targets of encryption are for."""


@dataclass(frozen=True)
class Crossing:
    """Where a device begins to beat one core.

    Attributes
    ----------
    against
        The best engine of this CPU.
    batch
        The smallest batch from which on it is faster at every larger one that was measured; None = at none.
    largest
        That was measured.
    best
        Times as fast, at best.
    """

    work: str
    against: str
    batch: int | None
    largest: int
    best: float


@dataclass(frozen=True)
class Cores:
    """Cores that driving the device frees: of the best CPU engine at the device's rate, less what driving it takes."""

    work: str
    batch: int
    against: str
    freed: float
    driving: float


@dataclass
class Found:
    """Everything that was measured.

    Attributes
    ----------
    device
        As it calls itself.
    emulated
        Whether it is a processor in disguise.
    permute
        Whether the general kernel of code 1 goes by byte permutations.
    failed
        What could not be measured, and why.
    latency
        Median and 99th percentile of LATENCY_BATCH spans of (10,4), seconds, through the GPU service.
    alone
        The same of the engine in this process.
    """

    engine: str
    device: str
    emulated: bool
    permute: bool
    rates: Rates
    on_device: list[OnDevice] = field(default_factory=list)
    end_to_end: list[EndToEnd] = field(default_factory=list)
    latency: tuple[float, float] | None = None
    alone: tuple[float, float] | None = None
    crossings: list[Crossing] = field(default_factory=list)
    cores: list[Cores] = field(default_factory=list)
    no_energy: str = ""
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Its name in every output."""
        return f"{self.device}, engine {self.engine}" + (" (EMULATOR: says nothing of a GPU)" if self.emulated else "")

    def roofline(self, work: Work) -> Roofline:
        """Return what the device could do at most."""
        return work.roofline(self.rates, permute=self.permute)


@dataclass(frozen=True)
class Target:
    """A line of the issue's table."""

    measure: str
    at_least: str
    measured: str
    verdict: str

    def row(self) -> str:
        """Return it as a row of Markdown."""
        return f"| {self.measure} | {self.at_least} | {self.measured} | {self.verdict} |"


def share_of(work: Work) -> float:
    """Return the share of its roofline that is demanded."""
    return _OF_ROOFLINE.get(work.name, _OF_SUITE)


def targets(found: Found) -> list[Target]:
    """Return every target, with what was measured."""
    lines = []
    for work in WORKS:
        share = share_of(work)
        roof = found.roofline(work)
        best = max(_candidates(found, work), key=lambda each: each.rate, default=None)
        text = "" if best is None else f"{best.rate / roof.least:.0%} ({best.rate / 1e9:.1f} GB/s, {best.batch} rows)"
        value = None if best is None else best.rate / roof.least
        measure = f"{work.name}, in device memory"
        lines.append(
            _target(found, measure, f"{share:.0%} of the {roof.bound} roofline", text, value and value / share)
        )
    for work in (Work(ENCODE), *(each for each in WORKS if each.operation is SEAL)):
        ends = [each for each in found.end_to_end if each.work == work.name]
        shares = [used for each in ends if (used := each.of_bus(found.rates)) is not None]
        text = f"{max(shares):.0%}" if shares else "no bus: one memory for both sides" if ends else ""
        of_bus = max(shares) / _OF_BUS if shares else None
        lines.append(_target(found, f"{work.name}, from host memory", f"{_OF_BUS:.0%} of the bus", text, of_bus))
    p50 = None if found.latency is None else found.latency[0]
    measure, at_most = f"latency of {LATENCY_BATCH} spans of (10,4)", f"{1e6 * MOST_LATENCY:.0f} us or less"
    quick = p50 and MOST_LATENCY / p50
    lines.append(_target(found, f"{measure}, through the service", at_most, _times(found.latency), quick))
    lines.append(Target(f"{measure}, without a service", "reported", _times(found.alone) or "-", ""))
    for each in found.crossings:
        text = f"{each.batch} spans" if each.batch else f"at none up to {each.largest}; at best {each.best:.2f} times"
        lines.append(Target(f"{each.work}: smallest batch at which it beats {each.against}", "reported", text, ""))
    return lines


def _times(latency: tuple[float, float] | None) -> str:
    return "" if latency is None else f"p50 {1e6 * latency[0]:.0f} us, p99 {1e6 * latency[1]:.0f} us"


def _candidates(found: Found, work: Work) -> list[OnDevice]:
    every = [each for each in found.on_device if each.work == work.name]
    return every if work.is_fec else [each for each in every if each.batch == SERVED_PACKETS]


def _target(found: Found, measure: str, at_least: str, measured: str, share: float | None) -> Target:
    """Judge a line; ``share`` = measured over demanded, None without a figure."""
    if share is None:
        return Target(measure, at_least, measured or "-", NOT_MEASURED)
    verdict = "emulator" if found.emulated else REACHED if share >= 1 else MISSED
    return Target(measure, at_least, measured, verdict)


def markdown(found: Found, facts: Mapping[str, Any]) -> str:
    """Return everything as Markdown."""
    rates, out = found.rates, []
    out += [f"# {found.title}", ""]
    keys = ("cpu", "kernel", "commit", "date", "load_before")
    out += [", ".join(f"{key} {facts[key]}" for key in keys if key in facts), ""]
    if found.emulated:
        warning = "**An emulator: these figures show that the benchmark works, and nothing else.**"
        out += [f"{warning} Its ALU roofline is no bound: a compiler makes vectors of one kernel, not of another.", ""]
    bus = f"{rates.inward / 1e9:.2f} GB/s in, {rates.outward / 1e9:.2f} GB/s out" if rates.inward else "none"
    out += [
        f"Measured in this run: copies within its memory {rates.memory / 1e9:.1f} GB/s (read and written), bus {bus}, "
        f"{rates.logic / 1e9:.1f} G logic instructions/s.",
        "",
        "| demanded | at least | measured | |",
        "|---|---|---|---|",
        *(target.row() for target in targets(found)),
        "",
    ]
    return "\n".join(out + _device_table(found) + _host_table(found) + _rest(found))


def _device_table(found: Found) -> list[str]:
    head = [
        "## In device memory",
        "",
        "| work | batch | GB/s of data | of copying | memory roofline | ALU roofline | of the lower | J/GB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows = []
    for work in WORKS:
        roof = found.roofline(work)
        for each in found.on_device:
            if each.work == work.name:
                joules = "-" if each.joules is None else f"{1e9 * each.joules / each.octets:.2f}"
                rows.append(
                    f"| {work.name} | {each.batch} | {each.rate / 1e9:.2f} | {each.rate / found.rates.memory:.0%} | "
                    f"{roof.memory / 1e9:.1f} | {roof.logic / 1e9:.1f} | {each.rate / roof.least:.0%} | {joules} |"
                )
    energy = [f"No energy: {found.no_energy}.", ""] if found.no_energy else []
    return [*head, *rows, "", *energy]


def _host_table(found: Found) -> list[str]:
    head = [
        "## From host memory",
        "",
        "| work | batch | GB/s of data | of the bus | us a batch | CPU us a batch |",
        "|---|---|---|---|---|---|",
    ]
    rows = []
    for each in found.end_to_end:
        share = each.of_bus(found.rates)
        bus = "-" if share is None else f"{share:.0%}"
        times = f"{1e6 * each.seconds:.0f} | {1e6 * each.cpu_seconds:.0f}"
        rows.append(f"| {each.work} | {each.batch} | {each.rate / 1e9:.2f} | {bus} | {times} |")
    return [*head, *rows, ""]


def _rest(found: Found) -> list[str]:
    lines = [
        f"- {each.work}, batches of {each.batch}: {each.freed:+.2f} cores freed, against {each.against}; "
        f"driving it takes {each.driving:.2f}, waiting for it included."
        for each in found.cores
    ]
    lines += [f"- not measured: {what}: {why}" for what, why in found.failed.items()]
    return [*lines, ""] if lines else []


def draw(found: Found, path: Path) -> None:
    """Write a picture of GB/s over batch sizes: in device memory with its roofline, and from host memory.

    Raises
    ------
    ValueError, UnavailableError
        As :func:`accel.bench.plot.check`.
    """
    plot.check(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.8, 4.6), layout="constrained")
    sides: Sequence[tuple[str, Sequence[OnDevice | EndToEnd]]] = (
        ("in device memory; dashed: the lower roofline", found.on_device),
        ("from host memory", found.end_to_end),
    )
    for place, (title, points) in enumerate(sides, 1):
        axes = figure.add_subplot(1, 2, place)
        for number, work in enumerate(WORKS):
            mine = [each for each in points if each.work == work.name]
            if not mine:
                continue
            color = f"C{number}"
            batches, rates = [each.batch for each in mine], [each.rate / 1e9 for each in mine]
            axes.plot(batches, rates, "o-", color=color, label=work.name)
            if place == 1:
                axes.axhline(found.roofline(work).least / 1e9, linestyle="--", linewidth=0.8, color=color)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("rows in a batch")
        axes.set_ylabel("GB/s of data")
        axes.set_title(title)
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.legend(fontsize="small")
    figure.suptitle(found.title)
    figure.savefig(path)
