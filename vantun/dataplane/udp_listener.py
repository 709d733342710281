"""UDP sockets that listen for many programs: forwards, TPROXY, and the server's end of reverse forwards.

Every local source has a flow of its own. Sources are bounded: a new one finds room, or takes that of the source which
was silent for the longest time, or its datagram is dropped before anything is made for it.
"""

from __future__ import annotations

import socket

import numpy as np

from drivers.batch import SOCKADDR_SIZE
from drivers.linux.address import pack, unpack
from drivers.linux.origin_kernel import original_destinations
from drivers.linux.udp_receive import MERGED_SLOTS
from vantun.dataplane.ports import flow_index
from vantun.dataplane.udp_bodies import FOREIGN, NO_SESSION, SOURCES_FULL, UNSENT
from vantun.dataplane.udp_direct import DirectSocket, is_local
from vantun.dataplane.udp_io import OUT, prepare_udp
from vantun.dataplane.udp_kernels import (
    OF_SOURCE,
    SOURCE_KEY,
    TO_ORIGINAL,
    TO_TARGET,
    Listening,
    name_sources,
    sort_sources,
    strip_addresses,
)
from vantun.dataplane.udp_port import DRAINED, NO_FLOW, ROUNDS, UdpKeeper
from vantun.dataplane.udp_table import ALLOWED, UdpTable
from vantun.dataplane.udp_transparent import AnsweringSockets
from vantun.errors import ResourceError
from vantun.udp_address import encode_address
from vantun.udp_messages import FLOW_TARGET, REVERSE_TARGET, OpenUdp, UdpKind

LEAST_SILENCE = 2.0
"""Seconds that a source is safe from one that has just come: a flood of new sources does not end the old ones."""
NO_ROOM_FOR = 0.05
"""Seconds without new sources after the worker or the session had no room for a flow."""
_MODES = {UdpKind.FORWARD: TO_TARGET, UdpKind.TPROXY: TO_ORIGINAL, UdpKind.REVERSE: OF_SOURCE}


class SourcePort:
    """The flow of one local source; its datagrams are read by the listener. See vantun.dataplane.ports.PacketPort.

    Attributes
    ----------
    direct, lead
        See vantun.dataplane.udp_direct.Program.
    """

    def __init__(self, listener: Listener, row: int) -> None:
        self.direct: DirectSocket | None = None
        self.lead = 0
        self._handle = NO_FLOW
        self._listener = listener
        self._row = row

    @property
    def handle(self) -> int:
        """Of its flow; NO_FLOW = it has none now."""
        return self._handle

    @handle.setter
    def handle(self, handle: int) -> None:  # another one comes also when the session goes on in another epoch
        self._handle = handle
        self._listener.enter_flow(self._row, handle)

    def flow_index(self, now: float) -> int:
        """See Program."""
        return self._listener.flow_of(self, now)

    def deliver(self, count: int, now: float) -> None:
        """See Program."""
        self._listener.give(count, self._row, now)

    def fill(self, now: float) -> None:
        """See PacketPort."""

    def drain(self, flow_index: int, now: float) -> int:
        """See PacketPort."""
        return self._listener.answer(flow_index, self._row, now)

    def accepted(self) -> None:
        """See PacketPort."""

    def refused(self, code: int) -> None:
        """See PacketPort."""
        del code
        self.reset()

    def reset(self) -> None:
        """See PacketPort: a source that sends past the tunnel goes on."""
        if self.direct is not None:
            self.handle = NO_FLOW
        else:
            self._listener.forget(self._row, self)

    def close(self) -> None:
        """See :meth:`reset`."""
        self.reset()


