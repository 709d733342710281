"""What became of the packets sent on a lane: RECEIPTs, round-trip time, loss, probe timeouts (RFC 9002, RFC 8985).

Loss is declared by time alone (RACK): a packet is lost when a later one was acknowledged and the reordering window has
passed. There is no packet threshold, because paths of a tunnel reorder by design.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel
from vantun.session.blocks import CLOSED_DATA, one_more, shard_acked, shard_lost
from vantun.session.ecn import mark_acked, mark_of
from vantun.session.lane_probes import HOME, LARGE, PROBING, SMALL, answer_time
from vantun.session.mtu import size_confirmed
from vantun.session.pool import EVENT_LANE_STATE, push_event
from vantun.session.rate import PACKET_OVERHEAD, is_quiet, note_resolved, on_acked
from vantun.session.tables import CHANNELS, INFLIGHT, WINDOW, Tables, head
from vantun.wire.frames import DATA, PARITY
from vantun.wire.integers import int64

EMPTY, IN_FLIGHT, ACKED, LOST = range(4)
VALIDATING, ACTIVE, SUSPECT, DEAD = 1, 2, 3, 4
STATE_NAMES = {VALIDATING: "validating", ACTIVE: "active", SUSPECT: "suspect", DEAD: "dead"}

LOOK_BACK = 2048
"""Packets below the oldest unresolved one that may still turn out to have arrived: so much reordering is undone."""
_MIN_REORDER = 0.001
_MAX_PTO = 0.25
_MAX_RTT, _MAX_LATE = 10.0, 2.0
"""Largest samples of the RTT; the second of packets given up: they may have lain before a peer that was stopped."""
_MANY = 8
"""Packets in flight from which silence alone is a sign; with fewer, the loss of all of them is not unlikely."""


@kernel
def register_sent(t: Tables, lane: int, kind: int, channel: int, seq: int, size: int, now: float) -> int:
    """Enter an ack-eliciting packet of ``size`` UDP payload bytes; return its packet number."""
    record = t.lane[lane]
    number = record.next_pn
    record.next_pn += 1
    entry = t.inflight[lane, number & (INFLIGHT - 1)]
    if record.in_flight == 0:
        record.first_sent = now
        record.delivered_at = now
    entry.sent_at = now
    entry.delivered = record.delivered
    entry.since_delivered = now - record.delivered_at
    entry.since_first = now - record.first_sent
    entry.app_limited = 1 if record.app_limited > record.delivered else 0
    entry.quiet = (1 if is_quiet(record) else 0) | mark_of(record)
    entry.kind = kind
    entry.channel = channel
    entry.seq = seq
    entry.size = size + PACKET_OVERHEAD
    entry.state = IN_FLIGHT
    # Only what congestion control counts is paced: a receiver's RECEIPTs, a thousand a second, took all the tokens of
    # its small rate, and the credit that the sender waited for stood in the queue behind them.
    record.tokens -= entry.size
    record.in_flight += entry.size
    record.in_flight_packets += 1
    record.last_eliciting = now
    return int64(number)


@kernel
def register_silent(t: Tables, lane: int) -> int:
    """Take a packet number for a packet that asks for no acknowledgement."""
    record = t.lane[lane]
    number = record.next_pn
    record.next_pn += 1
    entry = t.inflight[lane, number & (INFLIGHT - 1)]
    entry.state = EMPTY
    if record.una == number:
        record.una = number + 1
    return int64(number)


@kernel
def on_receipt(t: Tables, lane: int, ranges: NDArray[np.int64], count: int, delay: float, now: float) -> bool:
    """Process the ranges of a RECEIPT (newest first, inclusive); False if it claims what was never sent."""
    record = t.lane[lane]
    if ranges[0, 1] >= record.next_pn:
        return False
    newest = -1
    late, sample_from = False, 0.0
    before = record.delivered
    # below una everything is resolved; look back only as far as a late packet may undo a loss, or answer a probe
    least = int64(max(record.una - LOOK_BACK, record.next_pn - INFLIGHT))
    least = int64(record.una) if record.late_till <= least else least
    for i in range(count):
        low = max(ranges[i, 0], least)
        for number in range(ranges[i, 1], low - 1, -1):
            entry = t.inflight[lane, number & (INFLIGHT - 1)]
            if entry.state == PROBING:
                entry.state = EMPTY
                _probe_acked(t, lane, int64(entry.kind), int64(entry.size) - PACKET_OVERHEAD, now)
                continue
            if entry.state != IN_FLIGHT and entry.state != LOST:
                continue
            if record.trial and number >= record.trial_from:
                record.trial_home = 1
            if number > newest:
                newest = number
                late = entry.state == LOST and now - entry.sent_at > _MAX_LATE
            _acknowledge(t, lane, entry, now)
    if newest >= 0:
        entry = t.inflight[lane, newest & (INFLIGHT - 1)]
        if newest > record.largest_acked:
            record.largest_acked = newest
            sample_from = entry.sent_at
            sample_rtt(record, _MAX_LATE if late else now - entry.sent_at, delay, now)
            record.rack_time = max(record.rack_time, entry.sent_at)
        if newest >= record.phase_start and record.phase_acked_at == 0.0:
            record.phase_acked_at = now
        rate = 0.0 if late else _delivery_rate(record, entry, before, now)
        _advance(t, lane)
        on_acked(t, lane, rate, entry.app_limited != 0, now)
        if sample_from > 0.0:
            record.first_sent = sample_from
    detect_lost(t, lane, now)
    _heard(t, lane, now)
    return True


@kernel
def _probe_acked(t: Tables, lane: int, kind: int, size: int, now: float) -> None:
    if kind == HOME:
        t.lane[lane].trial_home = 1
    elif kind == LARGE:
        size_confirmed(t, lane, size, now)
    elif kind == SMALL:
        t.lane[lane].hole_small += 1


@kernel
def _acknowledge(t: Tables, lane: int, entry: np.record, now: float) -> None:
    record = t.lane[lane]
    live = entry.state == IN_FLIGHT
    if live:
        record.in_flight -= entry.size
        record.in_flight_packets -= 1
    else:
        record.spurious += 1
        record.lost -= 1
        # reordered, not lost: wait longer from now on
        record.reorder = min(max(record.reorder * 1.5, now - entry.sent_at - record.srtt), max(record.srtt, 0.05))
    entry.state = ACKED
    record.acked += 1
    mark_acked(record, entry.quiet >> 1)
    record.delivered += entry.size
    record.delivered_at = now
    if entry.size - PACKET_OVERHEAD > record.mtu_base:
        record.big_lost = 0
    if live:
        note_resolved(record, 0, entry.quiet & 1)
    if entry.kind in (DATA, CLOSED_DATA, PARITY):
        shard_acked(t, int64(entry.channel), entry.kind, entry.seq, live)


@kernel
def _delivery_rate(record: np.record, entry: np.record, before: float, now: float) -> float:
    """Return bytes/s delivered over the life of the newest acknowledged packet, or 0.

    Source: draft-cheng-iccrg-delivery-rate-estimation, section 3.
    """
    interval = max(np.float64(entry.since_first), now - entry.sent_at + np.float64(entry.since_delivered))
    if interval <= 0.0 or record.delivered <= entry.delivered or interval < 0.5 * record.min_rtt:
        return 0.0
    return np.float64((record.delivered - entry.delivered) / interval)


@kernel
def sample_rtt(record: np.record, sample: float, delay: float, now: float) -> None:
    """Update srtt, rttvar and min_rtt (RFC 9002, section 5)."""
    sample = min(max(sample, 1e-6), _MAX_RTT)
    if record.min_rtt == 0.0 or sample <= record.min_rtt:
        record.min_rtt = sample
        record.min_rtt_at = now
    elif now - record.min_rtt_at > 10.0:
        record.min_rtt = max(record.min_rtt, min(record.srtt, sample))
        record.min_rtt_at = now
    adjusted = sample - delay if sample - delay >= record.min_rtt else sample
    record.latest_rtt = adjusted
    if record.srtt == 0.0:
        record.srtt = adjusted
        record.rttvar = adjusted / 2.0
        record.reorder = max(_MIN_REORDER, adjusted / 8.0)
        return
    record.rttvar += (abs(record.srtt - adjusted) - record.rttvar) * 0.25
    record.srtt += (adjusted - record.srtt) * 0.125
    floor = max(_MIN_REORDER, record.min_rtt / 8.0)
    record.reorder = max(floor, record.reorder * 0.999)


@kernel
def _advance(t: Tables, lane: int) -> None:
    record = t.lane[lane]
    while record.una < record.next_pn and t.inflight[lane, record.una & (INFLIGHT - 1)].state != IN_FLIGHT:
        record.una += 1


@kernel
def detect_lost(t: Tables, lane: int, now: float) -> float:
    """Declare lost what RACK says is lost; return when the next packet will be (inf = none waits)."""
    record = t.lane[lane]
    due = np.inf
    patience = max(record.latest_rtt, record.srtt) + record.reorder
    for number in range(record.una, record.largest_acked + 1):
        entry = t.inflight[lane, number & (INFLIGHT - 1)]
        if entry.state != IN_FLIGHT or entry.sent_at > record.rack_time:
            continue
        if now >= entry.sent_at + patience:
            lose(t, lane, entry)
        else:
            due = entry.sent_at + patience
            break
    _advance(t, lane)
    return due


@kernel
def _count_lost(record: np.record, entry: np.record) -> None:
    entry.state = LOST
    record.late_till = record.next_pn
    record.in_flight -= entry.size
    record.in_flight_packets -= 1
    record.lost += 1


@kernel
def lose(t: Tables, lane: int, entry: np.record) -> None:
    """Give one packet up as lost; its shard is made good."""
    record = t.lane[lane]
    _count_lost(record, entry)
    record.ecn_lost += entry.quiet >> 1
    if not record.trial:  # what goes to an address that may be the peer's no longer is no sign of the path
        note_resolved(record, 1, entry.quiet & 1)
    if entry.size - PACKET_OVERHEAD > record.mtu_base:
        record.big_lost += 1
    if entry.kind in (DATA, CLOSED_DATA, PARITY):
        shard_lost(t, int64(entry.channel), entry.kind, entry.seq)


@kernel
def forgive_all(t: Tables, lane: int) -> None:
    """Give up everything in flight without learning from it: it went to an address that is no longer the peer's."""
    record = t.lane[lane]
    for number in range(record.una, record.next_pn):
        entry = t.inflight[lane, number & (INFLIGHT - 1)]
        if entry.state != IN_FLIGHT:
            continue
        _count_lost(record, entry)
        if entry.kind in (DATA, CLOSED_DATA, PARITY):
            shard_lost(t, int64(entry.channel), entry.kind, entry.seq)
    _advance(t, lane)


