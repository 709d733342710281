"""The message calls: layouts against ctypes, and one contract for the kernel, its fallback and the fake."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from drivers.linux.libc import (
    CONTROL,
    CONTROLLEN,
    FLAGS,
    IOV,
    IOVEC,
    IOVLEN,
    MMSGHDR,
    MSG_DONTWAIT,
    MSGHDR,
    NAME,
    NAMELEN,
    RECEIVED,
    SOCKADDR_IN,
    SOCKADDR_IN6,
    MessageCalls,
    OneByOne,
    libc,
    readv,
    writev,
)
from tests.unit.drivers.linux.fake_calls import FakeCalls


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("header", _Msghdr), ("len", ctypes.c_uint))


def test_layouts_are_the_c_compiler_s() -> None:
    assert (IOVEC.itemsize, SOCKADDR_IN.itemsize, SOCKADDR_IN6.itemsize) == (16, 16, 28)
    assert ctypes.sizeof(_Msghdr) == MSGHDR.itemsize == 56
    assert ctypes.sizeof(_Mmsghdr) == MMSGHDR.itemsize == 64
    fields = MSGHDR.fields
    assert fields is not None
    words = {"name": NAME, "namelen": NAMELEN, "iov": IOV, "iovlen": IOVLEN, "control": CONTROL}
    for name, word in {**words, "controllen": CONTROLLEN, "flags": FLAGS}.items():
        assert getattr(_Msghdr, name).offset == fields[name][1] == 8 * word
    assert _Mmsghdr.len.offset == 8 * RECEIVED


@dataclass
class Messages:
    """Message headers, and what their addresses point to."""

    headers: NDArray[np.int64]
    iovecs: NDArray[np.int64]
    memory: NDArray[np.uint8]

    @property
    def address(self) -> int:
        return int(self.headers.ctypes.data)


def messages(lengths: list[int]) -> Messages:
    memory = np.zeros(sum(lengths) + 1, np.uint8)
    iovecs = np.zeros((len(lengths), 2), np.int64)
    headers = np.zeros((len(lengths), 8), np.int64)
    start = 0
    for index, length in enumerate(lengths):
        memory[start : start + length] = index + 1
        iovecs[index] = int(memory.ctypes.data) + start, length
        headers[index, IOV] = int(iovecs.ctypes.data) + 16 * index
        headers[index, IOVLEN] = 1
        start += length
    return Messages(headers, iovecs, memory)


KINDS = ["kernel", "one by one", "fake"]


def calls_of(kind: str) -> MessageCalls:
    kinds: dict[str, MessageCalls] = {"kernel": libc(), "one by one": OneByOne(libc()), "fake": FakeCalls()}
    return kinds[kind]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected UDP sockets on loopback."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as left,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as right,
    ):
        left.bind(("127.0.0.1", 0))
        right.bind(("127.0.0.1", 0))
        left.connect(right.getsockname())
        right.connect(left.getsockname())
        right.settimeout(10)
        yield left, right


@pytest.mark.parametrize("kind", KINDS)
def test_messages_travel(kind: str, pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    out, into = messages([5, 0, 900]), messages([1000] * 8)
    calls = calls_of(kind)
    assert calls.sendmmsg(left.fileno(), out.address, 3, MSG_DONTWAIT) == 3
    assert calls.recvmmsg(right.fileno(), into.address, 8, MSG_DONTWAIT) == 3
    assert (into.headers[:3, RECEIVED] & 0xFFFFFFFF).tolist() == [5, 0, 900]
    assert into.memory[:5].tolist() == [1] * 5
    assert set(into.memory[2000:2900].tolist()) == {3}
    assert calls.recvmmsg(right.fileno(), into.address, 8, MSG_DONTWAIT) == -errno.EAGAIN


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_message_travels(kind: str, pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    out, into = messages([7]), messages([100])
    assert calls_of(kind).sendmsg(left.fileno(), out.address, MSG_DONTWAIT) == 7
    assert calls_of(kind).recvmsg(right.fileno(), into.address, MSG_DONTWAIT) == 7
    assert calls_of(kind).recvmsg(right.fileno(), into.address, MSG_DONTWAIT) == -errno.EAGAIN


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_descriptor_is_an_errno(kind: str) -> None:
    out = messages([7])
    assert calls_of(kind).sendmmsg(-1, out.address, 1, MSG_DONTWAIT) == -errno.EBADF
    assert calls_of(kind).recvmmsg(-1, out.address, 1, MSG_DONTWAIT) == -errno.EBADF


@pytest.mark.parametrize("kind", [*KINDS, "fake limit"])
def test_a_message_that_is_too_long_ends_the_batch_before_it(
    kind: str, pair: tuple[socket.socket, socket.socket]
) -> None:
    """What the fake does for ``longest`` is what the kernel does for 65,507."""
    calls = FakeCalls(longest=1000) if kind == "fake limit" else calls_of(kind)
    out = messages([9, 1001 if kind == "fake limit" else 65_508, 9])
    assert calls.sendmmsg(pair[0].fileno(), out.address, 3, MSG_DONTWAIT) == 1
    assert calls.sendmmsg(pair[0].fileno(), out.address + 64, 2, MSG_DONTWAIT) == -errno.EMSGSIZE
    assert calls.sendmmsg(pair[0].fileno(), out.address + 128, 1, MSG_DONTWAIT) == 1


@pytest.mark.parametrize("kind", [*KINDS, "fake script"])
def test_a_full_queue_ends_the_batch_with_a_partial_count(kind: str) -> None:
    """What the fake does for ``-n`` and EAGAIN is what the kernel does when a queue is full."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right:
        out = messages([100] * 64)
        if kind != "fake script":
            left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        calls = FakeCalls(deque([-5, errno.EAGAIN])) if kind == "fake script" else calls_of(kind)
        taken = calls.sendmmsg(left.fileno(), out.address, 64, MSG_DONTWAIT)
        assert 0 < taken < 64
        assert calls.sendmmsg(left.fileno(), out.address, 64, MSG_DONTWAIT) == -errno.EAGAIN
        for _ in range(taken):
            assert len(right.recv(200)) == 100


