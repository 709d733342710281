"""Streams whose TCP sockets are lent to compiled code: which they are, and whose sockets may have bytes."""

from __future__ import annotations

from drivers.kernel import kernel
from vantun.session.limits import MAX_FLOWS
from vantun.session.tables import DESCRIPTORS, Tables, head
from vantun.wire.integers import int64


@kernel
def lend_stream(t: Tables, index: int, descriptor: int) -> bool:
    """Have compiled code read and write the socket of a flow from now on; False = its descriptor is too large.

    The flow must end, or the stream be forgotten, before the descriptor is closed, or no kernel run in between.
    """
    t = head(t)
    if descriptor >= DESCRIPTORS:
        return False
    forget_stream(t, index)
    t.flow[index].descriptor = descriptor + 1
    t.stream_of[descriptor] = index + 1
    t.pool[0].lent += 1
    return True


@kernel
def forget_stream(t: Tables, index: int) -> None:
    """Leave the socket of a flow alone; one that was not lent stays as it is."""
    t = head(t)
    record = t.flow[index]
    if record.descriptor > 0:
        t.stream_of[record.descriptor - 1] = 0
        record.descriptor = 0
        t.pool[0].lent -= 1


@kernel
def lent_stream(t: Tables, descriptor: int) -> int:
    """Return the flow that a descriptor is lent for, or -1."""
    return int64(t.stream_of[descriptor]) - 1 if 0 <= descriptor < DESCRIPTORS else -1


@kernel
def want_refill(t: Tables, index: int) -> None:
    """Put a lent stream at the end of the ring of those whose sockets may have bytes, once."""
    t = head(t)
    record = t.flow[index]
    if record.refill:
        return
    record.refill = 1
    pool = t.pool[0]
    t.refill[(pool.refill_first + pool.refills) & (MAX_FLOWS - 1)] = index
    pool.refills += 1
