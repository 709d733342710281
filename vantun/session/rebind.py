"""A client whose address changes: the new one is tried, and taken only if the old one has fallen silent.

A trial begins with an authenticated packet from elsewhere that has the highest number so far. Both addresses are
probed. Whatever shows that the client still receives at the old address ends the trial: the answer to the probe that
went there, the acknowledgement of any packet that went there since, a newer packet from there. Somebody who copies
packets, and is faster than the originals, can therefore neither take the flow nor disturb it (RFC 9000, section
9.3.3). It counts where a probe was sent to, not where its answer came from (RFC 9000, section 8.2.3).

Until then the new address gets no data: challenges, and a copy of each RECEIPT and PROBE_RESPONSE, all together never
more than three times the bytes that authenticated packets have brought from it.

Only servers do this. A client stays with the address of the server that its handshake has authenticated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel
from vantun.session.ecn import begin_ecn
from vantun.session.lane_probes import answer_time
from vantun.session.limits import MAX_LANES
from vantun.session.mtu import start_over
from vantun.session.pool import EVENT_LANE_MOVED, push_event
from vantun.session.rate import begin_rate
from vantun.session.recovery import ACTIVE, forgive_all, sample_rtt, set_state
from vantun.session.tables import Tables, head
from vantun.wire.integers import int64, uint64

OTHER = MAX_LANES
"""Row ``OTHER + lane`` of ``t.peer`` is the address on trial."""
FACTOR = 3
"""Bytes that may be sent to an address on trial per byte received from it (RFC 9000, section 8.1)."""
_DECIDE = 1.5
"""Answer times until the silence of the old address is believed."""
_GIVE_UP = 4.0
_LEAST_TIME = 1.0
"""Seconds that a new address has for its answer at least: its round trip may be longer than the old one's."""
_HOME_ROUNDS = 3
_SOONEST_ROUND = 0.05

_AF_INET = 2
_AF_INET6 = 10


@kernel
def address_key(address: NDArray[np.uint8], row: int) -> tuple[int, int, int]:
    """Return (high and low half of the IPv6 address, port) of a socket address; IPv4 as v4-mapped. Port 0 = unknown."""
    family = int64(address[row, 0]) | int64(address[row, 1]) << 8
    port = int64(address[row, 2]) << 8 | int64(address[row, 3])
    high = uint64(0)
    low = uint64(0)
    if family == _AF_INET:
        low = uint64(0xFFFF)
        for i in range(4, 8):
            low = low << uint64(8) | uint64(address[row, i])
    elif family == _AF_INET6:
        for i in range(8, 16):
            high = high << uint64(8) | uint64(address[row, i])
            low = low << uint64(8) | uint64(address[row, i + 8])
    else:
        port = int64(0)
    return high, low, port


@kernel
def settle_peer(t: Tables, lane: int) -> None:
    """Take the address in the lane's row of ``t.peer`` for the peer's."""
    t = head(t)
    record = t.lane[lane]
    record.peer_high, record.peer_low, record.peer_port = address_key(t.peer, lane)


@kernel
def note_source(
    t: Tables, lane: int, address: NDArray[np.uint8], source: int, number: int, size: int, now: float
) -> None:
    """Act on an authenticated packet, before it is noted, that does not come from where the lane leads, or may not.

    Called for packets from elsewhere, and for all while there is a trial.
    """
    record = t.lane[lane]
    high, low, port = address_key(address, source)
    newest = number > record.largest_rx
    if port == record.peer_port and low == record.peer_low and high == record.peer_high:
        if record.trial and newest:
            record.trial_home = 1
        return
    if record.trial:
        if port == record.other_port and low == record.other_low and high == record.other_high:
            record.other_received += size
        return
    if not newest or now < record.trial_after:
        record.elsewhere += 1
        return
    t.peer[OTHER + lane] = address[source]
    record.trial = 1
    record.other_high, record.other_low, record.other_port = high, low, port
    record.other_received = size
    record.other_sent = 0
    record.other_answered = 0
    record.trial_home = 0
    record.trial_at = now
    record.trial_due = now
    record.trial_rounds = 0
    record.trial_from = record.next_pn
    mixed = uint64(record.trial_value) ^ uint64(record.probe_value)
    record.trial_value = mixed * uint64(6364136223846793005) + uint64(1)


