"""The row types of the session tables: one structured dtype per noun, with units.

Times are seconds (float64, the ``now`` of the caller), rates bytes per second, sizes bytes.
"""

from __future__ import annotations

import numpy as np

from vantun.session.drops_layout import drop_fields
from vantun.session.ecn_layout import ecn_fields

BLOCK_SPAN = 128
"""Numbers of a block: seq >> 7 is the block, seq & 127 the column of code 1."""
RESPONSES = 4
"""Answers to PROBEs that a lane may owe; more than that in one batch is no question."""

policy_dtype = np.dtype(
    [
        ("max_rows", "i4"),  # parity rows a block may use; 0 = FEC off, lost shards are sent again
        ("flows_per_session", "i4"),
        ("residual", "f8"),  # loss that standing parity may leave on interactive channels
        ("overhead", "f8"),  # standing parity at least, as a share of the data
        ("k_control", "i4"),
        ("k_interactive", "i4"),
        ("k_bulk", "i4"),
        ("k_packets", "i4"),
        ("budget_control", "f8"),  # a block closes this long after its first shard
        ("budget_interactive", "f8"),
        ("budget_packets", "f8"),
        ("hold_min", "f8"),  # how long packets wait for missing ones; see blocks.packet_hold
        ("hold_max", "f8"),
        ("pieces_per_flow", "i4"),  # pieces of packets (each keeps a row) that may wait for delivery
        ("pieces_per_session", "i4"),
        ("rekey_after", "i8"),  # packets of a key phase
        ("silence", "f8"),  # a lane that hears nothing for so long, with packets out, is suspect
        ("dead_after", "f8"),
        ("keepalive", "f8"),
        ("window_initial", "i8"),  # credit of a new flow
        ("window_max", "i8"),
        ("bulk_after", "i8"),  # bytes a flow may burst before it moves to the bulk channel
    ],
    align=True,
)

pool_dtype = np.dtype(
    [
        ("stride", "i8"),
        ("rows", "i8"),
        ("flows", "i8"),
        ("sessions", "i8"),
        ("rows_free", "i8"),
        ("spans_free", "i8"),
        ("flows_free", "i8"),
        ("delivers", "i8"),
        ("refills", "i8"),  # flows in the ring of those whose sockets may have bytes
        ("refill_first", "i8"),
        ("lent", "i8"),  # streams whose sockets compiled code reads and writes
        ("decodes", "i8"),
        ("events", "i8"),
        ("events_lost", "i8"),
        ("holdings", "i8"),
        ("actives", "i8"),  # sessions in the ring
        ("active_first", "i8"),
        ("timers", "i8"),  # sessions in the heap of due times
        ("held", "i8"),  # sessions with shards that wait for a lane
        ("planned_sessions", "i8"),  # sessions looked at by plan()
        ("hold_due", "f8"),  # when the first of the holding flows may have something to give up
        *drop_fields,
    ],
    align=True,
)

session_dtype = np.dtype(
    [
        ("used", "u1"),
        ("client", "u1"),
        ("id", "u8"),
        ("next_flow", "i8"),  # next id this end will open
        ("peer_flow", "i8"),  # largest id the peer has opened (-1 = none)
        ("flows", "i4"),
        ("unit", "i4"),  # bytes of the largest unit that fits every usable lane
        ("violation", "i4"),  # a protocol error was seen; the session is to be ended
        ("lanes", "i4"),
        ("pieces", "i4"),  # of packet flows, waiting for delivery
        ("turn", "i4"),  # shards sent in the present round of packets and bulk
        ("run_lane", "i4"),  # place in session_lane of the lane that spread shards take
        ("run", "i4"),  # and how many more
        ("repack_due", "u1"),  # the unit shrank: blocks that no longer fit go again in new shards
        ("epoch", "i8"),  # raised by every restart of either end
        ("restart", "u1"),  # this end has begun the epoch and waits for the peer
        ("restart_flow", "i8"),  # this end's first flow id of the epoch
        ("floor", "i4"),  # its place in the page of floors (-1 = none)
        ("active", "u1"),  # stands in the ring, or is being planned
        ("held", "u1"),  # shards wait for a lane: its rate, or its window
        ("timer_place", "i4"),  # place in the heap of due times, plus 1; 0 = none
        ("due", "f8"),
        ("user", "i4"),
        ("rows", "i4"),  # rows it holds: shards that wait for their block, pieces, shards not acknowledged
        ("spans", "i4"),  # pieces of its streams and packets that wait
        ("effort", "f8"),  # work that its records may still cost
        ("effort_at", "f8"),
    ],
    align=True,
)

