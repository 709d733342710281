"""Packets that ask a lane one question each: they are no load, so their loss says nothing about congestion.

They are PROBE frames, so the peer acknowledges them. They stand in the in-flight ring as ``PROBING``: not in flight
for congestion control, never declared lost, looked for by their own timers.
"""

from __future__ import annotations

import numpy as np

from drivers.kernel import kernel
from vantun.session.rate import PACKET_OVERHEAD
from vantun.session.tables import INFLIGHT, Tables
from vantun.wire.integers import int64

PROBING = 4
"""State of such a packet in the in-flight ring, beside EMPTY, IN_FLIGHT, ACKED and LOST."""
CHALLENGE, HOME, LARGE, SMALL = 0x41, 0x42, 0x43, 0x44
"""Kinds: to a new address of the peer; to the address in use, meanwhile; as long as a packet might be; as short."""

FIRST_TIMEOUT = 0.15
_LEAST_VARIATION = 0.001


@kernel
def register_probe(t: Tables, lane: int, kind: int, size: int) -> int:
    """Enter a probe of ``size`` UDP payload bytes; return its packet number. It is paced like everything else."""
    record = t.lane[lane]
    number = record.next_pn
    record.next_pn += 1
    record.late_till = record.next_pn
    entry = t.inflight[lane, number & (INFLIGHT - 1)]
    entry.state = PROBING
    entry.kind = kind
    entry.size = size + PACKET_OVERHEAD
    record.tokens -= entry.size
    if record.una == number:
        record.una = number + 1
    return int64(number)


@kernel
def answer_time(record: np.record) -> float:
    """Return after how many seconds an answer is overdue: a probe timeout (RFC 9002, section 6.2.1), never doubled."""
    if record.srtt == 0.0:
        return FIRST_TIMEOUT
    variation = max(4.0 * record.rttvar, _LEAST_VARIATION)
    return float(record.srtt + variation + max(0.005, record.srtt / 8.0))
