"""Binding: who gets which address, and what is said when nobody does."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from drivers.errors import DriverError, SystemCallError
from drivers.linux.address import for_socket
from drivers.linux.udp_bind import bind_udp, buffer_warning
from tests.unit.drivers.linux.loopback import ipv6_missing

ROOT = Path(__file__).parents[4]
NO_IPV6 = ipv6_missing()


def test_a_bound_socket_does_not_block_and_may_be_handed_on() -> None:
    with bind_udp("127.0.0.1", 0) as sock:
        assert sock.getblocking() is False
        assert sock.getsockname()[0] == "127.0.0.1"
        assert not sock.get_inheritable()


@pytest.mark.skipif(NO_IPV6 is not None, reason=f"{NO_IPV6}")
def test_no_host_is_both_families() -> None:
    with bind_udp("", 0) as both, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as four:
        assert both.family == socket.AF_INET6
        four.bind(("127.0.0.1", 0))
        both.sendto(b"x", for_socket(both.family, *four.getsockname()))
        assert four.recv(10) == b"x"


@pytest.mark.slow
def test_binding_pulls_in_no_compiler() -> None:
    code = "import sys, drivers.linux.udp_bind, drivers.linux.udp; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=30)


def test_a_taken_port_is_a_named_error() -> None:
    holder = bind_udp("127.0.0.1", 0)
    with pytest.raises(SystemCallError, match="stop the program that holds it") as caught:
        bind_udp("127.0.0.1", holder.getsockname()[1])
    assert caught.value.errno == errno.EADDRINUSE
    holder.close()


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        ("localhost", 1, "not an IP address"),
        ("127.0.0.1", 70000, "out of range"),
        ("192.0.2.1", 0, "address of this machine"),
    ],
)
def test_an_address_that_cannot_be_bound_is_a_named_error(host: str, port: int, message: str) -> None:
    with pytest.raises(DriverError, match=message):
        bind_udp(host, port)


def test_buffers_that_the_kernel_refuses_are_told_with_the_line_that_helps() -> None:
    with bind_udp("127.0.0.1", 0, receive_buffer=65_536, send_buffer=65_536) as sock:
        assert buffer_warning(sock, 65_536, 65_536) is None
        warning = buffer_warning(sock, 1 << 30, 65_536)
    assert warning is not None
    assert "gave 65536 bytes of UDP receive buffer where 1073741824 were asked" in warning
    assert "sysctl -w net.core.rmem_max=1073741824" in warning
    assert "wmem" not in warning
