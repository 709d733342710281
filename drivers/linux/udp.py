"""UDP in batches: one system call moves up to 64 messages, one message up to 64 packets.

Per packet of 1350 bytes on one core: 1.65-2.0 us with ``socket.send``, 1.3 us with ``sendmmsg``, 0.15 us with
segmentation offload (UDP_SEGMENT), and 0.18 us to receive with UDP_GRO. What the kernel does not grant is replaced by
the next slower way, counted in :attr:`UdpSocket.counters`.

Buffers and their raw addresses are made once per socket, and live as long as it.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from drivers.batch import PacketBatch
from drivers.errors import DriverError
from drivers.linux.libc import MessageCalls, libc
from drivers.linux.udp_bind import RECEIVE_BUFFER, SEND_BUFFER, bind_udp, buffer_warning, prepare
from drivers.linux.udp_counters import UdpCounters

if TYPE_CHECKING:
    from drivers.linux.udp_kernel import SendBuffers
    from drivers.linux.udp_lent import ReceiveBuffers

UDP_SEGMENT = 103
UDP_GRO = 104
SO_MEMINFO = 55
"""linux/socket.h; since Linux 4.12. The socket module has no name for it."""
_MEMORY = struct.Struct("@9I")
"""linux/sock_diag.h: SK_MEMINFO_RMEM_ALLOC to SK_MEMINFO_DROPS, the last of which is of interest."""


@dataclass(frozen=True)
class UdpOptions:
    """What a socket may use.

    Attributes
    ----------
    gso, gro
        Segmentation offload when sending, and receive offload; used where the kernel grants them.
    calls
        Stands before the kernel's message calls; None = the C library.
    """

    gso: bool = True
    gro: bool = True
    calls: MessageCalls | None = None


class UdpSocket:
    """A non-blocking UDP socket that moves :class:`~drivers.batch.PacketBatch`. Made by :meth:`bind` or :meth:`adopt`.

    Attributes
    ----------
    socket
        The socket itself; its options belong to this object.
    counters
        What was done so far.
    gso, gro
        Whether segmentation and receive offload are in use.
    reads_ecn
        Whether the kernel tells the ECN bits of what arrives.
    """

    def __init__(self, sock: socket.socket, options: UdpOptions | None = None) -> None:
        # The kernels import numba: half a second and 60 MB that only a process with a data plane should pay.
        from drivers.linux.udp_receive import MERGED_SLOTS, SINGLE_SLOTS, Receiver
        from drivers.linux.udp_send import SEGMENTS, Sender

        if sock.type != socket.SOCK_DGRAM or sock.family not in (socket.AF_INET, socket.AF_INET6):
            raise DriverError(f"{sock!r} is not a UDP socket over IPv4 or IPv6; give one")
        chosen = options or UdpOptions()
        self.socket = sock
        self.counters = UdpCounters()
        self._asked = (0, 0)
        prepare(sock)
        gso = chosen.gso and self._granted("gso", "UDP_SEGMENT", UDP_SEGMENT, 0)
        self.reads_ecn = self._read_marks(sock)
        self.gro = chosen.gro and self._granted("gro", "UDP_GRO", UDP_GRO, 1)
        calls = chosen.calls or libc()
        slots = MERGED_SLOTS if self.gro else SINGLE_SLOTS
        self._receiver = Receiver(sock.fileno(), calls, self.counters, slots)
        self._sender = Sender(sock.fileno(), calls, self.counters, SEGMENTS if gso else 1)

    @classmethod
    def bind(
        cls,
        host: str,
        port: int,
        *,
        receive_buffer: int = RECEIVE_BUFFER,
        send_buffer: int = SEND_BUFFER,
        options: UdpOptions | None = None,
    ) -> UdpSocket:
        """Return a socket bound to an IP literal and a port (0 = any).

        The empty host is every address of the machine, of both families if it has IPv6. Buffers are in bytes; what the
        kernel refuses of them is told by :meth:`buffer_warning`.

        Raises
        ------
        DriverError
            When the host is a name.
        SystemCallError
            When the address is taken, forbidden or not of this machine.
        """
        sock = bind_udp(host, port, receive_buffer=receive_buffer, send_buffer=send_buffer)
        try:
            made = cls(sock, options)
        except BaseException:
            sock.close()
            raise
        made._asked = (receive_buffer, send_buffer)
        if not host and sock.family == socket.AF_INET:
            made.counters.fall_back("ipv6", "this machine has no IPv6: listening on IPv4 only")
        return made

    @classmethod
    def adopt(cls, sock: socket.socket, *, options: UdpOptions | None = None) -> UdpSocket:
        """Return a socket around ``sock``, which belongs to it from now on; its buffers keep their sizes.

        Sets non-blocking mode, UDP_GRO and path MTU probing. Those are properties of the open socket, shared with every
        duplicate in other processes: nobody else may *receive* on it (a GRO message would look like one datagram).

        Raises
        ------
        DriverError
            When it is not a UDP socket.
        """
        return cls(sock, options)

    @property
    def gso(self) -> bool:
        """Whether packets leave as segmented messages (to all but :attr:`gso_refused_peers` peers)."""
        return self._sender.segments > 1

    @property
    def gso_refused_peers(self) -> int:
        """Number of peers to which the kernel refuses to segment."""
        return self._sender.refused_peers

    @property
    def too_big(self) -> list[int]:
        """Peer rows, one per packet of the last :meth:`send` that was longer than the path takes: lower its MTU.

        Such packets count as taken. The list is reused by the next send.
        """
        return self._sender.too_big

    @property
    def too_big_sizes(self) -> list[int]:
        """Bytes of the packets that :attr:`too_big` names."""
        return self._sender.too_big_sizes

    @property
    def marks(self) -> bool:
        """Whether packets leave with the ECN bits of their batch."""
        return self._sender.marks

    def fileno(self) -> int:
        """Return the descriptor, -1 once closed."""
        return self.socket.fileno()

    def close(self) -> None:
        """Close the socket. Batches stay readable as long as they are held. May be called twice.

        Never close :attr:`socket` behind this object's back: its descriptor number goes to the next file, and packets
        would go there.
        """
        self._receiver.descriptor = self._sender.descriptor = -1
        self.socket.close()
        self._receiver.arena.close()

    def receive_batch(self) -> PacketBatch:
        """Return the batch that :meth:`receive` fills: always the same one, made with the socket.

        ``memory`` is an arena's, the capacity is 2048 packets, and ``address`` has a row for each message of a call.
        """
        return self._receiver.batch

    def receive(self, batch: PacketBatch) -> int:
        """Fill ``batch`` with what waits, without blocking; return the number of packets.

        One system call. 0 = nothing waits, or a signal came first. More may wait if the result is not 0.

        Raises
        ------
        SystemCallError
            When the socket is closed or broken.
        """
        return self._receiver.receive(batch)

    def send(self, batch: PacketBatch, first: int, count: int) -> int:
        """Send packets ``first .. first + count - 1`` in order, without blocking; return how many were taken.

        Neighbours with equal ``peer``, ``ecn`` and ``length`` (the last may be shorter) travel as one message. A peer
        whose address row is zero is the peer of a connected socket. Fewer than ``count`` are taken when a buffer is
        full: wait until the socket is writable (EAGAIN), or a moment (``counters.no_buffer`` has grown). Packets that
        can never leave are taken, counted (``too_big``, ``dropped``) and passed over.

        Raises
        ------
        DriverError
            When a packet lies outside its memory or has no peer, or the range outside the batch.
        SystemCallError
            When the socket is closed, or the batch holds an address the socket cannot use.
        """
        return self._sender.send(batch, first, count)

    def lend(self, row: NDArray[np.int64]) -> bool:
        """Write what compiled code needs to use the socket into ``row``; False = it has to ask the socket itself.

        ``row`` [shape=(WORDS,), dtype=int64] (:mod:`drivers.linux.udp_lent`); buffers are those of :attr:`lent`.
        """
        return self._sender.lend(row)

    def take_back(self, row: NDArray[np.int64]) -> None:
        """Count what compiled code has done by ``row``, whose counts are 0 then."""
        self._sender.take_back(row)
        self._receiver.take_back(row)

    @property
    def lent(self) -> tuple[ReceiveBuffers, SendBuffers]:
        """The buffers for a lent row; those of one socket serve for others of one worker, too."""
        return self._receiver.lent, self._sender.buffers

    def buffer_warning(self) -> str | None:
        """Return what is wrong with the socket buffers and how to mend it, or None if they are as asked."""
        return buffer_warning(self.socket, *self._asked)

    def kernel_dropped(self) -> int | None:
        """Return the packets that the kernel dropped on arrival, mostly for want of room in the socket's buffer.

        It counts 2^32 of them at most, then from 0 again. None where the kernel does not tell, or the socket is closed.
        """
        try:
            found = self.socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMORY.size)
        except OSError:  # ENOPROTOOPT: before Linux 4.12, and sandboxes; EBADF: closed
            return None
        return int(_MEMORY.unpack(found)[-1]) if len(found) == _MEMORY.size else None

    def _read_marks(self, sock: socket.socket) -> bool:
        """Ask for the ECN bits of what arrives; on an IPv6 socket that of IPv4 peers, too."""
        wanted = [(socket.IPPROTO_IP, "IP_RECVTOS", socket.IP_RECVTOS)]
        if sock.family == socket.AF_INET6:
            wanted.append((socket.IPPROTO_IPV6, "IPV6_RECVTCLASS", socket.IPV6_RECVTCLASS))
        for level, name, option in wanted:
            try:
                sock.setsockopt(level, option, 1)
            except OSError as error:  # a sandbox's own network stack; every Linux since 2.2 and 2.6.14 has them
                self.counters.fall_back("ecn", f"setsockopt({name}): {os.strerror(error.errno or 0)}")
                return False
        return True

    def _granted(self, name: str, option_name: str, option: int, value: int) -> bool:
        try:
            self.socket.setsockopt(socket.IPPROTO_UDP, option, value)
        except OSError as error:  # ENOPROTOOPT: UDP_SEGMENT came with Linux 4.18, UDP_GRO with 5.0
            self.counters.fall_back(name, f"setsockopt({option_name}): {os.strerror(error.errno or 0)}")
            return False
        return True
