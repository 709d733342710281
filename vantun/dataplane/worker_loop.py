"""The loop of a data worker: sleep until a socket or a timer, take packets in, give packets out, report.

One thread, no asyncio. A turn has a fixed order and bounded work; when the next one begins, wake.py decides.
"""

from __future__ import annotations

import math
import os
import resource
import select
import socket
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from drivers.batch import PacketBatch
from vantun.dataplane.commands import Commands
from vantun.dataplane.control_socket import ControlSocket
from vantun.dataplane.events import SocketFailed
from vantun.dataplane.fast_kernels import BATCHES
from vantun.dataplane.fast_path import FastTurns
from vantun.dataplane.fast_state import NOTHING_DONE
from vantun.dataplane.flow_ports import FlowPorts
from vantun.dataplane.pipeline import Dataplane
from vantun.dataplane.poller import Poller
from vantun.dataplane.snapshot import engine_fallbacks
from vantun.dataplane.steady_clock import SteadyClock
from vantun.dataplane.tun_port import TunPorts
from vantun.dataplane.udp_ports import UdpPorts
from vantun.dataplane.wake import Wake
from vantun.dataplane.worker_sockets import WorkerSockets
from vantun.session.tables import CHANNELS
from vantun.worker_messages import Message

_STOP_SECONDS = 0.5
_CONTROL_RETRY = 0.01


