"""The fast path of a worker's loop: what is lent to compiled code, and what is made of the place where it ended.

:mod:`vantun.dataplane.fast_kernels` makes turns by itself for as long as nothing but packets of the TUN and bytes
of streams move. It ends at anything else, often in the middle of a turn; :meth:`FastTurns.finish` does what is left of
the step it was at, and the loop goes on with that turn.
"""

from __future__ import annotations

import time
from typing import cast

import numpy as np

from drivers.linux.udp import UdpSocket
from drivers.linux.udp_kernel import SendBuffers
from drivers.linux.udp_lent import DESCRIPTOR, NUMBER, WORDS, ReceiveBuffers
from drivers.linux.wait_kernel import EVENT_DESCRIPTOR, EVENT_FLAGS, EVENT_WORDS, MAX_EVENTS
from vantun.dataplane import fast_state as fast
from vantun.dataplane.context import STAGES
from vantun.dataplane.fast_kernels import serve
from vantun.dataplane.fast_state import FastPath
from vantun.dataplane.pipeline import Dataplane
from vantun.dataplane.poller import Poller
from vantun.dataplane.steady_clock import SteadyClock
from vantun.dataplane.tun_port import TunPorts
from vantun.dataplane.tun_sessions import TunSessions
from vantun.dataplane.tun_tables import TunTables
from vantun.dataplane.wake import IN_AT, OUT_AT, Wake
from vantun.dataplane.worker_sockets import WorkerSockets

REASONS = (
    "ready",
    "clock",
    "rows",
    "arrived",
    "receive_refused",
    "wanted",
    "read_for_others",
    "device_lost",
    "departed",
    "unsent",
)
"""Names of why turns without Python ended, in the order of :mod:`.fast_kernels`."""
LONGEST = 10.0
"""Seconds after which Python has a turn in any case."""
PATIENCE = 8
"""Turns in a row that compiled code began, or was woken for, in vain, until it is asked less often: where all that
moves is Python's (datagrams of associations, streams of users with a rate) asking would cost each turn something."""
LEAST = 16
"""Turns of Python between two attempts then, at most."""


