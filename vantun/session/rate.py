"""Congestion control behind one interface: ``begin``, ``on_acked`` (once per RECEIPT), and what they set.

A controller sets ``pacing_rate`` (bytes/s) and ``cwnd`` (bytes) of its lane. ``bbr`` is a delivery-rate model after BBR
(Cardwell et al., ACM Queue 2016; draft-ietf-ccwg-bbr) with one change: it is blind to loss that has nothing to do with
the queue. Delivery rate alone shrinks with every loss, so a sender that paces at what was delivered sinks to nothing at
15-20 % loss (every BBR that was measured is at 3-72 % of the ceiling there). Here the rate is delivery rate / (1 - p),
and p is measured only on packets that were sent while the lane kept below its rate (the down phase of each cycle), when
no queue of its own making can have dropped them: a policer or a full buffer shows its drops in the up phase and is not
paid for. Congestion marks (ECN) scale the rate down.
``brutal`` sends at the configured rate over the share that arrives, at least 0.8.
"""

from __future__ import annotations

import numpy as np

from drivers.kernel import kernel
from vantun.session.tables import RATE_ROUNDS, Tables, head

BBR, BRUTAL = 1, 2
STARTUP, DRAIN, DOWN, CRUISE, UP = range(5)
HELD_BY_WINDOW, HELD_BY_PACER = 1, 2
"""Why a packet waited for a lane."""
CONTROL_NAMES = {BBR: "bbr", BRUTAL: "brutal"}
MODE_NAMES = ("startup", "drain", "down", "cruise", "up")

PACKET_OVERHEAD = 28
"""IPv4 and UDP headers count as sent bytes: rates are of IP packets."""
_STARTUP_GAIN = 2.77
_FULL_ROUNDS = 3
_CRUISE_ROUNDS = 5
_BRUTAL_FLOOR = 0.8
_QUIET_ENOUGH = 60.0
_QUIET_MEMORY = 3000.0
_LOSS_MEMORY = 256.0
"""Packets, at least."""
_MARK_GAIN, _MARK_FLOOR, _MARK_RECOVERY = 0.85, 0.5, 0.04
"""Share of the rate that marks leave (RFC 8511: 0.85), at least, and what comes back per round trip without any."""
BURST_SECONDS, BURST_LEAST = 0.00125, 4 * 1228.0
"""What a lane that was idle, or whose worker woke up late, may send at once: a queue on the way has to hold it."""
LATE_MOST = 0.008
"""What a lane that its pacer holds up is owed at most when its worker comes late. At line rate a turn takes longer than
BURST_SECONDS: without this a lane got less than its rate, measured that, and sank, turn by turn, to a rate at which
turns were short, and batches small."""
BURST_BEGIN = 16 * 1228.0
"""The same while nothing was measured (half an initial window; RFC 9002, section 7.7): at the rate of the beginning,
the rest of a large packet would come after its first part was given up."""
QUANTUM_SECONDS, QUANTUM_MOST = 0.00075, 64 * 1228.0
"""What a lane that waits for its pacer gathers before it sends: one packet at 10 Mbit/s, a whole GSO message (a span of
bulk) from 840 Mbit/s on. Less would be a system call for a few packets, more a burst that a queue has to hold."""
_INITIAL_CWND = 32 * 1228.0
_SLACK = 96 * 1228.0
"""RECEIPTs come every 64 packets: a window of the bare bandwidth-delay product would stand still on short paths."""
_TURNS = 0.004
"""What the turns of both workers may add to the smallest round trip: under load, packets and RECEIPTs wait for them."""


@kernel
def begin_rate(t: Tables, lane: int, control: int, cap: float, now: float) -> None:
    """Start the controller of a lane; ``cap`` (bytes/s) is BRUTAL's rate, and BBR's limit if not 0."""
    t = head(t)
    record = t.lane[lane]
    record.control = control
    record.mode = STARTUP
    record.rate_cap = cap
    record.bandwidth = 0.0
    record.loss = 0.0
    record.quiet_lost = 0.0
    record.quiet_all = 0.0
    record.gain = _STARTUP_GAIN
    record.cwnd = _INITIAL_CWND
    record.pacing_rate = cap if control == BRUTAL else _INITIAL_CWND / 0.1
    record.phase_at = now
    record.tokens = 0.0
    record.tokens_at = now
    record.ecn_scale = 1.0
    t.rate[lane, :] = 0.0