lane_dtype = np.dtype(
    [
        ("used", "u1"),
        ("state", "u1"),
        ("backup", "u1"),  # carries data only while no other kind of lane is active
        ("standby", "u1"),  # it is one, and has nothing to do: as of the last plan
        ("session", "i4"),
        ("path", "i8"),
        ("socket", "i4"),
        ("peer", "i4"),
        ("slot", "i4"),
        ("send_cid", "u8"),
        ("floor", "i4"),  # its place in the page of floors (-1 = none)
        ("restart_at", "f8"),  # when to send RESTART (again), while the session waits for the peer
        ("restarted_due", "u1"),
        ("mtu", "i4"),  # UDP payload bytes of a full packet
        ("mtu_base", "i4"),
        ("big_lost", "i4"),  # full-size packets lost in a row, none acknowledged: a black hole?
        ("mtu_state", "u1"),  # FIXED, SEARCHING or COMPLETE
        ("mtu_settled", "u1"),  # its first search is over: it counts for the session's unit
        ("mtu_limit", "i4"),  # largest size that may be searched for
        ("mtu_high", "i4"),  # largest size that is not refuted
        ("mtu_probe", "i4"),  # size being tried, 0 = none
        ("padding", "i8"),  # bytes that only made packets longer
        ("mtu_tries", "i4"),
        ("mtu_due", "f8"),
        ("mtu_rest", "f8"),  # seconds of rest after the last black hole
        ("hole_round", "i4"),  # pairs of probes sent in doubt of the present size, plus 1; 0 = no doubt
        ("hole_small", "i4"),  # short ones that were answered
        # --- the peer's address (high and low half of IPv6, port), and one on trial
        ("peer_high", "u8"),
        ("peer_low", "u8"),
        ("peer_port", "i4"),
        ("trial", "u1"),
        ("trial_home", "u1"),  # the old address still receives
        ("other_answered", "u1"),
        ("other_high", "u8"),
        ("other_low", "u8"),
        ("other_port", "i4"),
        ("other_received", "i8"),  # bytes of authenticated packets from there
        ("other_sent", "i8"),
        ("other_rtt", "f8"),
        ("trial_at", "f8"),
        ("trial_due", "f8"),
        ("trial_after", "f8"),  # no trial before
        ("trial_rounds", "i4"),
        ("trial_from", "i8"),  # first packet number sent after the trial began
        ("trial_value", "u8"),
        # --- sending: numbers
        ("next_pn", "i8"),
        ("una", "i8"),  # lowest number not resolved
        ("late_till", "i8"),  # only below this number may an answer come to a packet that is behind una
        ("largest_acked", "i8"),
        ("phase", "u1"),
        ("phase_start", "i8"),
        ("phase_acked_at", "f8"),
        ("in_flight", "i8"),  # bytes sent and not resolved
        ("in_flight_packets", "i8"),
        # --- sending: time
        ("srtt", "f8"),
        ("rttvar", "f8"),
        ("latest_rtt", "f8"),
        ("min_rtt", "f8"),
        ("min_rtt_at", "f8"),
        ("rack_time", "f8"),  # send time of the newest acknowledged packet
        ("reorder", "f8"),  # reordering window, seconds
        ("last_sent", "f8"),
        ("last_eliciting", "f8"),
        ("last_heard", "f8"),
        ("pto_count", "i4"),
        ("probe_due", "u1"),
        ("probe_sent", "f8"),
        ("probe_value", "u8"),
        ("response_due", "u1"),  # answers owed
        ("response_value", "u8", (RESPONSES,)),
        # --- sending: rate
        ("delivered", "f8"),
        ("delivered_at", "f8"),
        ("first_sent", "f8"),
        ("app_limited", "f8"),  # value of delivered until which samples are application-limited
        ("control", "u1"),  # congestion controller: BBR or BRUTAL
        ("mode", "u1"),  # state of BBR
        ("rate_cap", "f8"),
        ("bandwidth", "f8"),
        ("loss", "f8"),  # share of packets lost while the queue was empty
        ("loss_seen", "f8"),  # share of packets lost, smoothed; for FEC and for status
        ("quiet_lost", "f8"),
        ("quiet_all", "f8"),
        ("pacing_rate", "f8"),
        ("cwnd", "f8"),
        ("gain", "f8"),
        ("round", "i8"),  # rounds in which the rate was measured
        ("measured", "u1"),  # the present one is such a round
        ("round_end", "f8"),  # value of delivered that ends the round
        ("round_rtt", "f8"),  # largest RTT of the round: a queue shows here before it does in srtt
        ("full_rate", "f8"),
        ("full_rounds", "i4"),
        ("phase_at", "f8"),
        ("tokens", "f8"),
        ("tokens_at", "f8"),
        *ecn_fields,
        ("limited", "u1"),  # the last packet waited for this lane: HELD_BY_WINDOW or HELD_BY_PACER
        # --- receiving
        ("largest_rx", "i8"),
        ("largest_rx_at", "f8"),
        ("rx_ranges", "i4"),
        ("rx_phase", "u1"),
        ("rx_phase_at", "f8"),
        ("rx_phase_start", "i8"),  # lowest number seen in the current phase
        ("unreported", "i4"),
        ("reported", "i8", (2,)),  # largest numbers that the last RECEIPT, and the one before it, told
        ("receipt_due", "f8"),
        ("rx_ecn", "i8", (4,)),  # packets to be acknowledged, by their ECN bits
        ("bad_tags", "i8"),
        # --- counters
        ("sent", "i8"),
        ("sent_bytes", "i8"),
        ("received", "i8"),
        ("received_bytes", "i8"),
        ("acked", "i8"),
        ("lost", "i8"),
        ("spurious", "i8"),
        ("rebinds", "i8"),  # addresses taken after a trial
        ("refused", "i8"),  # trials of addresses that did not answer
        ("spoofed", "i8"),  # trials that ended because the old address still receives
        ("elsewhere", "i8"),  # packets from other addresses that began no trial
    ],
    align=True,
)

