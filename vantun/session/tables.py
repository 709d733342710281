"""The tables of a worker: every lane, channel, block, flow and row of every session, allocated once.

Python objects exist per session and path only; per packet there is a row in one of these arrays. All of them lie in one
structured record, so that a kernel takes one pointer: with an argument per array the same kernels took four times as
long to compile. The record has a fixed layout with room for the largest worker; untouched pages cost no memory, and so
zeros mean "nothing" wherever they can.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.arena import Arena
from drivers.batch import SOCKADDR_SIZE
from drivers.kernel import before_compiling
from vantun.session.flow_layout import flow_dtype, span_dtype
from vantun.session.layout import (
    BLOCK_SPAN,
    block_dtype,
    channel_dtype,
    inflight_dtype,
    lane_dtype,
    policy_dtype,
    pool_dtype,
    rx_block_dtype,
    session_dtype,
)
from vantun.session.limits import MAX_FLOWS, MAX_LANES, MAX_ROWS, MAX_SESSIONS, MAX_STRIDE, MAX_USERS, Limits
from vantun.session.user_layout import user_dtype
from vantun.wire.frames import MAX_RANGES

CHANNELS = 4
"""Channels of a session and direction."""
CONTROL, INTERACTIVE, BULK, PACKETS = range(CHANNELS)
CHANNEL_NAMES = ("control", "interactive", "bulk", "packets")

SESSION_LANES = 8
"""Lanes a session may have at once."""
WINDOW = 128
"""Blocks a channel may have open at once, at each end; a power of two."""
RATE_ROUNDS = 10
"""Rounds of delivery rates kept per lane."""
RX_RANGES = MAX_RANGES
"""Packet-number ranges kept per lane: as many as a RECEIPT may have."""
REPLAY_WORDS = 128
"""64-bit words of a lane's replay window: 8192 packet numbers."""


INFLIGHT = 16384
"""Packets of a lane that may be unresolved; a power of two."""
DESCRIPTORS = 1 << 16
"""Descriptors by which a stream can be found; Python serves streams whose sockets have larger ones."""
EVENTS = 4096
DECODES = 4096
"""Blocks decoded in one job; the rest wait for the next."""
_PAGE = 4096


class Tables(NamedTuple):
    """Every array of a worker, as views of one record (``root``); kernels are given ``root`` and see the same names.

    Indexes: ``session`` s, ``lane`` l, ``flow`` f, ``channel`` c = s * CHANNELS + class (a row holds both directions).
    """

    root: Any
    """[1] the record itself: what a kernel called from Python takes."""
    policy: Any
    """[1] settings of this worker (policy_dtype)."""
    pool: Any
    """[1] free stacks and counters (pool_dtype)."""
    session: Any
    session_lane: NDArray[np.int32]
    """[sessions, SESSION_LANES] lanes of a session; -1 = none."""
    active: NDArray[np.int32]
    """[sessions] a ring of the sessions to be planned; ``pool.actives`` from ``pool.active_first`` on are valid."""
    timer: NDArray[np.int32]
    """[sessions] a binary heap of sessions by their due times; ``pool.timers`` are valid."""
    user: Any
    lane: Any
    rate: NDArray[np.float64]
    """[lanes, RATE_ROUNDS] largest delivery rate of each of the last rounds, bytes/s."""
    replay: NDArray[np.uint64]
    """[lanes, REPLAY_WORDS]"""
    rx_range: NDArray[np.int64]
    """[lanes, RX_RANGES, 2] received packet numbers, inclusive, ascending."""
    peer: NDArray[np.uint8]
    """[2 * MAX_LANES, SOCKADDR_SIZE] the peer's address of each lane, then of each lane the one on trial."""
    lane_key: NDArray[np.uint64]
    lane_value: NDArray[np.int32]
    channel: Any
    block: Any
    """[channels, WINDOW] blocks being sent."""
    rx_block: Any
    """[channels, WINDOW] blocks being received: the span store."""
    tx_row: NDArray[np.int32]
    """[channels, WINDOW, BLOCK_SPAN] rows of the data shards of ``block``."""
    rx_row: NDArray[np.int32]
    """[channels, WINDOW, BLOCK_SPAN]"""
    flow: Any
    flow_key: NDArray[np.uint64]
    flow_value: NDArray[np.int32]
    free_flow: NDArray[np.int32]
    deliver: NDArray[np.int32]
    """[flows] flows with bytes or an end to deliver; ``pool.delivers`` are valid."""
    refill: NDArray[np.int32]
    """[flows] a ring of lent streams whose sockets may have bytes; ``pool.refills`` from ``pool.refill_first`` on are
    valid."""
    stream_of: NDArray[np.int32]
    """[DESCRIPTORS] the flow that a descriptor is lent for, plus 1; 0 = none."""
    holding: NDArray[np.int32]
    """[flows] packet flows that wait for something missing; ``pool.holdings`` are valid."""
    decode: NDArray[np.int32]
    """[blocks, 2] (channel, slot) of blocks to be decoded; ``pool.decodes`` are valid."""
    event: NDArray[np.int64]
    """[events, 6] rare things for Python: (kind, session, flow or lane, a, b, c)."""
    free_row: NDArray[np.int32]
    row_refs: NDArray[np.int16]
    row_owner: NDArray[np.int16]
    """The session that holds a row, plus 1; 0 = none."""
    row_next: NDArray[np.int32]
    """Next parity row of the same block or queue (-1 = last)."""
    row_tag: NDArray[np.uint8]
    """Matrix row of a parity row."""
    row_unit: NDArray[np.int32]
    """Bytes of the unit in a row."""
    row_seq: NDArray[np.int64]
    """First shard number of the span of a parity row that waits to be sent."""
    free_span: NDArray[np.int32]
    span: Any
    """[rows] pieces of flows waiting for delivery (span_dtype), chained by ``next``."""
    inflight: Any
    """[lanes, INFLIGHT] what became of packet number n, at n modulo the ring."""
    memory: NDArray[np.uint8]
    """[MAX_ROWS * MAX_STRIDE] the row pool; last, so that the arena's guard page follows it."""