@kernel
def on_acked(t: Tables, lane: int, rate: float, limited: bool, now: float) -> None:  # noqa: FBT001 - a measured fact
    """Learn one delivery-rate sample (bytes/s; ``limited`` = the sender had nothing more to send)."""
    record = t.lane[lane]
    new_round = record.delivered >= record.round_end
    record.round_rtt = max(record.round_rtt, record.latest_rtt)
    if new_round:
        record.round_end = record.delivered + record.in_flight
        if record.ecn_scale < 1.0 and now - record.ecn_at > 2.0 * record.srtt:
            record.ecn_scale = min(1.0, record.ecn_scale + _MARK_RECOVERY)
        if record.measured:
            # rounds in which the sender had too little to send say nothing about the path, so they age no sample: else
            # a second of small requests would leave the next download with their rate
            record.measured = 0
            record.round += 1
            t.rate[lane, record.round % RATE_ROUNDS] = 0.0
    if record.control == BRUTAL:
        _set_brutal(record)
        return
    if rate > 0.0 and (not limited or rate > record.bandwidth):
        place = record.round % RATE_ROUNDS
        t.rate[lane, place] = max(t.rate[lane, place], rate)
        if not limited:
            record.measured = 1
    best = 0.0
    for i in range(RATE_ROUNDS):
        best = max(best, t.rate[lane, i])
    if best > 0.0:
        record.bandwidth = best
    elif limited and rate > 0.0:
        record.bandwidth = max(rate, record.bandwidth)
    if record.quiet_all >= _QUIET_ENOUGH:
        record.loss = min(0.6, record.quiet_lost / record.quiet_all)
    _next_mode(record, new_round, limited, now)
    _set_bbr(record)


@kernel
def _next_mode(record: np.record, new_round: bool, limited: bool, now: float) -> None:  # noqa: FBT001
    """Walk STARTUP -> DRAIN -> (CRUISE ... UP -> DOWN) for ever."""
    rtt = max(record.min_rtt, 0.0005)
    goal = record.bandwidth / (1.0 - record.loss) * rtt
    if record.mode == STARTUP:
        # a standing queue says that the path is full even when the samples are application-limited
        queued = record.round_rtt > 1.25 * record.min_rtt + 0.004
        if new_round and (queued or not limited):
            if record.bandwidth > record.full_rate * 1.25:
                record.full_rate = record.bandwidth
                record.full_rounds = 0
            else:
                record.full_rounds += 1
        if new_round:
            record.round_rtt = record.latest_rtt
        if record.full_rounds >= _FULL_ROUNDS:
            _enter(record, DRAIN, 1.0 / _STARTUP_GAIN, now)
    elif record.mode == DRAIN:
        if record.in_flight <= goal or now - record.phase_at > 3.0 * record.srtt:
            _enter(record, DOWN, 0.85, now)
    elif record.mode == DOWN:
        if now - record.phase_at >= rtt and (record.in_flight <= goal or now - record.phase_at > 2.0 * record.srtt):
            _enter(record, CRUISE, 1.0, now)
    elif record.mode == CRUISE:
        if now - record.phase_at >= _CRUISE_ROUNDS * rtt:
            record.full_rate = record.bandwidth
            _enter(record, UP, 1.25, now)
    elif _has_probed(record, goal, rtt, now):
        if record.bandwidth > 1.2 * record.full_rate:
            # There was more: go on at once. Startup may end early, because traffic the other way delays the RECEIPTs,
            # and one step per cycle took 3 s from 70 to 100 Mbit/s. (With 1.1 the noise of 15 % loss was enough.)
            record.full_rate = record.bandwidth
            _enter(record, UP, 1.25, now)
        else:
            _enter(record, DOWN, 0.85, now)


@kernel
def _has_probed(record: np.record, goal: float, rtt: float, now: float) -> bool:
    """Return whether the up phase has shown what it can: the pipe is over-full, or that takes too long."""
    since = now - record.phase_at
    rtt = min(max(rtt, record.srtt), rtt + _TURNS)  # less than a turn, and nothing was sent in it
    return bool(since >= rtt and (record.in_flight >= 1.2 * goal or since > 1.5 * record.srtt))


