"""Reading IP packets that a stranger made: what they say, and that nothing behind them is read."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.arena import Arena
from tests.packets import ICMP, TCP, UDP, halves, packet, transport
from vantun.dataplane.tun_parse import parse
from vantun.dataplane.tun_tables import MALFORMED, OK, SOURCE_ROUTE, TINY_FRAGMENT, make_tun_tables

A4, B4, A6, B6 = "10.8.0.2", "192.0.2.7", "fd00::2", "2001:db8::7"
TABLES, _ARENA = make_tun_tables()
PACKET = TABLES.root[0]["packet"][0]
# Its last byte is the last one before a guard page: whoever reads on, dies.
FENCED = Arena(1, 4096)


def read(data: bytes, size: int | None = None) -> int:
    """Parse ``data`` at the end of fenced memory."""
    memory = FENCED.memory
    at = len(memory) - len(data)
    memory[at:] = np.frombuffer(data, np.uint8)
    return int(parse(memory, at, len(data), len(data) if size is None else size, PACKET))


def said() -> tuple[object, ...]:
    """Return what the last packet said."""
    return tuple(
        tuple(int(half) for half in PACKET[name]) if PACKET[name].shape else int(PACKET[name])
        for name in ("family", "source", "target", "protocol", "source_port", "target_port", "fragment")
    )


@pytest.mark.parametrize(("source", "target"), [(A4, B4), (A6, B6)])
@pytest.mark.parametrize(
    ("protocol", "ports", "ends"), [(TCP, (65535, 22), 20), (UDP, (53, 1), 8), (ICMP, (-1, -1), 0)]
)
def test_what_a_packet_says(source: str, target: str, protocol: int, ports: tuple[int, int], ends: int) -> None:
    made = packet(source, target, protocol, ports=ports) if ends else packet(source, target, protocol, b"ping")
    assert read(made) == OK
    a, b = ip_address(source), ip_address(target)
    assert said() == (a.version, halves(a), halves(b), protocol, *ports, 0)
    header = 20 if a.version == 4 else 40
    assert int(PACKET["transport"]) == header
    assert int(PACKET["ends"]) == (header + ends if ends else 0)


def test_headers_alone_are_enough() -> None:
    assert read(packet(A4, B4, TCP)[:40], size=45) == OK
    assert read(packet(A4, B4, TCP)[:39], size=45) == MALFORMED
    assert read(packet(A6, B6, UDP)[:48], size=53) == OK
    assert read(packet(A6, B6, UDP)[:47], size=53) == MALFORMED


def _extension(following: int, words: int = 0, third: int = 0) -> bytes:
    return bytes([following, words, 0, third]) + bytes(4 + words * 8)


def _fragment(following: int, offset: int, *, more: bool) -> bytes:
    return struct.pack(">BBHI", following, 0, offset | more, 99)


def test_ports_behind_extension_headers() -> None:
    chain = _extension(60) + _extension(44, 1) + _fragment(43, 0, more=False) + _extension(TCP, 2)
    assert read(packet(A6, B6, 0, transport(TCP, 5, 6), options=chain)) == OK
    assert said()[3:] == (TCP, 5, 6, 0)


def test_authentication_headers_count_in_words_of_four() -> None:
    header = bytes([TCP, 4]) + bytes(22)
    assert read(packet(A6, B6, 51, transport(TCP, 5, 6), options=header)) == OK
    assert said()[3:] == (TCP, 5, 6, 0)


def test_a_chain_of_headers_without_an_end() -> None:
    assert read(packet(A6, B6, 60, b"", options=b"".join([_extension(60)] * 20))) == MALFORMED
    assert read(packet(A6, B6, 60, b"", options=_extension(60, 200))) == MALFORMED


@pytest.mark.parametrize(
    ("made", "verdict"),
    [
        (packet(A4, B4, options=bytes([131, 7, 4, 1, 2, 3, 4, 0])), SOURCE_ROUTE),
        (packet(A4, B4, options=bytes([1, 1, 137, 6, 4, 0, 0, 0])), SOURCE_ROUTE),
        (packet(A4, B4, options=bytes([1, 7, 1, 0])), SOURCE_ROUTE),
        (packet(A4, B4, options=bytes([1, 1, 1, 7])), SOURCE_ROUTE),
        (packet(A4, B4, options=bytes([148, 4, 0, 0])), OK),
        (packet(A4, B4, options=bytes([0, 131, 4, 4])), OK),
        (packet(A6, B6, 43, transport(UDP), options=_extension(UDP, 2, third=1)), SOURCE_ROUTE),
        (packet(A6, B6, 43, transport(UDP), options=_extension(UDP, 2)), OK),
    ],
)
def test_packets_that_are_routed_by_themselves(made: bytes, verdict: int) -> None:
    assert read(made) == verdict


@pytest.mark.parametrize(
    ("made", "verdict", "fragment", "port"),
    [
        (packet(A4, B4, TCP, place=0x2000), OK, 1, 2000),
        (packet(A4, B4, TCP, place=0x0002), OK, 2, -1),
        (packet(A4, B4, TCP, bytes(8), place=0x2001), TINY_FRAGMENT, 2, -1),
        (packet(A4, B4, UDP, bytes(8), place=0x2001), OK, 2, -1),
        (packet(A4, B4, TCP, bytes(16), place=0x2000), TINY_FRAGMENT, 1, -1),
        (packet(A4, B4, UDP, bytes(4), place=0x2000), TINY_FRAGMENT, 1, -1),
        (packet(A6, B6, 44, transport(UDP), options=_fragment(UDP, 0, more=True)), OK, 1, 2000),
        (packet(A6, B6, 44, transport(UDP), options=_fragment(UDP, 64, more=True)), OK, 2, -1),
        (packet(A6, B6, 44, bytes(8), options=_fragment(TCP, 8, more=True)), TINY_FRAGMENT, 2, -1),
        (packet(A6, B6, 44, bytes(8), options=_fragment(TCP, 0, more=True)), TINY_FRAGMENT, 1, -1),
        (
            packet(A6, B6, 44, transport(UDP), options=_fragment(44, 0, more=True) + _fragment(UDP, 8, more=False)),
            MALFORMED,
            1,
            -1,
        ),
        (packet(A6, B6, 44, b"x", options=_fragment(60, 64, more=True)), OK, 2, -1),
    ],
)
def test_fragments_show_their_ports_in_the_first_or_not_at_all(
    made: bytes, verdict: int, fragment: int, port: int
) -> None:
    assert read(made) == verdict
    if verdict == OK:
        assert (int(PACKET["fragment"]), int(PACKET["target_port"])) == (fragment, port)


@pytest.mark.parametrize("made", [packet(A4, B4), packet(A6, B6)])
def test_a_packet_is_as_long_as_it_says(made: bytes) -> None:
    assert read(made) == OK
    assert read(made + b"x") == MALFORMED
    assert read(made[:-1]) == MALFORMED
    assert read(b"") == MALFORMED
    assert read(bytes([made[0] & 0x0F | 0x50]) + made[1:]) == MALFORMED


def test_short_headers() -> None:
    assert read(bytes([0x44]) + packet(A4, B4)[1:]) == MALFORMED
    assert read(bytes([0x4F]) + packet(A4, B4, ICMP, b"")[1:]) == MALFORMED
    short = bytearray(packet(A4, B4, TCP))
    short[32] = 4 << 4
    assert read(bytes(short)) == MALFORMED
    short[32] = 15 << 4
    assert read(bytes(short)) == MALFORMED


@given(
    st.sampled_from(
        [packet(A4, B4, TCP), packet(A6, B6, UDP), packet(A6, B6, 0, transport(TCP), options=_extension(TCP))]
    ),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=6),
    st.binary(max_size=80),
    st.integers(0, 200),
    st.integers(0, 70_000),
)
def test_whatever_comes_nothing_behind_it_is_read(
    made: bytes, changes: list[tuple[int, int]], tail: bytes, cut: int, size: int
) -> None:
    data = bytearray(made + tail)
    for place, value in changes:
        data[place % len(data)] = value
    data = data[: max(len(data) - cut, 0)]
    for length in (len(data), size):
        if read(bytes(data), length) == OK:
            assert int(PACKET["ends"]) <= min(length, len(data))
            assert int(PACKET["transport"]) <= min(length, len(data))
            assert int(PACKET["family"]) in (4, 6)


@given(st.binary(max_size=100))
def test_noise(data: bytes) -> None:
    assert 0 <= read(data) < 5
