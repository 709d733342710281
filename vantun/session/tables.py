"""The tables of a worker: every lane, channel, block, flow and row of every session, allocated once.

Python objects exist per session and path only; per packet there is a row in one of these arrays. Pages that no
session touches are never backed by memory (``numpy.zeros`` leaves that to the kernel).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vantun.session.layout import (
    BLOCK_SPAN,
    block_dtype,
    channel_dtype,
    flow_dtype,
    inflight_dtype,
    lane_dtype,
    policy_dtype,
    pool_dtype,
    rx_block_dtype,
    session_dtype,
    span_dtype,
)

CHANNELS = 3
"""Channels of a session and direction."""
CONTROL, INTERACTIVE, BULK = range(CHANNELS)
CHANNEL_NAMES = ("control", "interactive", "bulk")

SESSION_LANES = 8
"""Lanes a session may have at once."""
WINDOW = 128
"""Blocks a channel may have open at once, at each end; a power of two."""
RATE_ROUNDS = 10
"""Rounds of delivery rates kept per lane."""
RX_RANGES = 64
"""Packet-number ranges kept per lane; the newest 32 fit a RECEIPT."""
REPLAY_WORDS = 128
"""64-bit words of a lane's replay window: 8192 packet numbers."""


@dataclass(frozen=True)
class Limits:
    """Sizes of the tables; each bounds what a peer can make this worker hold."""

    sessions: int = 64
    lanes: int = 256
    flows: int = 8192
    rows: int = 65536
    """Rows of the pool: plaintext shards in both directions."""
    inflight: int = 16384
    """Unresolved packets per lane; a power of two."""
    flows_per_session: int = 4096


class Tables(NamedTuple):
    """Every array of a worker. A NamedTuple, so that it enters a kernel as one argument.

    Indexes: ``session`` s, ``lane`` l, ``flow`` f, ``channel`` c = s * CHANNELS + class (one row holds both directions).
    """

    memory: NDArray[np.uint8]
    """[rows * stride] the row pool: an arena's flat memory."""
    policy: Any
    """[1] settings of this worker (policy_dtype)."""
    pool: Any
    """[1] free stacks and counters (pool_dtype)."""
    free_row: NDArray[np.int32]
    row_refs: NDArray[np.int16]
    row_next: NDArray[np.int32]
    """Next parity row of the same block (-1 = last)."""
    row_tag: NDArray[np.uint8]
    """Matrix row of a parity row."""
    row_unit: NDArray[np.int32]
    """Bytes of the unit in a row."""
    row_seq: NDArray[np.int64]
    """First shard number of the span of a parity row that waits to be sent."""
    session: Any
    session_lane: NDArray[np.int32]
    """[sessions, SESSION_LANES] lanes of a session, dense from the front; -1 = none."""
    lane: Any
    inflight: Any
    """[lanes, inflight] what became of packet number n, at n modulo the ring."""
    rate: NDArray[np.float64]
    """[lanes, RATE_ROUNDS] largest delivery rate of each of the last rounds, bytes/s."""
    replay: NDArray[np.uint64]
    """[lanes, REPLAY_WORDS]"""
    rx_range: NDArray[np.int64]
    """[lanes, RX_RANGES, 2] received packet numbers, inclusive, ascending."""
    channel: Any
    block: Any
    """[channels, WINDOW] blocks being sent."""
    tx_row: NDArray[np.int32]
    """[channels, WINDOW, BLOCK_SPAN] rows of their data shards."""
    rx_block: Any
    """[channels, WINDOW] blocks being received: the span store."""
    rx_row: NDArray[np.int32]
    """[channels, WINDOW, BLOCK_SPAN]"""
    flow: Any
    free_flow: NDArray[np.int32]
    span: Any
    """[rows] pieces of flows waiting for delivery (span_dtype), chained by ``next``."""
    free_span: NDArray[np.int32]
    lane_key: NDArray[np.uint64]
    lane_value: NDArray[np.int32]
    flow_key: NDArray[np.uint64]
    flow_value: NDArray[np.int32]
    deliver: NDArray[np.int32]
    """[flows] flows with bytes or an end to deliver; ``pool.delivers`` are valid."""
    decode: NDArray[np.int32]
    """[blocks, 2] (channel, slot) of blocks to be decoded; ``pool.decodes`` are valid."""
    event: NDArray[np.int64]
    """[events, 6] rare things for Python: (kind, session, flow or lane, a, b, c)."""


EVENTS = 4096
DECODES = 1024
"""Blocks decoded in one job; the rest wait for the next."""


def _stack(count: int) -> NDArray[np.int32]:
    return np.arange(count - 1, -1, -1, dtype=np.int32)


def make_tables(limits: Limits, memory: NDArray[np.uint8], stride: int) -> Tables:
    """Return empty tables over the row pool ``memory`` of ``limits.rows`` rows of ``stride`` bytes."""
    if len(memory) < limits.rows * stride:
        raise ValueError(f"row pool of {len(memory)} B is smaller than {limits.rows} rows of {stride} B")
    channels = limits.sessions * CHANNELS

    def records(shape: int | tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        return np.zeros(shape, dtype)

    tables = Tables(
        memory=memory,
        policy=records(1, policy_dtype),
        pool=records(1, pool_dtype),
        free_row=_stack(limits.rows),
        row_refs=np.zeros(limits.rows, np.int16),
        row_next=np.full(limits.rows, -1, np.int32),
        row_tag=np.zeros(limits.rows, np.uint8),
        row_unit=np.zeros(limits.rows, np.int32),
        row_seq=np.zeros(limits.rows, np.int64),
        session=records(limits.sessions, session_dtype),
        session_lane=np.full((limits.sessions, SESSION_LANES), -1, np.int32),
        lane=records(limits.lanes, lane_dtype),
        inflight=records((limits.lanes, limits.inflight), inflight_dtype),
        rate=np.zeros((limits.lanes, RATE_ROUNDS)),
        replay=np.zeros((limits.lanes, REPLAY_WORDS), np.uint64),
        rx_range=np.zeros((limits.lanes, RX_RANGES, 2), np.int64),
        channel=records(channels, channel_dtype),
        block=records((channels, WINDOW), block_dtype),
        tx_row=np.zeros((channels, WINDOW, BLOCK_SPAN), np.int32),
        rx_block=records((channels, WINDOW), rx_block_dtype),
        rx_row=np.zeros((channels, WINDOW, BLOCK_SPAN), np.int32),
        flow=records(limits.flows, flow_dtype),
        free_flow=_stack(limits.flows),
        span=records(limits.rows, span_dtype),
        free_span=_stack(limits.rows),
        lane_key=np.zeros(_hash_size(limits.lanes), np.uint64),
        lane_value=np.full(_hash_size(limits.lanes), -1, np.int32),
        flow_key=np.zeros(_hash_size(limits.flows), np.uint64),
        flow_value=np.full(_hash_size(limits.flows), -1, np.int32),
        deliver=np.zeros(limits.flows, np.int32),
        decode=np.zeros((DECODES, 2), np.int32),
        event=np.zeros((EVENTS, 6), np.int64),
    )
    pool = tables.pool[0]
    pool["rows_free"] = limits.rows
    pool["spans_free"] = limits.rows
    pool["flows_free"] = limits.flows
    pool["stride"] = stride
    return tables


def _hash_size(entries: int) -> int:
    """Return a power of two that keeps a table of ``entries`` at most a quarter full: probes stay short."""
    return 1 << (4 * entries - 1).bit_length()
