"""What holds between any two calls of a data plane: every reference to a row is explained, every counter is a sum."""

from __future__ import annotations

from typing import Any

import numpy as np

from vantun.dataplane.pipeline import Dataplane
from vantun.session.flows import PACKET_FLOW
from vantun.session.layout import BLOCK_SPAN
from vantun.session.pool import stacked
from vantun.session.recovery import IN_FLIGHT
from vantun.session.tables import CHANNELS, INFLIGHT, WINDOW


def _bits(words: Any) -> list[int]:
    return [bit for bit in range(BLOCK_SPAN) if int(words[bit >> 6]) >> (bit & 63) & 1]


def _chain(first: int, following: Any) -> list[int]:
    chain = []
    while first >= 0:
        chain.append(first)
        assert len(chain) < 1 << 20, "a chain of rows or pieces bites its tail"
        first = int(following[first])
    return chain


def check_tables(plane: Dataplane) -> None:
    """Check rows, pieces, blocks, lanes and flows of every session against each other."""
    t = plane.context.tables
    pool = t.pool[0]
    refs = np.zeros(int(pool["rows"]), int)
    pieces: list[int] = []
    in_flight = _check_lanes(plane)
    assert int(pool["held"]) == int(t.session["held"].sum())
    for session in np.flatnonzero(t.session["used"][: int(pool["sessions"])]):
        for channel in range(session * CHANNELS, session * CHANNELS + CHANNELS):
            _check_sending(t, channel, refs, in_flight)
            _check_receiving(t, channel, refs)
        here = (t.flow["used"] == 1) & (t.flow["session"] == session)
        waiting = int(t.flow["pieces"][here].sum())
        assert int(t.session[session]["pieces"]) == waiting <= int(t.policy[0]["pieces_per_session"])
        assert int(t.session[session]["flows"]) == int(np.sum((t.flow["used"] == 1) & (t.flow["session"] == session)))
    for index in np.flatnonzero(t.flow["used"] == 1):
        flow = t.flow[index]
        mine = _chain(int(flow["head"]), t.span["next"])
        assert int(flow["pending"]) == sum(int(t.span[piece]["length"]) for piece in mine)
        assert int(flow["tail"]) == (mine[-1] if mine else -1)
        starts = [int(t.span[piece]["offset"]) for piece in mine]
        assert starts == sorted(starts)
        if flow["kind"] == PACKET_FLOW:
            since = [float(t.span[piece]["at"]) for piece in mine]
            assert since == sorted(since)
            assert int(flow["pieces"]) == len(mine) <= int(t.policy[0]["pieces_per_flow"])
            assert int(flow["hint"]) in (-1, *mine)
            assert int(flow["scan"]) in (-1, *mine)
        else:
            assert int(flow["pieces"]) == 0
            assert all(int(t.span[p]["offset"]) + int(t.span[p]["length"]) <= int(flow["granted"]) for p in mine)
        pieces += mine
    for piece in pieces:
        refs[int(t.span[piece]["row"])] += 1
    free = [stacked(t.free_row, int(pool["rows"]), count) for count in range(1, int(pool["rows_free"]) + 1)]
    assert len(set(free)) == len(free)
    assert not refs[free].any()
    taken = np.setdiff1d(np.arange(len(refs)), free)
    assert refs[taken].tolist() == t.row_refs[taken].tolist()
    owner = t.row_owner[: len(refs)]
    assert not owner[free].any()
    held = np.bincount(owner, minlength=int(pool["sessions"]) + 1)[1 : int(pool["sessions"]) + 1]
    assert held.tolist() == t.session["rows"][: int(pool["sessions"])].tolist()
    holders = owner[[int(t.span[piece]["row"]) for piece in pieces]]
    spans = np.bincount(holders, minlength=int(pool["sessions"]) + 1)
    assert spans[0] == 0
    assert spans[1 : int(pool["sessions"]) + 1].tolist() == t.session["spans"][: int(pool["sessions"])].tolist()
    assert len(set(pieces)) == len(pieces)
    assert int(pool["spans_free"]) == int(pool["rows"]) - len(pieces)
    lent = np.flatnonzero(t.flow["descriptor"] > 0)
    assert (t.flow["used"][lent] == 1).all()
    assert (t.stream_of[t.flow["descriptor"][lent] - 1] == lent + 1).all()
    assert int(pool["lent"]) == len(lent) == np.count_nonzero(t.stream_of)
    assert int(pool["flows_free"]) == plane.config.limits.flows - int(np.sum(t.flow["used"]))


def _check_lanes(plane: Dataplane) -> dict[tuple[int, int], int]:
    """Return how many shards of each (channel, block) are in flight."""
    t = plane.context.tables
    shards: dict[tuple[int, int], int] = {}
    for lane in plane.sessions.lanes():
        record = t.lane[lane]
        una, following = int(record["una"]), int(record["next_pn"])
        assert 0 <= una <= following <= una + INFLIGHT
        numbers = np.arange(una, following) & (INFLIGHT - 1)
        entries = t.inflight[lane][numbers]
        entries = entries[entries["state"] == IN_FLIGHT]
        assert int(record["in_flight_packets"]) == len(entries)
        assert int(record["in_flight"]) == int(entries["size"].sum())
        for entry in entries:
            if entry["kind"] & 8:
                key = int(entry["channel"]), int(entry["seq"]) >> 7
                shards[key] = shards.get(key, 0) + 1
    return shards


def _check_sending(t: Any, channel: int, refs: Any, in_flight: dict[tuple[int, int], int]) -> None:
    ch = t.channel[channel]
    repairs = wanted = queued = 0
    if ch["open_row"] >= 0:
        refs[int(ch["open_row"])] += 1
    parity = _chain(int(ch["parity_head"]), t.row_next)
    refs[parity] += 1
    for slot in np.flatnonzero(t.block[channel]["used"]):
        block = t.block[channel, slot]
        number, n = int(block["number"]), int(block["n"])
        assert number & (WINDOW - 1) == slot
        assert int(ch["una_block"]) <= number <= int(ch["block"])
        assert (number == int(ch["block"])) == (int(block["k"]) == 0)
        refs[t.tx_row[channel, slot, :n]] += 1
        again = _bits(block["again"])
        repairs += len(again)
        wanted += int(block["wanted"])
        queued += n - int(block["sent"])
        waiting = sum(int(t.row_seq[row]) >> 7 == number for row in parity)
        under_way = in_flight.get((channel, number), 0)
        live = n - int(block["sent"]) + len(again) + int(block["wanted"]) + int(block["standing"]) + waiting + under_way
        assert int(block["live"]) == live, f"block {number} of channel {channel}"
        assert set(_bits(block["acked"])) <= set(range(n))
    assert (int(ch["repairs"]), int(ch["wanted"]), int(ch["queued"])) == (repairs, wanted, queued)


def _check_receiving(t: Any, channel: int, refs: Any) -> None:
    ch = t.channel[channel]
    for slot in np.flatnonzero(t.rx_block[channel]["used"]):
        block = t.rx_block[channel, slot]
        assert int(ch["floor"]) <= int(block["number"]) < int(ch["floor"]) + WINDOW
        if block["complete"]:
            continue
        got = _bits(block["got"])
        assert len(got) == int(block["have"])
        assert not block["k"] or len(got) < int(block["k"])
        refs[t.rx_row[channel, slot, got]] += 1
        parity = _chain(int(block["parity_head"]), t.row_next)
        assert len(parity) == int(block["parity"])
        refs[parity] += 1