@kernel
def _heard(t: Tables, lane: int, now: float) -> None:
    record = t.lane[lane]
    record.last_heard = now
    record.pto_count = 0
    if record.state != ACTIVE:
        set_state(t, lane, ACTIVE)


@kernel
def set_state(t: Tables, lane: int, state: int) -> None:
    """Move a lane to ``state`` and report it."""
    record = t.lane[lane]
    push_event(t, EVENT_LANE_STATE, record.session, lane, state, record.state, 0)
    record.state = state


@kernel
def trust_lane(t: Tables, lane: int, rtt: float, now: float) -> None:
    """Use a lane at once: a handshake on its addresses has just come back, after ``rtt`` seconds."""
    t = head(t)
    record = t.lane[lane]
    record.srtt = rtt
    record.rttvar = rtt / 2.0
    record.min_rtt = rtt
    record.min_rtt_at = now
    record.reorder = max(_MIN_REORDER, rtt / 8.0)
    set_state(t, lane, ACTIVE)


@kernel
def probe_timeout(record: np.record) -> float:
    """Return the probe timeout (RFC 9002, section 6.2.1), capped: a tunnel has other paths to try."""
    base = answer_time(record)
    if record.srtt == 0.0:
        return float(base * (1 << min(record.pto_count, 3)))
    return float(min(base * (1 << min(record.pto_count, 6)), max(_MAX_PTO, base)))