inflight_dtype = np.dtype(
    [
        ("sent_at", "f8"),
        ("delivered", "f8"),
        ("seq", "i8"),  # shard number (DATA) or first of the span (PARITY)
        ("since_first", "f4"),  # sent_at less first_sent and delivered_at of the lane: short times need no more digits
        ("since_delivered", "f4"),
        ("channel", "i2"),
        ("size", "i2"),
        ("kind", "u1"),  # frame type, or CLOSED_DATA
        ("state", "u1"),
        ("app_limited", "u1"),
        ("quiet", "u1"),  # bit 0: sent while this lane kept below its rate; bit 1: as ECT(0)
    ],
    align=True,
)

channel_dtype = np.dtype(
    [
        # --- sending
        ("una_block", "i8"),
        ("block", "i8"),  # block being filled
        ("send_block", "i8"),  # block and column of the next shard never sent before
        ("send_column", "i4"),
        ("queued", "i4"),  # shards never sent before
        ("repairs", "i4"),  # shards marked to be sent again
        ("wanted", "i4"),  # parity rows to be computed
        ("parity_head", "i4"),  # parity rows computed and not sent, chained by row_next (-1 = none)
        ("parity_tail", "i4"),
        ("credit", "i8"),  # first block number the peer does not accept yet
        ("open_row", "i4"),  # control records or packets being collected (-1 = none)
        ("open_length", "i4"),
        ("open_flow", "i4"),  # packets: flow of the last record in the open row (-1 = none)
        ("open_record", "i4"),  # packets: where in the area the length and the bytes of that record are
        ("expiry", "f8"),  # packets: no block is overdue before
        ("burst", "f8"),  # packets: bytes put of late
        ("burst_at", "f8"),
        # --- receiving
        ("floor", "i8"),  # lowest block not complete
        ("highest", "i8"),
        ("largest_seq", "i8"),
        # --- counters
        ("shards", "i8"),
        ("bytes", "i8"),
        ("parity", "i8"),
        ("resent", "i8"),
        ("parity_bytes", "i8"),
        ("resent_bytes", "i8"),
        ("lost", "i8"),
        ("released", "i8"),
        ("rx_shards", "i8"),
        ("rx_parity", "i8"),
        ("rx_recovered", "i8"),
        ("rx_blocks", "i8"),
        ("packets_in", "i8"),  # put by ports of this end
        ("packets_out", "i8"),  # given to ports of this end
        ("dropped_full", "i8"),  # packets that found no room in the queue
        ("expired", "i8"),  # shards given up at the deadline, or too large for the path, and not acknowledged
        ("dropped_bound", "i8"),  # PACKETS records beyond what may wait for delivery
        ("dropped_late", "i8"),  # pieces of packets that came when it was too late for them
        ("holes", "i8"),  # times that delivery went on behind something missing
        ("skipped", "i8"),  # stream bytes, come or not, of the packets that were given up by it
        ("last_k", "i4"),
        ("last_m", "i4"),
    ],
    align=True,
)

block_dtype = np.dtype(
    [
        ("number", "i8"),
        ("acked", "u8", (2,)),
        ("again", "u8", (2,)),  # data shards to be sent again
        ("deadline", "f8"),  # when it closes
        ("expires", "f8"),  # when it is given up (packets only)
        ("n", "i2"),  # data shards so far
        ("k", "i2"),  # data shards, once closed (0 = open)
        ("sent", "i2"),
        ("live", "i2"),  # shards of this block that are queued or in flight
        ("acked_count", "i2"),  # data and parity accepted by the peer
        ("rows_used", "i2"),
        ("wanted", "i2"),  # parity rows to be computed
        ("standing", "i2"),  # the same, once all its data has been sent
        ("length", "i4"),  # bytes of its largest unit
        ("used", "u1"),
        ("told", "u1"),  # the peer has a shard that says k
    ],
    align=True,
)

rx_block_dtype = np.dtype(
    [
        ("number", "i8"),
        ("got", "u8", (2,)),
        ("length", "i4"),
        ("parity_head", "i4"),
        ("k", "i2"),
        ("have", "i2"),
        ("parity", "i2"),
        ("used", "u1"),
        ("complete", "u1"),
        ("queued", "u1"),  # waits for the decoder
    ],
    align=True,
)