@kernel
def _enter(record: np.record, mode: int, gain: float, now: float) -> None:
    record.mode = mode
    record.gain = gain
    record.phase_at = now


@kernel
def _set_bbr(record: np.record) -> None:
    rate = record.bandwidth / (1.0 - record.loss)
    if rate <= 0.0:
        return
    goal = rate * max(record.min_rtt, 0.0005)
    pacing = max(record.gain * rate * record.ecn_scale, 10.0 * 1228.0)
    if record.mode == STARTUP:
        pacing = max(pacing, record.pacing_rate)
    if record.rate_cap > 0.0:
        pacing = min(pacing, record.rate_cap)
    record.pacing_rate = pacing
    # two bandwidth-delay products, in startup too: with 2.77 startup overran a queue of one and lost 20 times as much
    record.cwnd = max((2.0 * goal + rate * _TURNS) * record.ecn_scale + _SLACK, _INITIAL_CWND)


@kernel
def congestion_seen(record: np.record, now: float) -> None:
    """React to congestion marks, once per round trip.

    Whoever searches for more has found its end, and drains what that cost; startup only once the rate has ceased to
    grow, because its first burst is marked anywhere. Marks of a search come in when it is over: a round trip later they
    say that the rate is too high as it is.
    """
    if record.mode == STARTUP:
        if record.full_rounds > 0:
            record.full_rounds = _FULL_ROUNDS
            _enter(record, DRAIN, 1.0 / _STARTUP_GAIN, now)
    elif record.mode == UP:
        _enter(record, DOWN, 0.85, now)
    elif record.mode == CRUISE and now - record.phase_at > record.srtt:
        record.ecn_scale = max(_MARK_FLOOR, record.ecn_scale * _MARK_GAIN)
    _set_bbr(record)


@kernel
def _set_brutal(record: np.record) -> None:
    arrived = max(1.0 - record.loss_seen, _BRUTAL_FLOOR)
    record.pacing_rate = record.rate_cap / arrived
    bandwidth_delay = record.rate_cap / arrived * max(record.srtt, 0.001)
    record.cwnd = max(2.0 * bandwidth_delay + _SLACK, _INITIAL_CWND)


@kernel
def is_quiet(record: np.record) -> bool:
    """Return whether packets sent now tell the loss of the path itself: the lane is below its rate, its queue empty."""
    return bool(record.mode == DOWN and record.srtt < 1.25 * record.min_rtt + 0.001)


@kernel
def note_resolved(record: np.record, lost: int, quiet: int) -> None:
    """Count one resolved packet in the loss estimates.

    ``loss_seen`` remembers about as many packets as the window holds: what a RECEIPT acknowledges is resolved at once,
    and what it finds lost thereafter. With 256, fewer than a burst at line rate, 2 % of loss looked like 8 % each time
    and got three times the parity.
    """
    record.loss_seen += (lost - record.loss_seen) / max(_LOSS_MEMORY, record.cwnd * (1.0 / 1400.0))
    if quiet:
        fade = 0.5 if record.quiet_all > _QUIET_MEMORY else 1.0
        record.quiet_all = (record.quiet_all + 1.0) * fade
        record.quiet_lost = (record.quiet_lost + lost) * fade


@kernel
def refill_tokens(record: np.record, now: float, rested: float) -> None:
    """Add what the pacing rate has earned since the last call, up to BURST_SECONDS of it or BURST_LEAST.

    More if packets have waited for it all the time: up to LATE_MOST. Or while the worker has ``rested``: what came then
    would have left in time.
    """
    least = BURST_BEGIN if record.control == BBR and record.mode == STARTUP else BURST_LEAST
    seconds = now - record.tokens_at
    most = max(BURST_SECONDS, rested)
    if record.limited == HELD_BY_PACER:
        most = max(most, min(seconds, LATE_MOST))
    burst = max(record.pacing_rate * most, least)
    record.tokens = min(burst, record.tokens + seconds * record.pacing_rate)
    record.tokens_at = now
