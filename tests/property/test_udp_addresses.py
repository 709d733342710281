"""Addresses in UDP packets: kernels against the plain definition, at the edge of their memory."""

from __future__ import annotations

import ipaddress
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from drivers.arena import Arena
from drivers.linux.address import pack, unpack
from vantun.udp_address import decode_address, encode_address
from vantun.wire.addresses import address_size, get_row, put_row

NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=255).filter(
    lambda name: not _is_literal(name)
)
HOSTS = st.one_of(st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str))
PORTS = st.integers(0, 65535)
FENCE = Arena(1, 4096)
"""Its end is the beginning of a page that nobody may read."""


def _is_literal(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def at_the_fence(data: bytes) -> tuple[NDArray[np.uint8], int]:
    """Return memory that ends with ``data``, and where it starts."""
    start = len(FENCE.memory) - len(data)
    FENCE.memory[start:] = np.frombuffer(data, np.uint8)
    return FENCE.memory, start


def expected_size(data: bytes) -> int:
    try:
        return decode_address(data)[2]
    except ValueError:
        return -1


@given(st.binary(max_size=300))
def test_any_bytes_are_measured_as_defined(data: bytes) -> None:
    memory, start = at_the_fence(data)
    assert address_size(memory, start, len(memory)) == expected_size(data)


def test_a_hundred_thousand_random_inputs() -> None:
    source = random.Random(20)
    kinds = (0, 1, 3, 3, 4, 5, 255)
    for _ in range(100_000):
        length = source.randrange(0, 30)
        data = bytes([source.choice(kinds), source.randrange(0, 40)]) + source.randbytes(length)
        data = data[: source.randrange(0, len(data) + 1)]
        memory, start = at_the_fence(data)
        assert address_size(memory, start, len(memory)) == expected_size(data)


@given(st.one_of(HOSTS, NAMES), PORTS, st.binary(max_size=20))
def test_an_address_comes_out_as_it_went_in(host: str, port: int, payload: bytes) -> None:
    data = encode_address(host, port)
    found, found_port, size = decode_address(data + payload)
    if _is_literal(host):
        mapped = getattr(ipaddress.ip_address(host), "ipv4_mapped", None)
        assert ipaddress.ip_address(found) == (mapped or ipaddress.ip_address(host))
    else:
        assert found == host
    assert (found_port, size) == (port, len(data))
    memory, start = at_the_fence(data + payload)
    assert address_size(memory, start, len(memory)) == size


@given(HOSTS, PORTS, st.booleans())
def test_socket_addresses_become_addresses_and_back(host: str, port: int, mapped: bool) -> None:
    rows = np.frombuffer(pack(host, port, mapped=mapped), np.uint8).reshape(1, 28).copy()
    expected = encode_address(host, port)
    memory, start = at_the_fence(bytes(len(expected)))
    assert put_row(memory, start, rows, 0) == len(expected)
    assert memory[start:].tobytes() == expected
    back = np.full((1, 28), 0xAA, np.uint8)
    assert get_row(memory, start, back, 0)
    assert unpack(back[0]) == unpack(rows[0])


@pytest.mark.parametrize("short", [0, 1, 6])
def test_nothing_is_written_behind_the_end(short: int) -> None:
    rows = np.frombuffer(pack("192.0.2.1", 5), np.uint8).reshape(1, 28).copy()
    memory = np.zeros(short, np.uint8)
    assert put_row(memory, 0, rows, 0) == -1
    assert put_row(np.zeros(40, np.uint8), -1, rows, 0) == -1


def test_other_families_and_names_are_no_socket_addresses() -> None:
    rows = np.zeros((1, 28), np.uint8)
    assert put_row(np.zeros(40, np.uint8), 0, rows, 0) == -1
    memory, start = at_the_fence(encode_address("example.org", 53))
    assert not get_row(memory, start, rows, 0)


@pytest.mark.parametrize(("host", "port"), [("x" * 256, 1), ("bücher.example", 1), ("192.0.2.1", 65536), ("a", -1)])
def test_what_no_packet_can_name(host: str, port: int) -> None:
    with pytest.raises(ValueError, match=r"bytes|range|ascii|name"):
        encode_address(host, port)