def test_the_fake_never_sends_more_than_it_was_given(pair: tuple[socket.socket, socket.socket]) -> None:
    calls = FakeCalls(send_script=deque([-2]), receive_script=deque([-2]))
    out, into = messages([5, 6]), messages([10, 10])
    assert calls.sendmmsg(pair[0].fileno(), out.address, 1, MSG_DONTWAIT) == 1
    assert calls.recvmmsg(pair[1].fileno(), into.address, 1, MSG_DONTWAIT) == 1
    assert calls.recvmmsg(pair[1].fileno(), into.address, 1, MSG_DONTWAIT) == -errno.EAGAIN


def test_no_message_at_all_is_no_error_unless_the_call_is_missing(pair: tuple[socket.socket, socket.socket]) -> None:
    assert libc().sendmmsg(pair[0].fileno(), 0, 0, 0) == FakeCalls().sendmmsg(pair[0].fileno(), 0, 0, 0) == 0
    assert FakeCalls(batched=errno.EPERM).sendmmsg(pair[0].fileno(), 0, 0, 0) == -errno.EPERM


def test_readv_and_writev_move_bytes_or_return_the_errno() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    try:
        out, into = messages([3, 4, 5]), messages([6, 6, 6])
        iov = int(into.iovecs.ctypes.data)
        assert readv(reading, iov, 3) == -errno.EAGAIN
        assert writev(writing, int(out.iovecs.ctypes.data), 3) == 12
        assert readv(reading, iov, 3) == 12
        assert into.memory[:12].tolist() == [1] * 3 + [2] * 4 + [3] * 5
        os.close(writing)
        writing = -1
        assert readv(reading, iov, 3) == 0
        assert readv(-1, iov, 3) == -errno.EBADF
        assert writev(-1, iov, 3) == -errno.EBADF
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)
