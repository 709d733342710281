"""Vnet headers from a peer: what fits its packet passes, rewritten; everything else is dropped."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.linux.tun import ALL_OFFLOADS, TCP_OFFLOADS, TunOffload
from tests.packets import ICMP, TCP, UDP, packet, transport, vnet
from vantun.dataplane.tun_parse import parse
from vantun.dataplane.tun_tables import BAD_VNET, OFFLOAD, OK, make_tun_tables
from vantun.dataplane.tun_vnet import check_vnet

A4, B4, A6, B6 = "10.8.0.2", "192.0.2.7", "fd00::2", "2001:db8::7"
CSUM, TSO4, TSO6, USO, ECN, UFO = 1, 1, 4, 5, 0x80, 3
TABLES, _ARENA = make_tun_tables()
PACKET = TABLES.root[0]["packet"][0]


def judge(header: bytes, made: bytes, offloads: int = ALL_OFFLOADS) -> tuple[int, tuple[int, ...]]:
    """Return the verdict, and the header as it was rewritten: flags, type, hdr_len, gso_size, csum_start and offset."""
    data = np.frombuffer(header + made[:246], np.uint8).copy()
    assert parse(data, 10, len(data) - 10, len(made), PACKET) == OK
    verdict = int(check_vnet(data, len(made), int(offloads), PACKET))
    return verdict, struct.unpack("<BBHHHH", data[:10].tobytes())


def big(source: str, target: str, protocol: int, size: int = 5000) -> bytes:
    return packet(source, target, protocol, transport(protocol, payload=bytes(size)))


@pytest.mark.parametrize(
    ("header", "made", "rewritten"),
    [
        (vnet(), packet(A4, B4), (0, 0, 0, 0, 0, 0)),
        (vnet(2, 0, 9, 8, 7, 6), packet(A4, B4), (0, 0, 0, 0, 0, 0)),
        (vnet(CSUM, 0, 0, 20, 6), packet(A4, B4), (1, 0, 0, 0, 20, 6)),
        (vnet(CSUM | 6, 0, 77, 40, 16, 99), packet(A6, B6, TCP), (1, 0, 0, 0, 40, 16)),
        (vnet(CSUM, TSO4, 1000, 20, 16, 3), big(A4, B4, TCP), (1, 1, 40, 1000, 20, 16)),
        (vnet(CSUM, TSO4 | ECN, 1000, 20, 16), big(A4, B4, TCP), (1, 0x81, 40, 1000, 20, 16)),
        (vnet(CSUM, TSO6, 1000, 40, 16), big(A6, B6, TCP), (1, 4, 60, 1000, 40, 16)),
        (vnet(CSUM, USO, 40, 20, 6), big(A4, B4, UDP), (1, 5, 28, 40, 20, 6)),
        (vnet(CSUM, USO, 1000, 40, 6), big(A6, B6, UDP), (1, 5, 48, 1000, 40, 6)),
        # a checksum of a packet inside of this one, as the kernel leaves it in a tunnel's
        (vnet(CSUM, 0, 0, 60, 16), big(A4, B4, UDP), (1, 0, 0, 0, 60, 16)),
        (vnet(CSUM, 0, 0, 20, 2), packet(A4, B4, ICMP, bytes(20)), (1, 0, 0, 0, 20, 2)),
    ],
)
def test_what_fits_its_packet_passes_without_what_is_not_needed(
    header: bytes, made: bytes, rewritten: tuple[int, ...]
) -> None:
    assert judge(header, made) == (OK, rewritten)


@pytest.mark.parametrize(
    ("header", "made"),
    [
        (vnet(0, TSO4, 1000, 20, 16), big(A4, B4, TCP)),  # a superpacket needs a checksum
        (vnet(CSUM, 0, 0, 20, 0), packet(A4, B4)),  # would overwrite the ports
        (vnet(CSUM, 0, 0, 20, 2), packet(A4, B4)),
        (vnet(CSUM, 0, 0, 20, 16), packet(A4, B4)),  # TCP's place in UDP
        (vnet(CSUM, 0, 0, 0, 16), packet(A4, B4)),  # in the IP header: another target
        (vnet(CSUM, 0, 0, 22, 0), packet(A4, B4)),
        (vnet(CSUM, 0, 0, 12, 4), packet(A4, B4, ICMP, bytes(20))),
        (vnet(CSUM, 0, 0, 28, 4), packet(A4, B4)),  # behind the end
        (vnet(CSUM, 0, 0, 65535, 65535), packet(A4, B4)),
        (vnet(CSUM, 0, 0, 20, 16), packet(A4, B4, TCP, place=0x2000)),  # of a fragment
        (vnet(CSUM, 0, 0, 20, 6), packet(A4, B4, UDP, bytes(64), place=0x0010)),
        (vnet(CSUM, TSO6, 1000, 20, 16), big(A4, B4, TCP)),  # another family
        (vnet(CSUM, TSO4, 1000, 40, 16), big(A6, B6, TCP)),
        (vnet(CSUM, TSO4, 1000, 20, 6), big(A4, B4, UDP)),  # another transport
        (vnet(CSUM, USO, 1000, 20, 16), big(A4, B4, TCP)),
        (vnet(CSUM, USO | ECN, 1000, 20, 6), big(A4, B4, UDP)),
        (vnet(CSUM, UFO, 1000, 20, 6), big(A4, B4, UDP)),  # no longer exists
        (vnet(CSUM, 2, 1000, 20, 6), big(A4, B4, UDP)),
        (vnet(CSUM, 6, 1000, 20, 6), big(A4, B4, UDP)),
        (vnet(CSUM, TSO4, 0, 20, 16), big(A4, B4, TCP)),  # into nothing
        (vnet(CSUM, TSO4, 1, 20, 16), big(A4, B4, TCP)),  # into 5,000 packets
        (vnet(CSUM, USO, 10, 20, 6), big(A4, B4, UDP)),
        (vnet(CSUM, TSO4, 1000, 20, 16), packet(A4, B4, TCP, transport(TCP, payload=b""))),
        (vnet(CSUM, TSO4, 1000, 60, 16), big(A4, B4, TCP)),  # a checksum elsewhere
    ],
)
def test_what_contradicts_its_packet_is_dropped(header: bytes, made: bytes) -> None:
    assert judge(header, made)[0] == BAD_VNET


@pytest.mark.parametrize(
    ("header", "made", "offloads", "verdict"),
    [
        (vnet(CSUM, USO, 1000, 20, 6), big(A4, B4, UDP), TCP_OFFLOADS, OFFLOAD),
        (vnet(CSUM, USO, 1000, 40, 6), big(A6, B6, UDP), TCP_OFFLOADS | TunOffload.USO4, OFFLOAD),
        (vnet(CSUM, TSO4, 1000, 20, 16), big(A4, B4, TCP), TunOffload.CSUM | TunOffload.TSO6, OFFLOAD),
        (vnet(CSUM, 0, 0, 20, 6), packet(A4, B4), TunOffload.NONE, OFFLOAD),
        (vnet(), packet(A4, B4), TunOffload.NONE, OK),
    ],
)
def test_what_this_kernel_does_not_take_is_dropped(header: bytes, made: bytes, offloads: int, verdict: int) -> None:
    assert judge(header, made, offloads)[0] == verdict


def test_a_congestion_mark_is_left_out_for_a_kernel_that_knows_none() -> None:
    header = vnet(CSUM, TSO4 | ECN, 1000, 20, 16)
    assert judge(header, big(A4, B4, TCP), TunOffload.CSUM | TunOffload.TSO4) == (OK, (1, 1, 40, 1000, 20, 16))


FIELD = st.integers(0, 65535) | st.sampled_from([0, 6, 16, 20, 28, 40, 48, 60])


@given(
    st.integers(0, 255) | st.just(CSUM),
    st.integers(0, 255) | st.sampled_from([0, TSO4, TSO6, USO]),
    FIELD,
    FIELD,
    FIELD,
    FIELD,
    st.sampled_from([packet(A4, B4), packet(A6, B6, TCP), big(A4, B4, TCP), big(A6, B6, UDP, 60_000)]),
)
def test_whatever_it_says_the_kernel_is_given_sense(
    flags: int, kind: int, segment: int, start: int, offset: int, head: int, made: bytes
) -> None:
    verdict, (out_flags, out_kind, out_head, out_segment, out_start, out_offset) = judge(
        vnet(flags, kind, segment, start, offset, head), made
    )
    if verdict != OK:
        return
    assert out_flags in (0, 1)
    assert out_kind in (0, 1, 4, 5, 0x81, 0x84)
    assert out_head <= len(made)
    transport_at = 20 if made[0] >> 4 == 4 else 40
    if out_flags:
        assert transport_at + 6 <= out_start + out_offset <= len(made) - 2
    if out_kind:
        assert out_flags
        assert out_segment >= 1
        assert (len(made) - out_head) / out_segment <= 2048
