"""Socket addresses as rows, and the bounded table of them."""

from __future__ import annotations

import ipaddress
import socket

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.batch import SOCKADDR_SIZE
from drivers.errors import DriverError
from drivers.linux.address import for_socket, pack, unpack
from drivers.linux.address_table import AddressTable
from drivers.linux.libc import SOCKADDR_IN, SOCKADDR_IN6

PORTS = st.integers(0, 65535)


@given(st.ip_addresses(), PORTS)
def test_any_address_comes_back(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> None:
    row = pack(str(address), port)
    assert len(row) == SOCKADDR_SIZE
    host, back = unpack(row)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    assert ipaddress.ip_address(host) == (mapped or address)
    assert back == port


@given(st.ip_addresses(v=4), PORTS)
def test_a_mapped_address_is_the_ipv4_peer(address: ipaddress.IPv4Address, port: int) -> None:
    row = pack(str(address), port, mapped=True)
    assert int.from_bytes(row[:2], "little") == socket.AF_INET6
    assert unpack(np.frombuffer(row, np.uint8)) == (str(address), port)


def test_python_s_own_sendto_takes_what_was_unpacked() -> None:
    assert for_socket(socket.AF_INET, "192.0.2.1", 5) == ("192.0.2.1", 5)
    assert for_socket(socket.AF_INET6, "192.0.2.1", 5) == ("::ffff:192.0.2.1", 5)
    assert for_socket(socket.AF_INET6, "2001:db8::1", 5) == ("2001:db8::1", 5)


def test_rows_are_what_the_kernel_reads() -> None:
    four = np.frombuffer(pack("192.0.2.7", 4433)[:16], SOCKADDR_IN)[0]
    assert (four["family"], four["port"], bytes(four["address"])) == (socket.AF_INET, 4433, bytes([192, 0, 2, 7]))
    six = np.frombuffer(pack("fe80::1%1", 443), SOCKADDR_IN6)[0]
    assert (six["family"], six["port"], six["scope"]) == (socket.AF_INET6, 443, 1)
    assert bytes(six["address"]) == socket.inet_pton(socket.AF_INET6, "fe80::1")
    assert unpack(pack("fe80::1%1", 443)) == ("fe80::1%1", 443)
    assert pack("fe80::1%lo", 443) == pack(f"fe80::1%{socket.if_nametoindex('lo')}", 443)


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        ("example.com", 1, "resolve names"),
        ("", 1, "not an IP address"),
        ("127.0.0.1", -1, "out of range"),
        ("127.0.0.1", 65536, "out of range"),
        ("fe80::1%no-such-interface", 1, "no interface is called"),
    ],
)
def test_what_is_no_address_is_refused(host: str, port: int, message: str) -> None:
    with pytest.raises(DriverError, match=message):
        pack(host, port)


def test_a_row_that_was_never_filled_is_refused() -> None:
    with pytest.raises(DriverError, match="family 0 is neither"):
        unpack(bytes(SOCKADDR_SIZE))
    with pytest.raises(DriverError, match="neither"):
        unpack(pack("::1", 1)[:16])


def test_the_table_gives_one_row_per_peer_and_is_bounded() -> None:
    table = AddressTable(2)
    first = table.row("::1", 5)
    assert table.row("0:0:0:0:0:0:0:1", 5) == first
    second = table.row("127.0.0.1", 5)
    assert table.row("::ffff:127.0.0.1", 5) == second != first
    assert len(table) == 2
    assert table.find("127.0.0.1", 5) == second
    assert table.address(first) == ("::1", 5)
    with pytest.raises(DriverError, match="among 2 peers; release one first"):
        table.row("127.0.0.1", 6)
    table.release(first)
    assert not table.rows[first].any()
    assert table.find("::1", 5) is None
    assert table.row("127.0.0.1", 6) == first
    with pytest.raises(KeyError):
        table.release(99)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=40))
def test_the_table_is_a_dictionary(steps: list[tuple[int, bool]]) -> None:
    table, model = AddressTable(4), dict[int, int]()
    for port, add in steps:
        if add and (port in model or len(model) < 4):
            model[port] = table.row("192.0.2.1", port)
        elif not add and port in model:
            table.release(model.pop(port))
        assert len(table) == len(model) == len(set(model.values()))
        for each, row in model.items():
            assert table.find("192.0.2.1", each) == row
            assert unpack(table.rows[row]) == ("192.0.2.1", each)
