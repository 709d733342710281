"""What the demo plays: two paths, three phases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vantun.lab.link import LinkProfile

DOWN = 50_000_000
"""Bytes of the download; the upload has half of it. The whole demo took 30 to 45 s with it, on 2 cores."""


@dataclass(frozen=True)
class Path:
    """One emulated path, the same in both directions. The queue holds one bandwidth-delay product."""

    name: str
    rtt: float
    """Seconds."""
    loss: float
    burst: float = 0.0
    """Mean length of a loss burst in packets; 0 = independent losses."""
    rate: float = 100e6
    """Bit/s of Ethernet frames."""

    def profile(self) -> LinkProfile:
        """Return the link of either direction."""
        from vantun.lab.link import LinkProfile

        return LinkProfile(
            rate=self.rate,
            delay=self.rtt / 2,
            loss=self.loss,
            burst=self.burst,
            queue_bytes=int(self.rate * self.rtt / 8),
        )

    def __str__(self) -> str:
        losses = f"in bursts of {self.burst:g} packets" if self.burst else "at random"
        return f"{self.name}: {self.rate / 1e6:.0f} Mbit/s, {self.rtt * 1e3:.0f} ms RTT, {self.loss:.0%} lost {losses}"


@dataclass(frozen=True)
class Phase:
    """One part of the demo: with or without parity, and a path that is cut when half of the download is there."""

    name: str
    fec: bool
    cut: str = ""
    """Name of the path; empty = none."""


PATHS = (Path("A", 0.040, 0.05), Path("B", 0.070, 0.03, burst=3.0))
PHASES = (Phase("FEC off", fec=False), Phase("FEC on", fec=True), Phase("FEC on, A cut", fec=True, cut="A"))


@dataclass(frozen=True)
class Settings:
    """What the user chose. Sizes in bytes."""

    down: int = DOWN
    up: int = DOWN // 2
    seed: int = 1
    paths: tuple[Path, ...] = PATHS
    phases: tuple[Phase, ...] = PHASES
