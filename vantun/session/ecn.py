"""Congestion marks of a lane: packets leave as ECT(0), the peer counts what arrives, marks slow the lane down.

Validation is that of RFC 9000, section 13.4.2, on sums: what the peer has counted cannot be less than what it has
acknowledged, nor more than was sent, and none of it ECT(1). A path that erases marks, or a peer that cannot read them,
fails; so does one that loses every marked packet. A lane that failed sends unmarked and believes no counts; why, status
says. Packets that ask for no acknowledgement are neither marked nor counted, so the sums are exact.

Reaction: at most once per round trip, as to a queue of this lane's own making. Loss needs none here,
because ``bbr`` measures rates; a mark says the same a queue earlier.
"""

from __future__ import annotations

import numpy as np

from drivers.batch import CE, ECT0, ECT1, NOT_ECT
from drivers.kernel import kernel
from vantun.session.rate import BBR, congestion_seen
from vantun.session.tables import INFLIGHT, Tables, head
from vantun.wire.integers import int64

OFF, TESTING, CAPABLE, FAILED = range(4)
ECN_NAMES = ("off", "testing", "capable", "failed")
NO_REASON, BLEACHED, REMARKED, INVENTED, BACKWARDS, ALL_MARKED, BLACK_HOLE = range(7)
ECN_REASONS = (
    "",
    "the path erases the marks, or the peer cannot read them",
    "the path changes ECT(0) to ECT(1)",
    "the peer counts more marks than packets were sent",
    "the peer's counts went down",
    "the path marks every packet as congested",
    "packets without marks arrive, those with marks do not",
)
ENOUGH = 10
"""Marked packets that have to arrive before a lane is believed in (RFC 9000, appendix A.4)."""
_RESTARTS = 2
"""Times that the counts may begin anew: the peer's worker may have been replaced."""


@kernel
def begin_ecn(t: Tables, lane: int) -> None:
    """Mark what is sent on a lane from its next packet on, until it turns out that its path does not carry marks."""
    t = head(t)
    record = t.lane[lane]
    record.ecn = TESTING
    record.ecn_why = NO_REASON
    record.ecn_scale = 1.0
    record.ecn_acked = 0
    record.ecn_lost = 0
    record.ecn_first = max(0, record.next_pn - INFLIGHT)  # what is on its way still counts
    record.ecn_largest = -1
    record.ecn_known = 0 if record.next_pn > 0 else 1
    record.ecn_restarts = 0
    record.ecn_base[:] = 0
    record.ecn_seen[:] = 0


@kernel
def mark_of(record: np.record) -> int:
    """Return the ECN bits for a packet to be acknowledged: none while nothing comes back, lest it be their fault."""
    return ECT0 if (record.ecn == TESTING or record.ecn == CAPABLE) and record.pto_count == 0 else NOT_ECT


@kernel
def note_mark(record: np.record, mark: int) -> None:
    """Count the mark of a packet that will be acknowledged, to be reported."""
    if mark:
        record.rx_ecn[mark] += 1


@kernel
def mark_acked(record: np.record, mark: int) -> None:
    """Note that a packet has arrived that was sent with ``mark``."""
    if mark:
        record.ecn_acked += 1
    elif record.ecn == TESTING and record.ecn_acked == 0 and record.ecn_lost >= ENOUGH:
        fail_ecn(record, BLACK_HOLE)


@kernel
def fail_ecn(record: np.record, why: int) -> None:
    """Send unmarked from now on."""
    record.ecn = FAILED
    record.ecn_why = why
    record.ecn_scale = 1.0


@kernel
def on_counts(t: Tables, lane: int, largest: int, ect0: int, ect1: int, ce: int, now: float) -> None:
    """Take the counts of a RECEIPT whose ranges were processed; ``largest`` = the largest number that it reports.

    A RECEIPT that was overtaken says nothing: its counts are older.
    """
    record = t.lane[lane]
    if (record.ecn != TESTING and record.ecn != CAPABLE) or largest <= record.ecn_largest:
        return
    record.ecn_largest = largest
    seen, base = record.ecn_seen, record.ecn_base
    if not record.ecn_known or ect0 < seen[ECT0] or ect1 < seen[ECT1] or ce < seen[CE]:
        _begin_anew(record, ect0, ect1, ce)
        return
    marked = ce - seen[CE]
    seen[ECT0], seen[ECT1], seen[CE] = ect0, ect1, ce
    counted = ect0 - base[ECT0] + ce - base[CE]
    if ect1 > base[ECT1]:
        fail_ecn(record, REMARKED)
    elif counted < record.ecn_acked:
        fail_ecn(record, BLEACHED)
    elif counted > record.next_pn - record.ecn_first:
        fail_ecn(record, INVENTED)
    elif record.ecn == TESTING and ce - base[CE] >= ENOUGH and ect0 == base[ECT0]:
        fail_ecn(record, ALL_MARKED)
    elif record.ecn == TESTING and record.ecn_acked >= ENOUGH:
        record.ecn = CAPABLE
    if marked > 0 and record.ecn != FAILED:
        _react(record, marked, now)


@kernel
def _begin_anew(record: np.record, ect0: int, ect1: int, ce: int) -> None:
    """Count from here: this worker took the lane over, or the peer's did. That is rare, or it is no such thing."""
    if record.ecn_known:
        restarts = int64(record.ecn_restarts) + 1
        record.ecn_restarts = restarts
        if restarts > _RESTARTS:
            fail_ecn(record, BACKWARDS)
            return
    record.ecn_known = 1
    record.ecn_acked = 0
    base, seen = record.ecn_base, record.ecn_seen
    base[ECT0], base[ECT1], base[CE] = ect0, ect1, ce
    seen[ECT0], seen[ECT1], seen[CE] = ect0, ect1, ce


@kernel
def _react(record: np.record, marked: int, now: float) -> None:
    """Slow down once per round trip; ``brutal`` was told a rate and keeps it."""
    record.ecn_marks += marked
    if record.control != BBR or now - record.ecn_at < record.srtt:
        return
    record.ecn_at = now
    record.ecn_events += 1
    congestion_seen(record, now)
