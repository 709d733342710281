"""The loops over packets of the UDP socket, in nopython code. Imported when the first socket is made.

Words and layouts are those of :mod:`drivers.linux.libc`. Everything is int64, because numba makes a float of
``uint64 + int64``; user-space addresses fit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.batch import PacketBatch
from drivers.kernel import kernel
from drivers.linux.libc import (
    CONTROL,
    CONTROLLEN,
    FLAGS,
    IOV,
    IOVLEN,
    MSG_CTRUNC,
    MSG_TRUNC,
    NAME,
    NAMELEN,
    RECEIVED,
)

CONTROL_SIZE = 64
"""Bytes of control data per message: UDP_SEGMENT or UDP_GRO needs 24, the ECN bits another 24."""
MESSAGE_BYTES = 65_506
"""Most bytes of one message: the kernel refuses 65,508, the largest IPv4 datagram plus one."""
SEGMENT_CONTROLLEN = 24
"""CMSG_SPACE(2): one UDP_SEGMENT."""
MARK_CONTROLLEN = 24
"""CMSG_SPACE(4): one IP_TOS or IPV6_TCLASS, which stands behind the room for a UDP_SEGMENT."""

_IPPROTO_UDP = 17
_UDP_GRO = 104
_AF_INET = 2
_AF_INET6 = 10
_IPPROTO_IP, _IP_TOS = 0, 1
_IPPROTO_IPV6, _IPV6_TCLASS = 41, 67
_ECN_MASK = 3


class SendBuffers(NamedTuple):
    """Where :func:`plan` writes messages; allocated once per socket.

    Attributes
    ----------
    headers
        [shape=(messages, 8), dtype=int64] ``struct mmsghdr``.
    iovecs
        [shape=(pieces, 2), dtype=int64] ``struct iovec``.
    controls
        [shape=(messages, CONTROL_SIZE), dtype=uint8] one UDP_SEGMENT each, of which only the size changes, and the ECN
        bits at SEGMENT_CONTROLLEN.
    bound
        [shape=(messages + 1, 3), dtype=int64] row ``k``: first packet of message ``k``; bytes, and messages of more
        than one packet, before it.
    refused
        [shape=(destinations, SOCKADDR_SIZE), dtype=uint8] peers to which the kernel refuses to segment.
    """

    headers: NDArray[np.int64]
    iovecs: NDArray[np.int64]
    controls: NDArray[np.uint8]
    bound: NDArray[np.int64]
    refused: NDArray[np.uint8]


class Tally(NamedTuple):
    """What :func:`split` saw.

    Attributes
    ----------
    packets, size
        Packets written to the batch, and their bytes.
    merged
        Messages that held more than one packet.
    truncated
        Messages dropped because the kernel cut them, or cut the control data that tells where its packets end.
    overflow
        Packets dropped because the batch was full.
    """

    packets: int
    size: int
    merged: int
    truncated: int
    overflow: int


@kernel
def _same_address(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> bool:
    for index in range(left.size):  # noqa: SIM110 - numba has no all() over a generator
        if left[index] != right[index]:
            return False
    return True


@kernel
def _invalid(batch: PacketBatch, index: int) -> bool:
    start, size = batch.offset[index], np.int64(batch.length[index])
    outside = start < 0 or size < 0 or start + size > batch.memory.size
    return bool(outside or batch.peer[index] < 0 or batch.peer[index] >= batch.address.shape[0])


@kernel
def _is_refused(batch: PacketBatch, peer: int, buffers: SendBuffers, refused: int) -> bool:
    for row in range(refused):  # noqa: SIM110 - numba has no any() over a generator
        if _same_address(buffers.refused[row], batch.address[peer]):
            return True
    return False


@kernel
def _gather(
    batch: PacketBatch, iovecs: NDArray[np.int64], piece: int, first: int, end: int, most: int
) -> tuple[int, int, int]:
    """Write the iovecs, from ``piece`` on, of the longest run that begins at packet ``first``.

    Returns the packet and the iovec after the run, and its bytes.
    """
    memory = np.int64(batch.memory.ctypes.data)
    peer, length, start = batch.peer[first], np.int64(batch.length[first]), batch.offset[first]
    iovecs[piece, 0] = memory + start
    iovecs[piece, 1] = length
    total, tail, last = length, start + length, length
    index = first + 1
    mark = batch.ecn[first]
    while index < end and index - first < most and last == length and batch.peer[index] == peer:
        if batch.ecn[index] != mark:  # a message has one IP header, of which the kernel makes all others
            break
        last = np.int64(batch.length[index])
        if last < 1 or last > length or total + last > MESSAGE_BYTES or _invalid(batch, index):
            break
        if batch.offset[index] == tail:
            iovecs[piece, 1] += last
        else:
            piece += 1
            iovecs[piece, 0] = memory + batch.offset[index]
            iovecs[piece, 1] = last
        tail = batch.offset[index] + last
        total += last
        index += 1
    return index, piece + 1, int(total)


@kernel
def _bound(buffers: SendBuffers, message: int, index: int, size: int, merged: int) -> None:
    buffers.bound[message, 0] = index
    buffers.bound[message, 1] = size
    buffers.bound[message, 2] = merged


@kernel
def _put_mark(row: NDArray[np.uint8], name: NDArray[np.uint8], mark: int) -> None:
    """Write the control message that sets the ECN bits of a message to ``mark``; ``name`` is its destination."""
    at = SEGMENT_CONTROLLEN
    row[at : at + 24] = 0
    row[at] = 20  # CMSG_LEN(4)
    sixth = name[0] == _AF_INET6
    if sixth:  # an IPv4 address in IPv6 clothes, ::ffff:a.b.c.d, is sent by IPv4
        mapped = name[18] == 0xFF and name[19] == 0xFF
        for index in range(8, 18):
            mapped = mapped and name[index] == 0
        sixth = not mapped
    row[at + 8] = _IPPROTO_IPV6 if sixth else _IPPROTO_IP
    row[at + 12] = _IPV6_TCLASS if sixth else _IP_TOS
    row[at + 16] = mark


@kernel
def plan(
    batch: PacketBatch, buffers: SendBuffers, first: int, end: int, segments: int, refused: int, marks: int
) -> int:
    """Lay packets ``first .. end-1`` out as messages: neighbours with equal peer, length and ECN bits share one.

    A message holds at most ``segments`` packets and MESSAGE_BYTES bytes; its last packet may be shorter than the
    others. Packets that follow each other in memory share an iovec. The first ``refused`` rows of ``buffers.refused``
    get one packet per message. Of the ECN bits those in ``marks`` are asked for: 3, or 0 where the kernel refuses them.
    Stops when the buffers are full.

    Returns
    -------
    int
        The number of messages, or ``-1 - i`` when packet ``i`` does not lie in its memory or has no such peer and is
        the first: raw addresses go to the kernel, and it would send what lies there.
    """
    names = np.int64(batch.address.ctypes.data)
    pieces = np.int64(buffers.iovecs.ctypes.data)
    controls = np.int64(buffers.controls.ctypes.data)
    index, piece, message, size_before, merged_before = first, 0, 0, 0, 0
    while message < buffers.headers.shape[0] and index < end and piece + segments <= buffers.iovecs.shape[0]:
        if _invalid(batch, index):
            if message == 0:
                return -1 - index
            break
        _bound(buffers, message, index, size_before, merged_before)
        peer, length = int(batch.peer[index]), int(batch.length[index])
        most = 1 if length == 0 or _is_refused(batch, peer, buffers, refused) else segments
        begin, opening = index, piece
        index, piece, total = _gather(batch, buffers.iovecs, piece, begin, end, most)
        merged = index - begin > 1
        family = np.int64(batch.address[peer, 0]) + (np.int64(batch.address[peer, 1]) << 8)
        name_size = 16 if family == _AF_INET else (28 if family == _AF_INET6 else 0)
        header = buffers.headers[message]
        header[NAME] = names + peer * batch.address.strides[0] if name_size else 0
        header[NAMELEN] = name_size
        header[IOV] = pieces + opening * 16
        header[IOVLEN] = piece - opening
        mark = int(batch.ecn[begin]) & marks if name_size else 0
        if mark:
            _put_mark(buffers.controls[message], batch.address[peer], mark)
        used = (SEGMENT_CONTROLLEN if merged else 0) + (MARK_CONTROLLEN if mark else 0)
        header[CONTROL] = controls + message * CONTROL_SIZE + (0 if merged else SEGMENT_CONTROLLEN) if used else 0
        header[CONTROLLEN] = used
        header[FLAGS] = 0
        buffers.controls[message, 16] = length & 0xFF
        buffers.controls[message, 17] = length >> 8 & 0xFF
        size_before += total
        merged_before += 1 if merged else 0
        message += 1
    _bound(buffers, message, index, size_before, merged_before)
    return message


@kernel
def _word(row: NDArray[np.uint8], at: int) -> int:
    low = np.int64(row[at]) | np.int64(row[at + 1]) << 8
    return int(low | np.int64(row[at + 2]) << 16 | np.int64(row[at + 3]) << 24)


@kernel
def _read_control(row: NDArray[np.uint8], used: int) -> tuple[int, int]:
    """Return (size in the UDP_GRO message, ECN bits) among ``used`` bytes of control data; 0 of what is not there."""
    at, segment, mark = 0, 0, 0
    while at + 17 <= used:
        length = _word(row, at)
        level, kind = _word(row, at + 8), _word(row, at + 12)
        if level == _IPPROTO_UDP and kind == _UDP_GRO and at + 20 <= used:
            segment = _word(row, at + 16)
        elif (level == _IPPROTO_IP and kind == _IP_TOS) or (level == _IPPROTO_IPV6 and kind == _IPV6_TCLASS):
            mark = int(row[at + 16]) & _ECN_MASK  # IP_TOS is a byte, IPV6_TCLASS an int below 256
        if length < 16:
            break
        at += length + 7 & ~7
    return segment, mark


@kernel
def split(
    headers: NDArray[np.int64], controls: NDArray[np.uint8], stride: int, messages: int, batch: PacketBatch
) -> Tally:
    """Write the packets of received messages to ``batch``; message ``k`` begins at byte ``k * stride`` of its memory.

    A message without a UDP_GRO control message is one packet. The peer of a packet is its message's number.
    """
    packets = 0
    size = 0
    merged = 0
    truncated = 0
    overflow = 0
    for message in range(messages):
        flags = headers[message, FLAGS] & 0xFFFFFFFF
        if flags & (MSG_TRUNC | MSG_CTRUNC):
            truncated += 1
            continue
        received = headers[message, RECEIVED] & 0xFFFFFFFF
        segment, mark = _read_control(controls[message], min(headers[message, CONTROLLEN], CONTROL_SIZE))
        if segment < 1 or segment >= received:
            segment = received
        else:
            merged += 1
        at = 0
        while True:
            if packets == batch.offset.size:
                overflow += 1
            else:
                batch.offset[packets] = message * stride + at
                batch.length[packets] = min(segment, received - at)
                batch.peer[packets] = message
                batch.ecn[packets] = mark
                size += batch.length[packets]
                packets += 1
            at += segment
            if at >= received:
                break
    return Tally(packets, size, merged, truncated, overflow)
