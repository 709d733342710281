"""Transparent UDP sockets: what the kernel tells beside a datagram, and what it refuses."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from drivers.arena import Arena
from drivers.errors import DriverError, SystemCallError
from drivers.linux.address import unpack
from drivers.linux.libc import libc
from drivers.linux.origin_kernel import original_destinations
from drivers.linux.transparent import transparent_socket
from drivers.linux.udp_counters import UdpCounters
from drivers.linux.udp_receive import Receiver


def made(host: str, port: int, *, listening: bool) -> socket.socket:
    """Return a transparent socket, or skip without the right to have one."""
    try:
        return transparent_socket(host, port, listening=listening)
    except SystemCallError as error:
        if error.errno == 1:
            pytest.skip("needs CAP_NET_ADMIN")
        raise


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_original_destination_is_told(host: str) -> None:
    with made(host, 0, listening=True) as sock, socket.socket(sock.family, socket.SOCK_DGRAM) as program:
        where = sock.getsockname()
        for data in (b"one", b"two"):
            program.sendto(data, where)
        receiver = Receiver(sock.fileno(), libc(), UdpCounters(), 4)
        assert receiver.receive(receiver.batch) == 2
        rows = np.full((4, 28), 0xAA, np.uint8)
        original_destinations(receiver.headers, receiver.controls, rows)
        assert [unpack(row) for row in rows[:2]] == [(host, where[1])] * 2
        assert not rows[2:].any()


@pytest.mark.parametrize(("host", "port"), [("198.51.100.77", 5353), ("2001:db8::77", 5353)])
def test_a_foreign_address_can_be_answered_from(host: str, port: int) -> None:
    with made(host, port, listening=False) as sock:
        assert sock.getsockname()[:2] == (host, port)


def test_names_and_wrong_addresses_are_refused() -> None:
    with pytest.raises(DriverError, match="not an IP address"):
        transparent_socket("localhost", 1, listening=False)
    with made("127.0.0.1", 0, listening=True), pytest.raises(DriverError, match="out of range"):
        transparent_socket("127.0.0.1", 70000, listening=True)


def test_control_data_is_read_within_its_bounds() -> None:
    """Lengths that lie, at the end of readable memory."""
    arena = Arena(1, 4096)
    controls = arena.memory[-64:].reshape(1, 64)
    headers = np.zeros((1, 8), np.int64)
    rows = np.zeros((1, 28), np.uint8)
    source = np.random.default_rng(7)
    for _ in range(20_000):
        controls[0] = source.integers(0, 256, 64, np.uint8)
        controls[0, :16] = 0
        controls[0, 0] = source.integers(0, 90)
        controls[0, 8], controls[0, 12] = source.choice([(0, 20), (41, 74), (17, 104)])
        headers[0, 5] = source.integers(0, 100)
        original_destinations(headers, controls, rows)
