"""The TUN driver against the kernel: real packets, superpackets, unfinished checksums, refusals."""

from __future__ import annotations

import codecs
import errno
import os
import socket
import struct
from contextlib import suppress

import numpy as np
import pytest

from drivers.arena import Arena, row_stride
from drivers.errors import SystemCallError, Unavailable, UnavailableError
from drivers.linux.tun import ALL_OFFLOADS, TunDevice, TunOffload, probe_tun
from drivers.linux.tun_kernel import SLOT, read_packet, write_packet
from tests.net.tun_relay import ADDRESSES, ADDRESSES6, wire
from tests.netns import inside, ip, namespaces, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")

_TCPV4, _TCPV6, _UDP_L4 = 1, 4, 5
_NEEDS_CSUM = 1
_UDP_SEGMENT = 103


def _header(raw: bytes) -> tuple[int, int, int, int, int, int]:
    """Return flags, gso_type, hdr_len, gso_size, csum_start, csum_offset."""
    flags, kind, hdr_len, gso_size, start, offset = struct.unpack("<BBHHHH", raw)
    return flags, kind, hdr_len, gso_size, start, offset


@pytest.mark.parametrize(
    ("family", "addresses", "kind"), [(socket.AF_INET, ADDRESSES, _TCPV4), (socket.AF_INET6, ADDRESSES6, _TCPV6)]
)
def test_tcp_travels_in_superpackets(family: socket.AddressFamily, addresses: tuple[str, str], kind: int) -> None:
    data = os.urandom(1 << 20)
    with wire() as between:
        assert between.devices[0].offloads == ALL_OFFLOADS
        with inside(between.names[1]), socket.create_server((addresses[1], 0), family=family) as listener:
            with inside(between.names[0]):
                near = socket.socket(family)
            near.setblocking(False)
            assert near.connect_ex(listener.getsockname()[:2]) == errno.EINPROGRESS
            listener.setblocking(False)
            far: list[socket.socket] = []
            between.pump(lambda: _accept(listener, far), wake=(listener.fileno(),))
        got, sent = bytearray(), 0

        def step() -> bool:
            nonlocal sent
            with suppress(BlockingIOError):
                sent += near.send(data[sent:]) if sent < len(data) else 0
            with suppress(BlockingIOError):
                got.extend(far[0].recv(1 << 20))
            return len(got) == len(data)

        far[0].setblocking(False)
        between.pump(step, wake=(far[0].fileno(),))
        near.close()
        far[0].close()
        assert bytes(got) == data
        large = [(raw, packet) for way, raw, packet in between.seen if way == 0 and len(packet) > 1400]
        assert large
        assert not between.errors
        for raw, _ in large:
            flags, gso_type, _, gso_size, _, offset = _header(raw)
            assert (flags & _NEEDS_CSUM, gso_type & 0x7F, offset) == (1, kind, 16)
            assert 0 < gso_size <= 1400


def _accept(listener: socket.socket, far: list[socket.socket]) -> bool:
    try:
        far.append(listener.accept()[0])
    except BlockingIOError:
        return False
    return True


def _udp_pair(names: list[str]) -> tuple[socket.socket, socket.socket]:
    made = []
    for name, address in zip(names, ADDRESSES, strict=True):
        with inside(name):
            made.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        made[-1].bind((address, 0))
        made[-1].setblocking(False)
    return made[0], made[1]


def test_udp_superpackets_pass_whole_and_are_split_by_the_far_kernel() -> None:
    with wire() as between:
        near, far = _udp_pair(between.names)
        near.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, 1000)
        data = os.urandom(30_500)
        near.sendto(data, far.getsockname())
        got: list[bytes] = []
        between.pump(lambda: _drain(far, got) == len(data), wake=(far.fileno(),))
        near.close()
        far.close()
        assert [len(each) for each in got] == [1000] * 30 + [500]
        assert b"".join(got) == data
        large = [raw for way, raw, packet in between.seen if way == 0 and len(packet) > 1400]
        assert [_header(raw)[1:4:2] for raw in large] == [(_UDP_L4, 1000)]


