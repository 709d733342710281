"""Whether a stranger's first packet gets a connection: decided before anything is allocated for it. Sans-IO; seconds.

A source address is proven by a Retry token (RFC 9000, section 8.1.2) or by a complete handshake. Limits that count per
source are kept against proven sources only: whoever forges another's address can make it do one more round trip, but
cannot use up its share. So each limit on unproven connections is answered by a Retry, which costs no memory.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from dataclasses import dataclass
from enum import Enum

from vantun.control.recent import Bucket, Recent


@dataclass(frozen=True)
class Limits:
    """Bounds of one server."""

    connections: int = 4096
    per_source: int = 128
    """Connections of one IPv4 address, or of one IPv6 network of 64 bits."""
    half_open: int = 512
    """Unfinished handshakes of proven addresses."""
    half_open_per_source: int = 64
    unproven: int = 64
    """Unfinished handshakes of addresses that are not proven, beyond which they are proven first."""
    unproven_per_source: int = 32
    unproven_rate: float = 50.0
    """Handshakes that begin unproven, per second; each costs some milliseconds."""
    source_rate: float = 10.0
    """Handshakes of a proven source, per second."""
    source_burst: float = 64.0
    retry_rate: float = 2000.0
    """Retry packets, per second."""
    remembered: int = 4096
    """Sources whose rate is remembered."""


class Decision(Enum):
    """What to do with a first packet."""

    ADMIT = "admitted"
    RETRY = "retried"
    DROP = "dropped"


class Admission:
    """Counts connections by source and state.

    Attributes
    ----------
    counts
        Decisions so far: ``admitted``, ``retried``, and what was dropped by reason: ``full``, ``half_open``,
        ``per_source``, ``rate``, ``token``, ``retry_rate``.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        reasons = ("admitted", "retried", "full", "half_open", "per_source", "rate", "token", "retry_rate")
        self.counts = dict.fromkeys(reasons, 0)
        self._connections = 0
        self._proven: Counter[str] = Counter()
        self._open_proven: Counter[str] = Counter()
        self._open_unproven: Counter[str] = Counter()
        self._rates: Recent[str, Bucket] = Recent(self.limits.remembered, Bucket)
        self._unproven_rate = Bucket()
        self._retries = Bucket()

    @property
    def half_open(self) -> int:
        """Unfinished handshakes."""
        return self._open_proven.total() + self._open_unproven.total()

    def judge(self, source: str, now: float, *, proven: bool) -> Decision:
        """Return what to do with a first packet; if it is admitted, :meth:`begin` has to follow."""
        limits = self.limits
        if self._connections >= limits.connections:
            return self._drop("full")
        if not proven:
            return self._judge_unproven(source, now)
        if self._open_proven.total() >= limits.half_open or self._open_proven[source] >= limits.half_open_per_source:
            return self._drop("half_open")
        if self._proven[source] + self._open_proven[source] >= limits.per_source:
            return self._drop("per_source")
        if not self._rates.get(source).take(now, limits.source_rate, limits.source_burst):
            return self._drop("rate")
        self.counts["admitted"] += 1
        return Decision.ADMIT

    def _judge_unproven(self, source: str, now: float) -> Decision:
        limits = self.limits
        rate = self._rates.peek(source)
        if (
            self._open_unproven.total() >= limits.unproven
            or self._open_unproven[source] >= limits.unproven_per_source
            or self._proven[source] + self._open_unproven[source] >= limits.per_source
            or (rate is not None and 0 <= rate.level < 1.0)
            or not self._unproven_rate.take(now, limits.unproven_rate, 2.0 * limits.unproven)
        ):
            if not self._retries.take(now, limits.retry_rate, limits.retry_rate):
                return self._drop("retry_rate")
            self.counts["retried"] += 1
            return Decision.RETRY
        self.counts["admitted"] += 1
        return Decision.ADMIT

    def _drop(self, reason: str) -> Decision:
        self.counts[reason] += 1
        return Decision.DROP

    def bad_token(self) -> None:
        """Count a packet whose Retry token is none of ours, or too old."""
        self.counts["token"] += 1

    def begin(self, source: str, *, proven: bool) -> None:
        """Count a connection whose handshake begins."""
        self._connections += 1
        (self._open_proven if proven else self._open_unproven)[source] += 1

    def complete(self, source: str, *, proven: bool) -> None:
        """Count a connection whose handshake is complete: its source is proven in any case."""
        _less(self._open_proven if proven else self._open_unproven, source)
        self._proven[source] += 1

    def end(self, source: str, *, proven: bool, complete: bool) -> None:
        """Count a connection that has ended."""
        self._connections -= 1
        if complete:
            _less(self._proven, source)
        else:
            _less(self._open_proven if proven else self._open_unproven, source)

    def report(self) -> dict[str, object]:
        """Return the section ``admission`` of the status."""
        return {
            "connections": self._connections,
            "half_open": self.half_open,
            "sources": len(self._proven),
            "admitted": self.counts["admitted"],
            "retried": self.counts["retried"],
            "dropped": {name: count for name, count in self.counts.items() if name not in ("admitted", "retried")},
        }


def _less(counter: Counter[str], source: str) -> None:
    counter[source] -= 1
    if counter[source] <= 0:
        del counter[source]


def source_of(host: str) -> str:
    """Return what an address is counted under: an IPv4 address, or the first 64 bits of an IPv6 address."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.version == 4:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
