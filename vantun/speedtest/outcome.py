"""What a speed test has found until now: it is filled while the test runs, so that it can be shown at any moment."""

from __future__ import annotations

from dataclasses import dataclass, field

from vantun.speedtest.account import percentile
from vantun.speedtest.messages import Receipt


@dataclass
class Exchanges:
    """Times of small exchanges with the server, in seconds.

    Attributes
    ----------
    waiting
        How long the last one has been without an answer at the end; 0 = there is none such.
    """

    times: list[float] = field(default_factory=list)
    waiting: float = 0.0

    def document(self) -> dict[str, object]:
        """Return count, p50 and p99 in milliseconds; None where there were none.

        One that has waited in vain for longer than any other took is one of them: else the worst would not be seen.
        """
        times = [*self.times, self.waiting] if self.waiting > max(self.times, default=0.0) else self.times
        p50, p99 = (percentile(times, share) for share in (0.5, 0.99))
        return {"count": len(self.times), "p50_ms": _milliseconds(p50), "p99_ms": _milliseconds(p99)}


@dataclass
class Streams:
    """One direction of streams, counted where they arrive.

    Attributes
    ----------
    seconds
        In which the bytes arrived, all streams together.
    """

    octets: int = 0
    seconds: float = 0.0
    loaded: Exchanges = field(default_factory=Exchanges)

    def document(self) -> dict[str, object]:
        """Return it for JSON."""
        return {
            "bits_per_second": round(8 * self.octets / self.seconds) if self.seconds > 0 else None,
            "bytes": self.octets,
            "seconds": round(self.seconds, 6),
            "exchanges": self.loaded.document(),
        }


@dataclass
class Datagrams:
    """One direction of datagrams, counted where they arrive.

    Attributes
    ----------
    receipt
        None = the receiver has said nothing yet.
    """

    sent: int = 0
    receipt: Receipt | None = None
    loaded: Exchanges = field(default_factory=Exchanges)

    @property
    def lost(self) -> int | None:
        """Datagrams that have not arrived."""
        return None if self.receipt is None else max(0, self.sent - self.receipt.received)

    def document(self) -> dict[str, object]:
        """Return it for JSON; what is not known is None."""
        found = self.receipt or Receipt()
        known = self.receipt is not None
        seconds = (found.last - found.first) / 1e6
        return {
            "sent": self.sent,
            "received": found.received if known else None,
            "lost": self.lost,
            "loss": self.lost / self.sent if self.lost is not None and self.sent else None,
            "late": found.late if known else None,
            "duplicated": found.duplicated if known else None,
            "reordered": found.reordered if known else None,
            "jitter_ms": found.jitter / 1e3 if known else None,
            "bits_per_second": round(8 * found.octets / seconds) if seconds > 0 else None,
            "exchanges": self.loaded.document(),
        }


@dataclass
class Outcome:
    """A whole test; a direction that was not begun is None."""

    idle: Exchanges = field(default_factory=Exchanges)
    download: Streams | Datagrams | None = None
    upload: Streams | Datagrams | None = None
    error: str = ""
    """Why it was broken off."""
    interrupted: bool = False

    def document(self) -> dict[str, object]:
        """Return it for JSON."""
        return {
            "idle": self.idle.document(),
            "download": self.download.document() if self.download is not None else None,
            "upload": self.upload.document() if self.upload is not None else None,
            "interrupted": self.interrupted,
            "error": self.error or None,
        }


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 3)