class WorkerLoop:
    """Everything of a worker around its data plane.

    Attributes
    ----------
    turns
        Turns made so far; an idle worker makes none.
    fast_turns
        Those of them that compiled code has made by itself.
    """

    def __init__(
        self,
        plane: Dataplane,
        control: socket.socket,
        clock: Callable[[], float] = time.monotonic,
        wake: Wake | None = None,
    ) -> None:
        self.turns = 0
        self.fast_turns = 0
        self._plane = plane
        clock = self._clock = SteadyClock(clock)
        self._poller = Poller()
        self._sockets = WorkerSockets(
            self._poller, self._receive, self._report_misses, clock, self._refuse, self._report_failure
        )
        self._ports = FlowPorts(plane, self._poller, clock)
        self._tun = TunPorts(plane, self._poller, lambda report: self._control.post(report), clock)
        self._tun.join(self._sockets.handover)
        self._udp = UdpPorts(plane, self._poller, lambda message: self._control.post(message), clock)
        self._commands = Commands(plane, self._ports, self._sockets, self._tun, self._udp, clock)
        self._control = ControlSocket(control, self._poller, self._serve)
        self._stop_at = math.inf
        self._received = 0
        self._wake = wake or Wake()
        self._idle_turns = 0
        self._fast: FastTurns | None = None

    def retune_by(self, retune: Callable[[bool, Mapping[str, Sequence[str]]], None]) -> None:
        """Have ``retune`` called when engines were measured (False), or also cleared of what they did (True).

        It is also given the services of then; see Configure.
        """
        self._commands.retune = retune

    def watch(self, descriptor: int, act: Callable[[], None]) -> None:
        """Have ``act`` called once, when ``descriptor`` becomes readable; it may close it."""

        def serve(_events: int) -> None:
            self._poller.remove(descriptor)
            act()

        self._poller.add(descriptor, select.EPOLLIN, serve)

    def use_fast_path(self) -> None:
        """Have compiled code make the turns that need no Python; the clock must be the monotonic one."""
        ports = self._sockets, self._tun, self._control.fileno()
        self._fast = FastTurns(self._plane, ports, self._poller, self._clock, self._wake)

    def run(self) -> None:
        """Serve until told to stop, or until the control process is gone."""
        while not self._control.closed and not self._stopped():
            self.step()

    def step(self) -> None:
        """Make turns until one has needed Python: the first, where no others are made."""
        fast, stopping = self._fast, self._stop_at != math.inf
        if fast is not None and not stopping and fast.run(self._other_due(self._clock()), self._idle_turns):
            self._follow(fast)
            return
        if self._wake.rest:
            time.sleep(self._wake.rest)
        self.turn(self.patience(self._clock()))

    def close(self) -> None:
        """Close the sockets to the network and to the control process, and the epoll set."""
        self._udp.shut()
        self._sockets.close()
        self._tun.close()
        self._control.close()
        self._poller.close()

    def patience(self, now: float) -> float:
        """Return how many seconds may pass until the next turn if nothing arrives."""
        due = self._sockets.retry_at if self._sockets.blocked else self._plane.next_event(now)
        due = min(due, self._other_due(now))
        least = NOTHING_DONE if self._idle_turns > 1 else 0.0
        patience = max(due - now, least)
        self._clock.expect(patience)
        return patience

    def _other_due(self, now: float) -> float:
        """Return when something has to be done that is not about packets."""
        due = min(self._ports.due, self._udp.due, self._sockets.wake_at, self._stop_at)
        return min(due, now + _CONTROL_RETRY) if self._control.retry else due

    def turn(self, patience: float) -> None:
        """Sleep at most ``patience`` seconds, then do what there is to do."""
        self._received = 0
        ready = self._poller.wait(patience, self._wake.spin)
        self._work(self._clock(), self._poller.away, ready=ready > 0)

    def _follow(self, fast: FastTurns) -> None:
        """Finish the turn that compiled code could not make."""
        self.turns += fast.turns
        self.fast_turns += fast.turns
        self._idle_turns = fast.idle_turns
        self._received, sent = fast.moved
        if fast.begun:
            sent += fast.finish()
            self._work(fast.turn_at, fast.away, ready=True, sent=sent)
        else:
            ready = self._poller.serve(fast.ready())
            self._work(self._clock(), fast.away, ready=ready > 0)

    def _work(self, now: float, away: float, *, ready: bool, sent: int = 0) -> None:
        """Do what there is to do after the descriptors that were ``ready`` have been served.

        ``sent`` are packets that have left in this turn, and ``away`` for how long others had the core before it.
        """
        self.turns += 1
        if self._control.retry:
            self._control.flush()
        self._ports.run(now)
        self._udp.run(now)
        self._sockets.run(now)
        sent += self._transmit(now)
        for event in self._plane.take_events():
            self._control.post(event)
        busy = bool(ready or sent)
        self._wake.note((self._received, sent), now, busy=busy, took=self._clock() - now, away=away)
        self._idle_turns = 0 if busy else self._idle_turns + 1

    def _receive(self, batch: PacketBatch, count: int, number: int) -> NDArray[np.int32]:
        self._received += count
        return self._plane.receive(batch, count, number, self._clock())

    def _refuse(self, row: int, size: int) -> None:
        self._plane.refused_for_size(row, size, self._clock())

    def _report_misses(self, number: int, datagrams: list[tuple[bytes, str, int]]) -> None:
        self._control.post_misses(number, datagrams)

    def _report_failure(self, number: int, reason: str) -> None:
        self._control.post(SocketFailed(number, reason))

    def _transmit(self, now: float) -> int:
        """Seal and send until nothing is due or a socket is full; return the packets.

        All of it at one time: with a fresh ``now`` per batch, the pacer would earn a packet while the last one is
        sealed, and a stream of 50 Mbit/s would leave in batches of two (seen).
        """
        if not self._sockets.resume(now):
            return 0
        packets = 0
        for _ in range(BATCHES):
            outgoing = self._plane.transmit(now)
            if not outgoing.packets:
                break
            packets += outgoing.packets
            if not self._sockets.send(outgoing, now) or not outgoing.more:
                break
        return packets

    def _serve(self, message: Message, descriptors: list[int]) -> None:
        self._commands.serve(message, descriptors, self._control, self.snapshot)
        if self._commands.stopping and self._stop_at == math.inf:
            self._stop_at = self._clock() + _STOP_SECONDS

    def _stopped(self) -> bool:
        """Whether the worker was told to stop, and what was queued has left, or had its time."""
        if self._stop_at == math.inf:
            return False
        return self._clock() >= self._stop_at or not (self._sockets.blocked or self._queued())

    def _queued(self) -> bool:
        """Whether shards wait for their first departure."""
        tables = self._plane.context.tables
        rows = np.flatnonzero(tables.session["used"])
        return any(tables.channel[row * CHANNELS : (row + 1) * CHANNELS]["queued"].any() for row in rows)

    def snapshot(self) -> dict[str, object]:
        """Return the data plane's snapshot, and that of everything around it."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        with open("/proc/self/statm", encoding="ascii") as statm:
            pages = int(statm.read().split()[1])
        return {
            **self._plane.snapshot(),
            "udp": self._sockets.snapshot(),
            "tun": self._tun.snapshot(),
            "udp_flows": self._udp.snapshot(),
            "fallbacks": [*self._sockets.fallbacks(), *engine_fallbacks(self._plane)],
            "worker": {
                "pid": os.getpid(),
                "rss_bytes": pages * resource.getpagesize(),
                "cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
                "cpu_system_s": round(usage.ru_stime, 3),
                "cpu_wait_s": _waited(),
                "turns": self.turns,
                "fast_turns": self.fast_turns,
                "fast_turns_ended": dict(self._fast.ended) if self._fast is not None else {},
                "clock_jumps": self._clock.jumps,
                "clock_lost_s": round(self._clock.lost, 3),
                "unsent": self._sockets.unsent,
                **self._sockets.handover.snapshot(),
                "misses_dropped": self._sockets.misses_dropped + self._control.misses_dropped,
                "unreadable_messages": self._control.unreadable,
            },
        }


def _waited() -> float | None:
    """Return the seconds that this thread was ready to run and had no processor; None where the kernel does not count.

    Source: sched-stats.rst of the kernel, the second field of /proc/PID/schedstat (CONFIG_SCHED_INFO).
    """
    try:
        with open("/proc/thread-self/schedstat", encoding="ascii") as file:
            return round(int(file.read().split()[1]) * 1e-9, 3)
    except (FileNotFoundError, IndexError):
        return None
