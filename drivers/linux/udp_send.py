"""The sending half of a UDP socket: batches to messages, and what to do when the kernel says no."""

from __future__ import annotations

import errno
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.batch import SOCKADDR_SIZE, PacketBatch
from drivers.errors import DriverError, SystemCallError
from drivers.linux import udp_errno
from drivers.linux.libc import CONTROLLEN, MSG_DONTWAIT, Libc, MessageCalls, OneByOne
from drivers.linux.udp_counters import UdpCounters
from drivers.linux.udp_kernel import CONTROL_SIZE, SEGMENT_CONTROLLEN, SendBuffers, plan
from drivers.linux.udp_lent import (
    DESCRIPTOR,
    GOT_CALLS,
    LARGE,
    MARKED,
    MARKS,
    MOST_SEGMENTS,
    SENT_CALLS,
    SENT_MERGED,
    SENT_MESSAGES,
    SENT_PACKETS,
    SENT_SIZE,
)

MESSAGES = 64
"""Messages per system call; more than 64 brought nothing (0.97 us per packet at 64, 1.04 at 16)."""
SEGMENTS = 64
"""Packets per message: UDP_MAX_SEGMENTS of kernels before 6.9; later ones take 128."""
PIECES = 2048
"""Iovecs per system call."""
REFUSED = 64
"""Destinations without segmentation that are remembered; one more, and the socket stops segmenting."""
ATTEMPTS = 8
"""Calls in a row that may move nothing before a send gives up: signals and ICMP errors cannot hold it for ever."""

_STOP = -1
_ALL_MARKS = 3


@dataclass
class _Plain:
    """A message that was refused with segmentation, on its way as single packets."""

    until: int
    """Packet after the last."""
    number: int
    """The errno."""
    lost: int
    """``counters.lost`` before."""