def _drain(sock: socket.socket, got: list[bytes]) -> int:
    while True:
        try:
            got.append(sock.recv(65_536))
        except BlockingIOError:
            return sum(map(len, got))


def test_without_udp_superpackets_the_kernel_splits_before_they_are_read() -> None:
    with wire() as between:
        between.devices[0].set_offloads(TunOffload.CSUM)
        near, far = _udp_pair(between.names)
        near.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, 1000)
        near.sendto(bytes(5000), far.getsockname())
        got: list[bytes] = []
        between.pump(lambda: _drain(far, got) == 5000, wake=(far.fileno(),))
        near.close()
        far.close()
        ours = [packet for way, _, packet in between.seen if way == 0 and packet[9] == socket.IPPROTO_UDP]
        assert [len(packet) for packet in ours] == [1028] * 5


def test_checksums_are_left_unfinished_and_finished_by_the_far_kernel() -> None:
    with wire() as between:
        near, far = _udp_pair(between.names)
        near.sendto(b"finish this", far.getsockname())
        got: list[bytes] = []
        between.pump(lambda: _drain(far, got) > 0, wake=(far.fileno(),))
        assert got == [b"finish this"]
        raw = next(raw for way, raw, packet in between.seen if way == 0 and packet[9] == socket.IPPROTO_UDP)
        assert _header(raw) == (_NEEDS_CSUM, 0, 0, 0, 20, 6)
        between.devices[0].set_offloads(TunOffload.NONE)
        near.sendto(b"finished here", far.getsockname())
        between.pump(lambda: _drain(far, got) > 11, wake=(far.fileno(),))
        near.close()
        far.close()
        assert got[-1] == b"finished here"
        raw = [raw for way, raw, packet in between.seen if way == 0 and packet[9] == socket.IPPROTO_UDP][-1]
        assert _header(raw)[0] & _NEEDS_CSUM == 0


def test_a_descriptor_that_was_handed_over_keeps_the_interface() -> None:
    with namespaces(1) as (name,):
        with inside(name):
            device = TunDevice.open("vt%d", multi_queue=True)
            second = TunDevice.open(device.name, multi_queue=True)
        assert device.name == "vt0"
        adopted = TunDevice.adopt(os.dup(device.fileno()), device.takes)
        device.close()
        second.close()
        ip("-n", name, "link", "show", "vt0")
        assert adopted.name == "vt0"
        assert adopted.takes == ALL_OFFLOADS
        adopted.close()
        with pytest.raises(AssertionError, match="vt0"):
            ip("-n", name, "link", "show", "vt0")


def test_what_a_device_answers_when_it_is_down_or_gone() -> None:
    with namespaces(1) as (name,), Arena(1, row_stride(SLOT)) as arena:
        with inside(name):
            device = TunDevice.open("vt0")
            with pytest.raises(SystemCallError, match="stop the program that holds vt0"):
                TunDevice.open("vt0")
        iov = np.array([[arena.address, 50]], np.uint64)
        arena.memory[10] = 0x45
        assert write_packet(device.fileno(), iov, 1) == -errno.EIO
        ip("-n", name, "link", "set", "vt0", "up")
        assert write_packet(device.fileno(), iov, 1) == 50
        arena.memory[1] = 99  # a gso_type that no kernel knows
        assert write_packet(device.fileno(), iov, 1) == -errno.EINVAL
        assert write_packet(device.fileno(), iov, 2) == -errno.EINVAL
        assert read_packet(device.fileno(), arena.memory, 64) == -errno.EFAULT
        ip("-n", name, "link", "del", "vt0")
        assert read_packet(device.fileno(), arena.memory, 0) == -errno.EBADFD
        device.close()
        assert read_packet(-1, arena.memory, 0) == -errno.EBADF


def test_an_ordinary_user_is_told_what_is_missing() -> None:
    codecs.lookup("ascii")  # imported now: an ordinary user may not read this Python
    os.seteuid(65_534)
    try:
        found = probe_tun()
        with pytest.raises((SystemCallError, UnavailableError), match="run as root or give CAP_NET_ADMIN"):
            TunDevice.open("vt0")
    finally:
        os.seteuid(0)
    assert isinstance(found, Unavailable)
    assert "CAP_NET_ADMIN" in found.next_step
