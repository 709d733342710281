"""Runs a sans-IO QUIC end on the asyncio loop: datagrams in, events and datagrams out, one timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

E = TypeVar("E")

_TURNS = 16
"""Rounds of events and packets in a flush; what is left comes with the next turn of the loop."""
_SHORTEST = 0.001
"""Seconds; a timer that is overdue again and again must not take the whole loop."""


class QuicEnd(Protocol[E]):
    """What ServerPaths and ClientPath have in common; times are those of the loop."""

    def receive(self, data: bytes, socket: int, peer: tuple[str, int], now: float) -> None:
        """Take a datagram."""

    def transmit(self, now: float) -> list[tuple[int, bytes, tuple[str, int]]]:
        """Return (socket, datagram, peer) for everything that is to be sent now."""

    def timer(self) -> float | None:
        """Return when ``run_timers`` has to be called."""

    def run_timers(self, now: float) -> None:
        """Do what is due."""

    def take_events(self) -> list[E]:
        """Return what has happened since the last call."""


class Pump(Generic[E]):
    """Keeps one QUIC end going until it is stopped.

    Parameters
    ----------
    send
        Sends a datagram; never blocks.
    on_event
        Acts on an event. It is called before the datagrams that belong to the event leave: a lane is installed before
        the peer learns that it may use it.
    """

    def __init__(
        self,
        end: QuicEnd[E],
        send: Callable[[int, bytes, tuple[str, int]], None],
        on_event: Callable[[E], None],
    ) -> None:
        self._end = end
        self._send = send
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._soon: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def receive(self, data: bytes, number: int, peer: tuple[str, int]) -> None:
        """Take a datagram; all that arrive in one turn of the loop are answered together."""
        if not self._stopped:
            self._end.receive(data, number, peer, self._loop.time())
            self.wake()

    def wake(self) -> None:
        """See to events and packets soon; to be called after every other call of the end."""
        if self._soon is None and not self._stopped:
            self._soon = self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """See to events and packets now."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        for _ in range(_TURNS):
            events = self._end.take_events()
            for event in events:
                self._on_event(event)
            datagrams = self._end.transmit(self._loop.time())
            for number, data, peer in datagrams:
                self._send(number, data, peer)
            if not events and not datagrams:
                break
        else:
            self.wake()
        self._arm()

    def stop(self) -> None:
        """Stop. Flush before, if something has to leave."""
        self._stopped = True
        for handle in (self._soon, self._timer):
            if handle is not None:
                handle.cancel()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._end.timer()
        if due is not None and not self._stopped:
            self._timer = self._loop.call_at(max(due, self._loop.time() + _SHORTEST), self._run_timers)

    def _run_timers(self) -> None:
        self._timer = None
        self._end.run_timers(self._loop.time())
        self.flush()