class Sender:
    """Sends batches through one socket; owns every buffer whose address the kernel is given.

    Parameters
    ----------
    descriptor
        A non-blocking UDP socket; the owner keeps it open.
    calls
        The kernel, or what stands before it.
    counters
        Shared with the receiving half.
    segments
        Most packets per message; 1 = no segmentation offload.

    Attributes
    ----------
    buffers
        What the kernel is given; compiled code may use them between two sends.
    too_big
        Peer rows, one per packet of the last :meth:`send` that the kernel refused for its length.
    too_big_sizes
        The lengths of those packets.
    """

    def __init__(self, descriptor: int, calls: MessageCalls, counters: UdpCounters, segments: int) -> None:
        self.too_big: list[int] = []
        self.too_big_sizes: list[int] = []
        self.segments = segments
        self.refused_peers = 0
        self.descriptor = descriptor
        self._calls = calls
        self._counters = counters
        self.buffers = SendBuffers(
            headers=np.zeros((MESSAGES, 8), np.int64),
            iovecs=np.zeros((PIECES, 2), np.int64),
            controls=np.zeros((MESSAGES, CONTROL_SIZE), np.uint8),
            bound=np.zeros((MESSAGES + 1, 3), np.int64),
            refused=np.zeros((REFUSED, SOCKADDR_SIZE), np.uint8),
        )
        self._marks = _ALL_MARKS
        self._marks_proved = False
        self._doubt = 0
        # struct cmsghdr of UDP_SEGMENT: length 18, level 17 (SOL_UDP), type 103, then the u16 size.
        self.buffers.controls[:, :16] = np.frombuffer(np.array([18, 17 | 103 << 32], "<u8").tobytes(), np.uint8)
        self._headers = int(self.buffers.headers.ctypes.data)

    def send(self, batch: PacketBatch, first: int, count: int) -> int:
        """Send packets ``first .. first + count - 1``; return how many were taken."""
        self.too_big.clear()
        self.too_big_sizes.clear()
        if first < 0 or count < 0 or first + count > len(batch.offset):
            raise DriverError(
                f"packets {first} to {first + count - 1} of a batch of {len(batch.offset)} cannot be sent; "
                "give a range inside the batch"
            )
        done, end, idle = first, first + count, 0
        plain: _Plain | None = None
        while done < end and idle < ATTEMPTS:
            if plain is not None and done >= plain.until:
                self._settle(plain, batch, done - 1)
                plain = None
            segments = self.segments if plain is None else 1
            until = end if plain is None else plain.until
            messages = plan(batch, self.buffers, done, until, segments, self._refused, self._marks)
            if messages < 0:
                raise DriverError(
                    f"packet {-1 - messages} of the batch lies outside its memory or names no peer; nothing of it was "
                    "sent, correct its offset, length and peer"
                )
            sent = self._calls.sendmmsg(self.descriptor, self._headers, messages, MSG_DONTWAIT)
            if sent > 0:
                self._judge_marks(refused_again=False)
                done, idle = self._took(sent), 0
                continue
            if self._marked and not self._marks_proved and udp_errno.marks_refused(-sent):
                self._marks, self._doubt = 0, -sent
                continue
            self._judge_marks(refused_again=True)
            merged = self.buffers.bound[1, 2] > 0
            if merged and udp_errno.gso_refused(-sent):
                plain = _Plain(int(self.buffers.bound[1, 0]), -sent, self._counters.lost)
                continue
            moved = self._refusal(-sent, batch, done)
            if moved == _STOP:
                break
            done += moved
            idle = 0 if moved else idle + 1
        if plain is not None and done >= plain.until:
            self._settle(plain, batch, done - 1)
        return done - first

    def lend(self, row: NDArray[np.int64]) -> bool:
        """Write what sending takes into a row; False = it takes decisions that compiled code does not know of."""
        if not isinstance(self._calls, Libc) or self._refused or self._doubt or self.descriptor < 0:
            return False
        row[DESCRIPTOR], row[MOST_SEGMENTS], row[MARKS] = self.descriptor, self.segments, self._marks
        row[LARGE] = 0  # a loan that ends after each call costs Python a turn, which should have much to do
        return True

    def take_back(self, row: NDArray[np.int64]) -> None:
        """Count what compiled code has sent by a lent row."""
        direction = self._counters.send
        direction.calls += int(row[SENT_CALLS])
        direction.messages += int(row[SENT_MESSAGES])
        direction.packets += int(row[SENT_PACKETS])
        direction.size += int(row[SENT_SIZE])
        self._counters.gso_messages += int(row[SENT_MERGED])
        self._marks_proved |= bool(row[MARKED])
        row[MARKED:GOT_CALLS] = 0

    @property
    def marks(self) -> bool:
        """Whether the ECN bits of a batch are asked for."""
        return self._marks > 0

    @property
    def _marked(self) -> bool:
        """Whether the first message of the present call asks for ECN bits."""
        used = int(self.buffers.headers[0, CONTROLLEN])
        return used > (SEGMENT_CONTROLLEN if self.buffers.bound[1, 2] else 0)

    def _judge_marks(self, *, refused_again: bool) -> None:
        """Blame the ECN bits of a refused message only if it then left without them."""
        if not self._doubt:
            self._marks_proved |= not refused_again and self._marked
        elif refused_again:  # something else was at fault
            self._marks = _ALL_MARKS
        else:
            self._counters.fall_back("ecn", f"{udp_errno.name_of(self._doubt)} for a message that sets ECN bits")
        self._doubt = 0

    @property
    def _refused(self) -> int:
        return self.refused_peers if self.segments > 1 else 0

    def _took(self, messages: int) -> int:
        """Count messages that left; return the packet after them."""
        following, size, merged = self.buffers.bound[messages].tolist()
        direction = self._counters.send
        direction.calls += 1
        direction.messages += messages
        direction.packets += following - int(self.buffers.bound[0, 0])
        direction.size += size
        self._counters.gso_messages += merged
        return int(following)

    def _refusal(self, number: int, batch: PacketBatch, index: int) -> int:
        """Decide on the errno of the message that begins at packet ``index``; return packets to pass over, or _STOP."""
        counters = self._counters
        packets = int(self.buffers.bound[1, 0]) - index
        if udp_errno.would_block(number):
            counters.would_block += 1
            return _STOP
        if udp_errno.no_buffer(number):
            counters.no_buffer += 1
            return _STOP
        if number == errno.EINTR:
            counters.interrupted += 1
            return 0
        if number == errno.EMSGSIZE:
            counters.too_big += 1
            self.too_big.append(int(batch.peer[index]))
            self.too_big_sizes.append(int(batch.length[index]))
            return packets
        if not isinstance(self._calls, OneByOne) and udp_errno.call_missing(number, self._calls, self.descriptor):
            counters.fall_back("sendmmsg", f"{udp_errno.name_of(number)}: one sendmsg per message instead")
            self._calls = OneByOne(self._calls)
            return 0
        if number == errno.ECONNREFUSED:
            counters.icmp_errors += 1
            return 0
        if udp_errno.misuse(number):
            raise SystemCallError(f"sending packet {index} of a batch", number, "give the socket's own kind of address")
        counters.drop(udp_errno.name_of(number), packets)
        return packets

    def _settle(self, plain: _Plain, batch: PacketBatch, index: int) -> None:
        """Blame segmentation only if the same packets then left without it; if one did not, its length was at fault."""
        if self._counters.lost > plain.lost or self.segments == 1:
            return
        self._counters.fall_back("gso", f"{udp_errno.name_of(plain.number)} from the route to one peer")
        if self.refused_peers == REFUSED:
            self.segments = 1
            self._counters.fall_back("gso", f"refused for more than {REFUSED} peers: off for this socket")
            return
        self.buffers.refused[self.refused_peers] = batch.address[int(batch.peer[index])]
        self.refused_peers += 1