class FastTurns:
    """Turns without Python.

    Attributes
    ----------
    turns
        Turns made here from beginning to end.
    ended
        How often they ended, by reason (REASONS), and how often none could be made ("not_now").
    moved
        Packets that the turn which needs Python has received and sent so far.
    turn_at, away
        When that turn began, and for how long others had the core before it, as :class:`Poller` has it.
    """

    def __init__(
        self,
        plane: Dataplane,
        ports: tuple[WorkerSockets, TunPorts, int],
        poller: Poller,
        clock: SteadyClock,
        wake: Wake,
    ) -> None:
        """Make turns over ``ports``: lanes' sockets, the device, the descriptor of the control process."""
        self.turns = 0
        self.ended = dict.fromkeys((*REASONS, "not_now"), 0)
        self.moved = (0, 0)
        self.turn_at = 0.0
        self.away = 0.0
        self._sockets, self._tun, self._control = ports
        self._plane, self._poller, self._clock, self._wake = plane, poller, clock, wake
        self._rows = np.zeros((fast.SOCKETS, WORDS), np.int64)
        self._state = np.zeros(fast.FAST_WORDS, np.int64)
        self._times = np.zeros(fast.FAST_TIMES)
        self._words, self._seconds = self._state.data, cast("memoryview[float]", self._times.data)
        self._events = np.zeros((MAX_EVENTS, EVENT_WORDS), np.int32)
        self._words[fast.EPOLL] = poller.fileno()
        self._words[fast.BASE] = plane.context.address
        self._path: FastPath | None = None
        self._reason = fast.READY
        self._vain, self._skip = 0, 0

    def run(self, due: float, idle_turns: int) -> bool:
        """Make turns until one needs Python; False = none can be made now.

        ``due`` is when something else than packets has to be done, ``idle_turns`` how many turns had no effect.
        """
        if self._skip > 0:
            self._skip -= 1
            self.ended["not_now"] += 1
            return False
        now = self._clock()
        due = min(due, self._plane.settled(now), now + LONGEST)
        buffers = self._sockets.lend(self._rows) if due > now else None
        lent = self._tun.lend() if buffers is not None else None
        if buffers is None or lent is None:
            self.ended["not_now"] += 1
            return False
        tables, device = lent
        words, seconds = self._words, self._seconds
        waiting = device >= 0 and self._tun.waiting
        words[fast.SOCKET_COUNT], words[fast.DEVICE] = len(self._sockets), device
        words[fast.WAITING], words[fast.IDLE], words[fast.TURNS] = waiting, idle_turns, 0
        seconds[fast.PLANE_DUE] = now if waiting else self._plane.next_event(now)
        seconds[fast.OTHER_DUE] = due
        seconds[fast.LOST_TIME], seconds[fast.LAST] = self._clock.lost, now + self._clock.lost
        self._reason = serve(self._plane.context.tables.root, self._path_over(tables, buffers))
        self.ended[REASONS[self._reason]] += 1
        self._take_back()
        return True

    def _path_over(self, tables: TunTables, buffers: tuple[ReceiveBuffers, SendBuffers]) -> FastPath:
        """Return what compiled code works on: the same object while nothing has changed, which is laid out once."""
        path = self._path
        if path is None or path.tun is not tables or path.received is not buffers[0]:
            path = self._path = fast_path(self._plane, tables, buffers, self._rows)._replace(
                state=self._state, times=self._times, wake=self._wake.words, events=self._events
            )
        return path

    def _take_back(self) -> None:
        words, seconds, reason = self._words, self._seconds, self._reason
        self._sockets.take_back(self._rows)
        self._clock.follow(seconds[fast.LAST], seconds[fast.MEANT] if reason == fast.LEAPT else 0.0)
        self._plane.go_on(seconds[fast.PLANE_DUE])
        if words[fast.DEVICE] >= 0:
            error = -words[fast.STATUS] if reason == fast.LOST else 0
            self._tun.take_back(waiting=bool(words[fast.WAITING]), error=error)
        self.turns = words[fast.TURNS]
        if self.turns:
            self._vain = 0
        elif self.begun or words[fast.EVENTS] > 0:
            self._vain += 1
        self._skip = min(max(self._vain - PATIENCE, 0), LEAST)
        self.moved = words[fast.GOT], words[fast.GONE]
        self.turn_at, self.away = seconds[fast.TURN_AT], seconds[fast.AWAY]
        # A stream, or the like, shall not wait for long rests; the control process can: it asks every second or two.
        if reason == fast.READY and words[fast.EVENTS] > 0 and self._others_ready():
            self._wake.words[[OUT_AT, IN_AT]] = self.turn_at

    def _others_ready(self) -> bool:
        """Tell whether something is ready besides packets and the control process."""
        known = {self._control, self._words[fast.DEVICE]}
        known.update(self._rows[: self._words[fast.SOCKET_COUNT], DESCRIPTOR].tolist())
        return not known.issuperset(descriptor for descriptor, _ in self.ready())

    @property
    def idle_turns(self) -> int:
        """How many of the last turns had no effect."""
        return self._words[fast.IDLE]

    @property
    def begun(self) -> bool:
        """Whether the turn that needs Python has been begun: then :meth:`finish` comes next, else :meth:`ready`."""
        return self._reason >= fast.ARRIVED

    def ready(self) -> list[tuple[int, int]]:
        """Return what is ready before the turn, (descriptor, events)."""
        found = self._events[: self._words[fast.EVENTS]]
        return list(zip(found[:, EVENT_DESCRIPTOR].tolist(), found[:, EVENT_FLAGS].tolist(), strict=True))

    def finish(self) -> int:
        """Do what is left of the step at which the turn was left; return the packets that were sent in addition."""
        words, now, plane, sockets = self._words, self.turn_at, self._plane, self._sockets
        number = int(self._rows[words[fast.SOCKET], NUMBER])
        found = words[fast.STATUS], words[fast.FIRST], words[fast.ENDED]
        match self._reason:
            case fast.ARRIVED:
                assert self._path is not None
                batch, part = self._path.received.batch, (words[fast.AT], words[fast.COUNT])
                sockets.strangers(number, batch, plane.received(found, batch, part, self._clock()))
            case fast.REFUSED_RECEIVE:
                sockets.retry(number)
            case fast.DEPARTED:
                outgoing = plane.departed((*found, self._seconds[fast.PLANE_DUE]), now)
                if outgoing.packets:
                    sockets.send(outgoing, now)
                return outgoing.packets
            case fast.UNSENT:
                plane.resume(now)
                sockets.send(plane.sealed(found[2]), now, found[1])
                return found[2] - found[1]
            case _:
                plane.resume(now)
        return 0


def fast_path(
    plane: Dataplane, tables: TunTables, buffers: tuple[ReceiveBuffers, SendBuffers], rows: np.ndarray
) -> FastPath:
    """Return what :func:`.fast_kernels.serve` works on, with a state of its own."""
    first = STAGES.index("deliver")
    assert STAGES[first + 1] == "refill"
    arriving, leaving = plane.work
    return FastPath(
        arriving=arriving,
        leaving=leaving,
        tun=tables,
        streams=plane.streams,
        received=buffers[0],
        to_send=buffers[1],
        sockets=rows,
        state=np.zeros(fast.FAST_WORDS, np.int64),
        times=np.zeros(fast.FAST_TIMES),
        wake=Wake().words,
        events=np.zeros((MAX_EVENTS, EVENT_WORDS), np.int32),
        counters=plane.context.counters[first : first + 2],
        words=np.zeros(3, np.int64),
    )


def warm_fast(plane: Dataplane) -> None:
    """Have the kernels compiled, or loaded: a turn that something else is due at ends before it begins."""
    udp = UdpSocket.bind("127.0.0.1", 0)
    try:
        path = fast_path(plane, TunSessions().tables, udp.lent, np.zeros((fast.SOCKETS, WORDS), np.int64))
        path.state[fast.EPOLL] = path.state[fast.DEVICE] = -1
        serve(plane.context.tables.root, path)
    finally:
        udp.close()
    Wake().note((0, 0), time.monotonic(), busy=False)