class Listener:
    """One listening socket. Raises ValueError when the target is no ``host:port``.

    Attributes
    ----------
    number
        By which the control process knows it.
    """

    def __init__(self, sock: socket.socket, keeper: UdpKeeper, message: OpenUdp, target: tuple[str, int]) -> None:
        prepare_udp(sock, merge=message.kind is not UdpKind.TPROXY)
        fixed = encode_address(*target) if message.kind is UdpKind.FORWARD else b""
        self.number = message.number
        self._socket = sock
        self._keeper = keeper
        self._io = keeper.io
        self._idle = message.idle
        self._session = message.session
        self._kind = message.kind
        self._target = REVERSE_TARGET + message.target if message.kind is UdpKind.REVERSE else FLOW_TARGET
        self._sources = UdpTable(message.sources, SOURCE_KEY)
        self._ports: dict[int, SourcePort] = {}
        self._shut_until = 0.0
        self._heard = Listening(
            sources=self._sources.table,
            mode=np.array([_MODES[message.kind], len(fixed)], np.int64),
            target=np.frombuffer(fixed.ljust(260, b"\0"), np.uint8).copy(),
            original=np.zeros((MERGED_SLOTS, SOCKADDR_SIZE), np.uint8),
        )
        self._answering = AnsweringSockets(self._io.counters)
        self._origins = np.zeros((OUT, SOCKADDR_SIZE), np.uint8)

    def __len__(self) -> int:
        """Return the number of sources."""
        return len(self._ports)

    def fileno(self) -> int:
        """Return the descriptor, -1 once closed."""
        return self._socket.fileno()

    # --- from the programs

    def read(self, now: float) -> None:
        """Read what waits, a few batches at most. Raises DriverError when the socket is broken."""
        io = self._io
        for _ in range(ROUNDS):
            count = io.receive(self._socket.fileno())
            if not count:
                return
            if not self._session and not self._keeper.judge.judged:
                io.drops[NO_SESSION] += count
            else:
                if self._kind is UdpKind.TPROXY:
                    original_destinations(*io.messages, self._heard.original)
                self._sort(count, now)
            if count < DRAINED:
                return

    def _sort(self, count: int, now: float) -> None:
        io = self._io
        first = 0
        while first < count:
            found, stopped, _ = sort_sources(io.batch, (first, count), self._heard, io.bodies, io.drops, now)
            self._keeper.judge.put(io.bodies.memory, int(found), self._whose, now)
            first = int(stopped)
            if first < count and not self._known(first, now):
                first += 1

    def _known(self, packet: int, now: float) -> bool:
        """Admit the source of a packet that the kernel stopped at; False = the packet is dropped, and counted."""
        key = self._sources.table.scratch[:SOURCE_KEY].tobytes()
        if self._sources.find(key) >= 0:  # it had stopped for lack of room
            return True
        if self._kind is UdpKind.TPROXY and self._is_own(packet):
            self._io.drops[FOREIGN] += 1
            return False
        if now < self._shut_until:
            self._io.drops[SOURCES_FULL] += 1
            return False
        if self._sources.full:
            oldest = self._sources.oldest()
            safe_until = float(self._sources.table.used[oldest]) + LEAST_SILENCE
            if safe_until > now:
                self._shut_until = safe_until
                self._io.drops[SOURCES_FULL] += 1
                return False
            self._end(oldest, now)
        return self._open(key, packet, now)

    def _open(self, key: bytes, packet: int, now: float) -> bool:
        row = self._sources.add(key, ALLOWED, now)
        table = self._sources.table
        if self._heard.sources is not table:
            self._heard = self._heard._replace(sources=table)
        batch = self._io.batch
        source = batch.address[int(batch.peer[packet])]
        if self._kind is UdpKind.TPROXY:  # answers leave by other sockets, those to IPv4 by sockets of IPv4
            source = np.frombuffer(pack(*unpack(source)), np.uint8)
        table.address[row] = source
        port = self._ports[row] = SourcePort(self, row)
        port.handle = NO_FLOW
        if self._keeper.judge.judged:  # it has a flow when something of it is to be tunnelled
            return True
        if self.flow_of(port, now) < 0:
            self.forget(row, port)
            return False
        return True

    def _is_own(self, packet: int) -> bool:
        """Tell whether a packet is one of this client's direct datagrams, which the firewall has led back to it."""
        batch = self._io.batch
        host, port = unpack(batch.address[int(batch.peer[packet])])
        return port in self._keeper.judge.ports and is_local(host)

    # --- flows

    def _whose(self, flow: int) -> SourcePort | None:
        """Return the source of a flow index, or of what :meth:`enter_flow` wrote in place of one."""
        if flow < 0:
            return self._ports.get(-1 - flow)
        known = self._keeper.plane.flows.by_index(flow)
        return known.packets if known is not None and isinstance(known.packets, SourcePort) else None

    def enter_flow(self, row: int, handle: int) -> None:
        """Note the flow of a source; without one, its row stands there as -1 - row."""
        self._sources.table.number[row] = flow_index(handle) if handle >= 0 else -1 - row

    def flow_of(self, port: SourcePort, now: float) -> int:
        """Return the flow index of a source, opened if need be; -1 = there cannot be one now, and that was counted."""
        flows = self._keeper.plane.flows
        if port.handle < 0 and now >= self._shut_until:
            try:
                port.handle = self._keeper.plane.open_flow(self._session, self._target, port, now)
            except (KeyError, ResourceError, ValueError) as error:
                self._shut_until = now + NO_ROOM_FOR
                self._io.drops[SOURCES_FULL if isinstance(error, ResourceError) else NO_SESSION] += 1
                return -1
        elif port.handle < 0:
            self._io.drops[SOURCES_FULL if self._session else NO_SESSION] += 1
        flow = flows.by_handle(port.handle)
        return -1 if flow is None else flow.index

    # --- to the programs

    def answer(self, flow_index: int, row: int, now: float) -> int:
        """Send what has come for a source; return the bytes."""
        total = 0
        while count := self._io.take(flow_index, 0, now):
            total += self.give(count, row, now)
        return total

    def give(self, count: int, row: int, now: float) -> int:
        """Send ``count`` bodies in ``UdpIo.out`` to a source; return the bytes."""
        io = self._io
        out = io.out._replace(address=self._sources.table.address)
        self._sources.table.used[row] = now
        if self._kind is UdpKind.TPROXY:
            return self._send_as(int(name_sources(out, count, row, self._origins, io.drops)))
        return io.send(self._socket.fileno(), out, 0, int(strip_addresses(out, count, row, io.drops)))

    def _send_as(self, count: int) -> int:
        """Send packets in the names that stand in ``_origins``, run by run."""
        io = self._io
        out = io.out._replace(address=self._sources.table.address)
        total = 0
        first = 0
        changes = np.flatnonzero((self._origins[1:count] != self._origins[: max(count - 1, 0)]).any(axis=1)) + 1
        for end in [*changes.tolist(), count] if count else []:
            descriptor = self._answering.descriptor(self._origins[first])
            if descriptor < 0:
                io.drops[UNSENT] += end - first
            else:
                total += io.send(descriptor, out, first, end - first)
            first = end
        return total

    # --- ends

    def forget(self, row: int, port: SourcePort) -> None:
        """Forget a source whose flow has ended."""
        if self._ports.get(row) is port:
            self._keeper.judge.leave(port)
            del self._ports[row]
            self._sources.remove(row)

    def _end(self, row: int, now: float) -> None:
        port = self._ports.get(row)
        if port is not None:
            self._keeper.judge.leave(port)
            self._keeper.plane.end_packets(port.handle, now)
            self.forget(row, port)

    def move(self, session: int, now: float) -> None:
        """Open new flows in another session; those of the old one end."""
        if session != self._session:
            self._session = session
            self._shut_until = 0.0
            for row, port in list(self._ports.items()):
                if port.direct is None:
                    self._end(row, now)
                else:
                    self._keeper.plane.end_packets(port.handle, now)

    @property
    def due(self) -> float:
        """When :meth:`run` has to be called (inf = not at all)."""
        oldest = self._sources.oldest()
        return float(self._sources.table.used[oldest]) + self._idle if oldest >= 0 else np.inf

    def run(self, now: float) -> None:
        """End sources that were silent for too long."""
        used = self._sources.table.used
        for row in [row for row in self._ports if used[row] + self._idle <= now]:
            self._end(row, now)

    def close(self, now: float) -> None:
        """End every source, and close."""
        for row in list(self._ports):
            self._end(row, now)
        self._answering.close()
        self._socket.close()
