"""Kernels that only other kernels call, in reach of Python: they take the root of the tables."""

from __future__ import annotations

from typing import Any

from drivers.kernel import kernel
from vantun.session.blocks import one_more
from vantun.session.rate import refill_tokens as _refill_tokens
from vantun.session.received import is_replay, note_number, note_range
from vantun.session.tables import WINDOW, head


@kernel
def take_number(t: Any, lane: int, number: int) -> bool:
    """Enter a packet number as the accept stage does; False if it is a replay."""
    t = head(t)
    if is_replay(t, lane, number):
        return False
    note_number(t, lane, number)
    return True


@kernel
def report(t: Any, lane: int, number: int) -> None:
    """Add a packet number to the ranges of the next RECEIPT."""
    t = head(t)
    note_range(t, lane, number)


@kernel
def refill_tokens(t: Any, lane: int, now: float, rested: float) -> None:
    """Fill the token bucket of a lane."""
    t = head(t)
    _refill_tokens(t.lane[lane], now, rested)


@kernel
def order_row(t: Any, channel: int, number: int) -> bool:
    """Order one more row for a block, as a probe timeout does."""
    t = head(t)
    return one_more(t, channel, t.block[channel, number & (WINDOW - 1)])
