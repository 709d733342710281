"""Rates and byte counters of users: a bucket for each direction, shared by all sessions of the user.

What is sent takes tokens as it leaves, and new shards wait while there are none. What is received takes tokens as it is
delivered: while there are none, the bytes of streams stay where they are, so that credit makes the sender wait, and no
byte is lost; packets, which know no credit, are dropped and counted. A bucket may go into debt by one batch.
"""

from __future__ import annotations

import numpy as np

from drivers.kernel import kernel
from vantun.session.tables import Tables, head

_BURST_SECONDS = 0.05
_BURST_MIN = 32_768.0
_WINDOW_SECONDS = 0.25


@kernel
def set_rates(t: Tables, user: int, sending: float, receiving: float, now: float) -> None:
    """Limit a user to bytes per second from now on; 0 = no limit."""
    record = head(t).user[user]
    record.send_rate = sending
    record.send_tokens = _depth(sending)
    record.send_at = now
    record.receive_rate = receiving
    record.receive_tokens = _depth(receiving)
    record.receive_at = now


@kernel
def _depth(rate: float) -> float:
    return float(max(rate * _BURST_SECONDS, _BURST_MIN))


@kernel
def may_send(t: Tables, session: int, now: float) -> bool:
    """Return whether the user of a session has tokens for what is sent."""
    record = t.user[t.session[session].user]
    if record.send_rate <= 0.0:
        return True
    earned = max(0.0, now - record.send_at) * record.send_rate
    record.send_tokens = min(record.send_tokens + earned, _depth(record.send_rate))
    record.send_at = now
    return bool(record.send_tokens > 0.0)


@kernel
def send_wait(t: Tables, session: int) -> float:
    """Return the seconds until :func:`may_send`, which was called just now, says yes; a millisecond's worth is due."""
    record = t.user[t.session[session].user]
    if record.send_rate <= 0.0 or record.send_tokens > 0.0:
        return 0.0
    return float(0.001 - record.send_tokens / record.send_rate)


@kernel
def may_receive(t: Tables, session: int, now: float) -> bool:
    """Return whether the user of a session has tokens for what is received."""
    record = t.user[t.session[session].user]
    if record.receive_rate <= 0.0:
        return True
    earned = max(0.0, now - record.receive_at) * record.receive_rate
    record.receive_tokens = min(record.receive_tokens + earned, _depth(record.receive_rate))
    record.receive_at = now
    return bool(record.receive_tokens > 0.0)


@kernel
def receive_wait(t: Tables, session: int, now: float) -> float:
    """Return the seconds until bytes may be delivered to the ports of a session: 0 = now."""
    t = head(t)
    if may_receive(t, session, now):
        return 0.0
    record = t.user[t.session[session].user]
    return float(0.001 - record.receive_tokens / record.receive_rate)


@kernel
def take_received(t: Tables, session: int, size: int) -> None:
    """Take tokens for ``size`` bytes of streams that were delivered."""
    t = head(t)
    record = t.user[t.session[session].user]
    if record.receive_rate > 0.0:
        record.receive_tokens -= size


@kernel
def most_window(t: Tables, session: int) -> int:
    """Return the largest credit of a flow: no more than a limited user can use within a quarter of a second."""
    most = np.int64(t.policy[0].window_max)
    rate = t.user[t.session[session].user].receive_rate
    if rate > 0.0:
        most = min(most, max(np.int64(rate * _WINDOW_SECONDS), t.policy[0].window_initial))
    return int(most)
