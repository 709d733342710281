"""What turns without Python work on: the words that they and :mod:`vantun.dataplane.fast_path` tell each other by."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.linux.udp_kernel import SendBuffers
from drivers.linux.udp_lent import ReceiveBuffers
from vantun.dataplane.stream_kernels import StreamWork
from vantun.dataplane.tun_tables import TunTables
from vantun.dataplane.turn_kernels import Arriving, Leaving

SOCKETS = 8
"""Sockets that can be lent: a path has one, and paths more than that are rare."""
NOTHING_DONE = 1e-3
"""Least sleep after a turn without any effect, whatever the timers say."""
(READY, LEAPT, PAUSED, ARRIVED, REFUSED_RECEIVE, WANTED, READ_AWAY, LOST, DEPARTED, UNSENT) = range(10)
"""Why :func:`.fast_kernels.serve` ends. Before a turn: READY (other descriptors, or the time of something else), LEAPT
(the clock), PAUSED (rows are short). Within one: ARRIVED (datagrams to be looked at), REFUSED_RECEIVE, WANTED (events,
lost shards, a flow), READ_AWAY (packets for other workers), LOST (the device), DEPARTED (packets to be looked at), and
UNSENT."""

(
    EPOLL,
    SOCKET_COUNT,
    BASE,
    WAITING,
    TURNS,
    IDLE,
    EVENTS,
    GOT,
    GONE,
    SOCKET,
    AT,
    COUNT,
    STATUS,
    FIRST,
    ENDED,
    READ,
    WRITTEN,
    DEVICE,
    STREAMED,
    FAST_WORDS,
) = range(20)
"""Words of the state. Given: the epoll set, lent sockets, the address of the tables' memory, the TUN device's
descriptor (-1 = there is none, or it is to be left alone). Both ways: whether
packets may wait in the device, turns made, how many of the last had no effect. Told: events that nobody has served;
packets that the present turn has received and sent; and where it was left: the lent socket, the first packet of the
batch in the last call of ``arrive`` and how many there are, and the numbers that ``arrive`` or ``depart`` returned.
Remembered: packets read of the device and written to it until the last turn, and whether streams had a part in this."""
(PLANE_DUE, OTHER_DUE, LOST_TIME, LAST, MEANT, TURN_AT, AWAY, FAST_TIMES) = range(8)
"""Of the times: when the data plane and when anything else has something to do; what the clock has left out; its last
reading, how long the sleep after it was meant to be; when the present turn began, and for how long others had the core
before it."""
DELIVER, REFILL = range(2)
"""Lines of the counters."""


class FastPath(NamedTuple):
    """What :func:`.fast_kernels.serve` works on.

    Attributes
    ----------
    arriving, leaving
        Those of the stages.
    tun
        The TUN device.
    streams
        That of reading and writing streams.
    received, to_send
        Buffers of a socket, for all of them.
    sockets
        [shape=(SOCKETS, WORDS), dtype=int64] lent ones.
    state, times
        [shape=(FAST_WORDS,), dtype=int64], [shape=(FAST_TIMES,), dtype=float64].
    wake
        [shape=(WAKE_WORDS,), dtype=float64].
    events
        [shape=(MAX_EVENTS, EVENT_WORDS), dtype=int32].
    counters
        [shape=(2, 4), dtype=int64] of the stages deliver and refill.
    words
        [shape=(3,), dtype=int64] for calls of the C library.
    """

    arriving: Arriving
    leaving: Leaving
    tun: TunTables
    streams: StreamWork
    received: ReceiveBuffers
    to_send: SendBuffers
    sockets: NDArray[np.int64]
    state: NDArray[np.int64]
    times: NDArray[np.float64]
    wake: NDArray[np.float64]
    events: NDArray[np.int32]
    counters: NDArray[np.int64]
    words: NDArray[np.int64]