@kernel
def lane_timeout(t: Tables, lane: int) -> float:
    """Return the probe timeout of a lane."""
    t = head(t)
    return probe_timeout(t.lane[lane])


@kernel
def run_timers(t: Tables, lane: int, now: float) -> float:
    """Run what is due on a lane: loss, probe timeout, suspicion, death, keep-alive; return when to call again."""
    record = t.lane[lane]
    policy = t.policy[0]
    due = np.inf
    if record.in_flight_packets > 0:
        due = detect_lost(t, lane, now)
        timeout = record.last_eliciting + probe_timeout(record)
        doubt = _doubt_at(t, lane)
        if now >= doubt:
            suspect(t, lane)
            timeout = now + probe_timeout(record)
        elif now >= timeout:
            _on_probe_timeout(t, lane, now)
            timeout = now + probe_timeout(record)
        else:
            due = min(due, doubt)
        due = min(due, timeout)
    elif record.state != ACTIVE and not record.probe_due:
        if now >= record.probe_sent + probe_timeout(record):
            record.probe_due = 1
        due = min(due, record.probe_sent + probe_timeout(record))
    if record.state == SUSPECT and now - record.last_heard > policy.dead_after:
        set_state(t, lane, DEAD)
    if now - record.last_sent >= policy.keepalive and not record.probe_due:
        record.probe_due = 1
    due = min(due, max(record.last_sent + policy.keepalive, now + 0.001))
    return now if record.probe_due or record.response_due else due