def _hash_size(entries: int) -> int:
    """Return a power of two that keeps a table of ``entries`` at most a quarter full: probes stay short."""
    return 1 << (4 * entries - 1).bit_length()


def _root_dtype() -> np.dtype[Any]:
    channels = MAX_SESSIONS * CHANNELS
    fields: list[tuple[str, Any, tuple[int, ...]]] = [
        ("policy", policy_dtype, (1,)),
        ("pool", pool_dtype, (1,)),
        ("session", session_dtype, (MAX_SESSIONS,)),
        ("session_lane", np.int32, (MAX_SESSIONS, SESSION_LANES)),
        ("active", np.int32, (MAX_SESSIONS,)),
        ("timer", np.int32, (MAX_SESSIONS,)),
        ("user", user_dtype, (MAX_USERS,)),
        ("lane", lane_dtype, (MAX_LANES,)),
        ("rate", np.float64, (MAX_LANES, RATE_ROUNDS)),
        ("replay", np.uint64, (MAX_LANES, REPLAY_WORDS)),
        ("rx_range", np.int64, (MAX_LANES, RX_RANGES, 2)),
        ("peer", np.uint8, (2 * MAX_LANES, SOCKADDR_SIZE)),
        ("lane_key", np.uint64, (_hash_size(MAX_LANES),)),
        ("lane_value", np.int32, (_hash_size(MAX_LANES),)),
        ("channel", channel_dtype, (channels,)),
        ("block", block_dtype, (channels, WINDOW)),
        ("rx_block", rx_block_dtype, (channels, WINDOW)),
        ("tx_row", np.int32, (channels, WINDOW, BLOCK_SPAN)),
        ("rx_row", np.int32, (channels, WINDOW, BLOCK_SPAN)),
        ("flow", flow_dtype, (MAX_FLOWS,)),
        ("flow_key", np.uint64, (_hash_size(MAX_FLOWS),)),
        ("flow_value", np.int32, (_hash_size(MAX_FLOWS),)),
        ("free_flow", np.int32, (MAX_FLOWS,)),
        ("deliver", np.int32, (MAX_FLOWS,)),
        ("refill", np.int32, (MAX_FLOWS,)),
        ("stream_of", np.int32, (DESCRIPTORS,)),
        ("holding", np.int32, (MAX_FLOWS,)),
        ("decode", np.int32, (DECODES, 2)),
        ("event", np.int64, (EVENTS, 6)),
        ("free_row", np.int32, (MAX_ROWS,)),
        ("row_refs", np.int16, (MAX_ROWS,)),
        ("row_owner", np.int16, (MAX_ROWS,)),
        ("row_next", np.int32, (MAX_ROWS,)),
        ("row_tag", np.uint8, (MAX_ROWS,)),
        ("row_unit", np.int32, (MAX_ROWS,)),
        ("row_seq", np.int64, (MAX_ROWS,)),
        ("free_span", np.int32, (MAX_ROWS,)),
        ("span", span_dtype, (MAX_ROWS,)),
        ("inflight", inflight_dtype, (MAX_LANES, INFLIGHT)),
        ("memory", np.uint8, (MAX_ROWS * MAX_STRIDE,)),
    ]
    offsets = []
    end = 0
    for name, dtype, shape in fields:
        align = _PAGE if name == "memory" else 64
        end = -(-end // align) * align
        offsets.append(end)
        end += np.dtype(dtype).itemsize * int(np.prod(shape))
    return np.dtype(
        {
            "names": [name for name, _, _ in fields],
            "formats": [(dtype, shape) for _, dtype, shape in fields],
            "offsets": offsets,
            "itemsize": end,
        }
    )


root_dtype = _root_dtype()


def make_tables(limits: Limits, stride: int) -> tuple[Tables, Arena]:
    """Return empty tables with ``limits.rows`` rows of ``stride`` bytes, and the arena that owns their memory."""
    if stride > MAX_STRIDE:
        raise ValueError(f"rows of {stride} B are larger than the tables allow ({MAX_STRIDE} B); lower the MTU")
    arena = Arena(1, root_dtype.itemsize)
    root = arena.memory.view(root_dtype)
    tables = Tables(root, *(root[0][name] for name in Tables._fields[1:]))
    tables.session_lane[:] = -1
    pool = tables.pool[0]
    pool["rows"] = limits.rows
    pool["flows"] = limits.flows
    pool["rows_free"] = limits.rows
    pool["spans_free"] = limits.rows
    pool["flows_free"] = limits.flows
    pool["sessions"] = limits.sessions
    pool["stride"] = stride
    pool["hold_due"] = np.inf
    return tables, arena


def head(t: Any) -> Any:
    """Return the record that a kernel works on: ``t[0]`` when Python called it with ``root``, ``t`` when a kernel did.

    (A record as a Python argument would do, but numba takes 2 ms to look at one.)
    """
    return t[0]


@before_compiling
def _teach_head() -> None:
    from numba import types
    from numba.extending import overload

    @overload(head)
    def _head(t):  # type: ignore[no-untyped-def] # numba compares signatures, annotations included
        if isinstance(t, types.Array):
            return lambda t: t[0]
        return lambda t: t