@kernel
def home_value(record: np.record) -> int:
    """Return what the probe of the old address says; ``trial_value`` is what the new one's does."""
    return ~uint64(record.trial_value)


@kernel
def trial_answered(t: Tables, lane: int, value: int, now: float) -> bool:
    """Act on a PROBE_RESPONSE during a trial; return whether it answers one of its probes."""
    record = t.lane[lane]
    if record.trial_rounds == 0:
        return False
    if value == record.trial_value:
        if not record.other_answered:
            record.other_rtt = now - record.trial_at
            record.trial_due = min(record.trial_due, record.trial_at + _DECIDE * answer_time(record))
        record.other_answered = 1
        return True
    if value == home_value(record):
        record.trial_home = 1
        return True
    return False


@kernel
def may_send(record: np.record, size: int) -> bool:
    """Return whether ``size`` bytes may go to the address on trial."""
    return bool(record.trial and record.other_sent + size <= FACTOR * record.other_received)


@kernel
def run_trial(t: Tables, lane: int, now: float) -> bool:
    """Decide what is due; return whether a round of probes is to be sent. ``trial_due`` says when to ask again."""
    record = t.lane[lane]
    if not record.trial:
        return False
    patience = answer_time(record)
    if record.trial_home:
        record.spoofed += 1
        _end(record, now)
        return False
    decide = record.trial_at + _DECIDE * patience
    if record.other_answered and now >= decide:
        _move(t, lane, now)
        return False
    end = record.trial_at + max(_GIVE_UP * patience, _LEAST_TIME)
    if now >= end:
        record.refused += 1
        _end(record, now)
        return False
    if now < record.trial_due:
        return False
    record.trial_rounds += 1
    wait = 0.25 * patience if record.trial_rounds < _HOME_ROUNDS else max(0.5 * patience, _SOONEST_ROUND)
    record.trial_due = min(now + wait, decide if record.other_answered else end)
    return not record.other_answered or record.trial_rounds <= _HOME_ROUNDS


@kernel
def probes_home(record: np.record) -> bool:
    """Return whether the round that is due asks the old address, too."""
    return bool(record.trial_rounds <= _HOME_ROUNDS)


@kernel
def _end(record: np.record, now: float) -> None:
    record.trial = 0
    record.trial_after = now + answer_time(record)


@kernel
def _move(t: Tables, lane: int, now: float) -> None:
    """Take the new address. What was sent to the old one in vain goes again at once, and is no congestion."""
    record = t.lane[lane]
    elsewhere = record.peer_high != record.other_high or record.peer_low != record.other_low
    t.peer[lane] = t.peer[OTHER + lane]
    record.peer_high, record.peer_low, record.peer_port = record.other_high, record.other_low, record.other_port
    record.rebinds += 1
    _end(record, now)
    forgive_all(t, lane)
    if elsewhere:  # another network: what was measured is not true of it (RFC 9000, section 9.4)
        record.srtt = 0.0
        record.rttvar = 0.0
        record.min_rtt = 0.0
        sample_rtt(record, record.other_rtt, 0.0, now)
        begin_rate(t, lane, int64(record.control), record.rate_cap, now)
        begin_ecn(t, lane)
        record.loss_seen = 0.01
        start_over(t, lane, now)
    record.pto_count = 0
    record.last_heard = now
    if record.state != ACTIVE:
        set_state(t, lane, ACTIVE)
    push_event(t, EVENT_LANE_MOVED, record.session, lane, 1 if elsewhere else 0, 0, 0)