@kernel
def _doubt_at(t: Tables, lane: int) -> float:
    """Return when an active lane is to be suspected if nothing is heard until then.

    A path is silent when RECEIPTs were due for so long: counted from the last one, or from a round trip after the
    oldest packet left, whichever is later. The probe timeout alone would wait until congestion control stops the
    sender, because every packet sent starts it anew: a cut under load was noticed after 0.6 s instead of 0.2.
    """
    record = t.lane[lane]
    if record.state != ACTIVE or (record.in_flight_packets < _MANY and record.pto_count == 0):
        return np.inf
    oldest = t.inflight[lane, record.una & (INFLIGHT - 1)].sent_at
    quiet = t.policy[0].silence + 2.0 * record.rttvar
    return float(max(record.last_heard, oldest + record.srtt) + quiet)


@kernel
def _on_probe_timeout(t: Tables, lane: int, now: float) -> None:
    """Nothing came back: send one more row of the oldest open block, and doubt the path if it goes on."""
    record = t.lane[lane]
    record.pto_count += 1
    if record.state == ACTIVE and record.pto_count >= 2:
        suspect(t, lane)
        return
    if record.state == ACTIVE and order_probe_row(t, record.session):
        record.last_eliciting = now
        return
    if record.state != ACTIVE:
        _lose_all(t, lane)
    record.probe_due = 1


@kernel
def suspect(t: Tables, lane: int) -> None:
    """Stop using a lane that does not answer: what it carries is made good on the others, and it is probed."""
    t = head(t)
    record = t.lane[lane]
    set_state(t, lane, SUSPECT)
    _lose_all(t, lane)
    record.probe_due = 1


@kernel
def _lose_all(t: Tables, lane: int) -> None:
    record = t.lane[lane]
    for number in range(record.una, record.next_pn):
        entry = t.inflight[lane, number & (INFLIGHT - 1)]
        if entry.state == IN_FLIGHT:
            lose(t, lane, entry)
    _advance(t, lane)


@kernel
def order_probe_row(t: Tables, session: int) -> bool:
    """Order one more row for the oldest unacknowledged block of the session, control channel first."""
    for kind in range(CHANNELS):
        channel = session * CHANNELS + kind
        ch = t.channel[channel]
        for number in range(ch.una_block, ch.block + 1):
            block = t.block[channel, number & (WINDOW - 1)]
            if block.used and block.number == number and block.sent > 0 and block.acked_count < block.n:
                return one_more(t, channel, block)
    return False
