"""Datagrams that are written to the device as one come out of it as they went in, and nothing else is touched."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest

from drivers.linux.tun import ALL_OFFLOADS, VNET_HEADER
from tests.packets import PLAIN, TCP, UDP, packet, transport, vnet
from tests.property.invariants import check_tables
from tests.unit.vantun.dataplane.test_tun_pump import ONE, OUTSIDE, Town
from vantun.dataplane.ports import flow_index
from vantun.dataplane.tun_merge import MOST_SEGMENTS
from vantun.dataplane.tun_pump import EMPTY, write_tun
from vantun.dataplane.tun_tables import DOWN, IN, OK

USO = 5
ONE6, OUTSIDE6 = "fd00::2", "2001:db8::7"
DO_NOT_FRAGMENT = 0x4000


@pytest.fixture
def town() -> Iterator[Town]:
    there = Town()
    there.sessions.set_routes(1, (ONE, ONE6), ())
    yield there
    there.close()


def total(data: bytes, start: int = 0) -> int:
    """Return the sum of 16-bit words in ones' complement."""
    data += bytes(len(data) % 2)
    value: int = start + sum(struct.unpack(f">{len(data) // 2}H", data))
    while value >> 16:
        value = (value & 0xFFFF) + (value >> 16)
    return value


def pseudo(body: bytes, size: int) -> int:
    """Return the sum of the pseudo header of a UDP packet."""
    addresses = body[12:20] if body[0] >> 4 == 4 else body[8:40]
    return total(addresses, UDP + size)


def datagram(
    size: int, *, six: bool = False, ports: tuple[int, int] = (7, 9), number: int = 7, place: int = 0, hops: int = 64
) -> bytes:
    """Return a datagram of ``size`` bytes of payload as a kernel leaves it to the reader of a device."""
    payload = np.random.default_rng(size + number).bytes(size)
    made = bytearray(
        packet(
            *((ONE6, OUTSIDE6) if six else (ONE, OUTSIDE)),
            *(UDP, transport(UDP, *ports, payload)),
            place=place,
        )
    )
    start = 40 if six else 20
    made[7 if six else 8] = hops
    if not six:
        struct.pack_into(">H", made, 4, number)
        struct.pack_into(">H", made, 10, 0xFFFF ^ total(bytes(made[:20])))
    struct.pack_into(">H", made, start + 6, pseudo(bytes(made), 8 + size))
    return vnet(1, 0, 0, start, 6) + bytes(made)


def finished(frame: bytes) -> bytes:
    """Return a packet with its checksum completed, as the kernel does it."""
    made = bytearray(frame[VNET_HEADER:])
    if frame[0]:
        start, offset = struct.unpack_from("<HH", frame, 6)
        struct.pack_into(">H", made, start + offset, 0xFFFF ^ total(bytes(made[start:])))
    return bytes(made)


def split(frame: bytes) -> list[bytes]:
    """Return the packets that the kernel makes of what was written (__udp_gso_segment)."""
    _flags, kind, head, segment, start, _offset = struct.unpack_from("<BBHHHH", frame)
    made = frame[VNET_HEADER:]
    if kind != USO:
        return [finished(frame)]
    four = made[0] >> 4 == 4
    assert head == start + 8 == (28 if four else 48)
    size = len(made) - start
    assert struct.unpack_from(">H", made, 2 if four else 4)[0] == (len(made) if four else size)
    assert struct.unpack_from(">H", made, start + 4)[0] == size
    assert struct.unpack_from(">H", made, start + 6)[0] == pseudo(made, size), "the sum of the pseudo header"
    assert not four or total(made[:20]) == 0xFFFF, "the checksum of the IP header"
    found = []
    for number, at in enumerate(range(head, len(made), segment)):
        part = made[at : at + segment]
        one = bytearray(made[:head] + part)
        if four:
            struct.pack_into(">H", one, 2, len(one))
            struct.pack_into(">H", one, 4, struct.unpack_from(">H", one, 4)[0] + number & 0xFFFF)
            struct.pack_into(">H", one, 10, 0)
            struct.pack_into(">H", one, 10, 0xFFFF ^ total(bytes(one[:20])))
        else:
            struct.pack_into(">H", one, 4, len(one) - 40)
        struct.pack_into(">H", one, start + 4, len(part) + 8)
        struct.pack_into(">H", one, start + 6, pseudo(bytes(one), len(part) + 8))
        found.append(finished(vnet(1, 0, 0, start, 6) + bytes(one)))
    return found


def arrive(town: Town, frames: list[bytes]) -> None:
    """Have a session send frames, all of which arrive before any is written."""
    town.port.drain = lambda flow_index, now: 0  # type: ignore[method-assign]
    town.network.accepted_packets["tun:"].send(*frames)
    town.pass_time(1.0)


def write(town: Town) -> int:
    """Write once what has arrived; return the status."""
    context, flow = town.plane.context, flow_index(town.port.handle)
    status, _ = write_tun(context.tables.root, town.sessions.tables, 0, flow, context.address, town.now)
    check_tables(town.plane)
    return int(status)


def written(town: Town, frames: list[bytes]) -> list[bytes]:
    """Have a session send frames; return what was written to the device."""
    arrive(town, frames)
    found = []
    while True:
        status = write(town)
        with suppress(BlockingIOError):
            while True:
                found.append(town.far.recv(1 << 17))
        if status == EMPTY:
            return found


def same_flow(sizes: list[int], *, six: bool = False, place: int = 0) -> list[bytes]:
    return [datagram(size, six=six, number=7 + i, place=place) for i, size in enumerate(sizes)]


@pytest.mark.parametrize("six", [False, True])
@pytest.mark.parametrize("sizes", [[1372] * 20, [1000] * 5 + [999], [1] * 64, [1372, 1372]])
def test_datagrams_of_one_flow_are_written_as_one(town: Town, sizes: list[int], *, six: bool) -> None:
    frames = same_flow(sizes, six=six)
    (one,) = written(town, frames)
    assert split(one) == [finished(frame) for frame in frames]
    assert town.count(IN, OK) == len(sizes)
    slot = town.sessions.tables.root[0]["slot"][0]
    assert slot["packets"][IN] == len(sizes)
    assert slot["bytes"][IN] == sum(len(frame) - VNET_HEADER for frame in frames)
    buckets = town.sessions.tables.buckets
    assert buckets[:, 2 * IN].max() == len(sizes), "one flow is one bucket"
    assert buckets[:, 2 * IN + 1].max() == slot["bytes"][IN]


@pytest.mark.parametrize(
    ("frames", "writes"),
    [
        (same_flow([500, 600]), 2),
        (same_flow([500, 400, 500]), 2),
        (same_flow([500] * (MOST_SEGMENTS + 1)), 2),
        (same_flow([1400] * 50), 2),
        (same_flow([0, 0]), 2),
        ([datagram(500), datagram(500)], 2),
        ([datagram(500, place=DO_NOT_FRAGMENT), datagram(500, place=DO_NOT_FRAGMENT)], 1),
        ([datagram(500, number=0xFFFF), datagram(500, number=0)], 1),
        ([datagram(500), datagram(500, number=8, ports=(7, 10))], 2),
        ([datagram(500), datagram(500, number=8, hops=63)], 2),
        ([datagram(500, six=True), datagram(500, six=True, hops=63)], 2),
        ([datagram(500), datagram(500, six=True)], 2),
        ([datagram(500), PLAIN + datagram(500, number=8)[VNET_HEADER:]], 2),
        ([PLAIN + packet(ONE, OUTSIDE, TCP)] * 2, 2),
        ([datagram(500), PLAIN + packet(ONE, OUTSIDE, TCP), datagram(500, number=8)], 3),
    ],
    ids=[
        "a longer one",
        "behind a shorter one",
        "too many",
        "too long",
        "empty ones",
        "the same identification",
        "which is of no use where nobody may fragment",
        "counts on",
        "other ports",
        "other hop limit",
        "other hop limit of IPv6",
        "other family",
        "complete checksum",
        "TCP",
        "something between",
    ],
)
def test_what_would_come_out_otherwise_is_not_merged(town: Town, frames: list[bytes], writes: int) -> None:
    found = written(town, frames)
    assert len(found) == writes
    if not any(struct.unpack_from(">H", frame, VNET_HEADER + 6)[0] == DO_NOT_FRAGMENT for frame in frames):
        assert [part for frame in found for part in split(frame)] == [finished(frame) for frame in frames]
    assert town.count(IN, OK) == len(frames)


def test_a_mix_comes_out_in_order_and_whole(town: Town) -> None:
    random = np.random.default_rng(5)
    frames: list[bytes] = []
    numbers: dict[tuple[int, int], int] = {}
    size, ports, six = 500, (7, 0), False
    for _ in range(400):
        if random.random() < 0.3:
            size, ports, six = int(random.integers(1400)), (7, int(random.integers(3))), bool(random.random() < 0.3)
        numbers[ports] = numbers.get(ports, 0) + 1
        frames.append(datagram(size, six=six, ports=ports, number=numbers[ports]))
    found = written(town, frames)
    assert [part for frame in found for part in split(frame)] == [finished(frame) for frame in frames]
    assert len(found) < len(frames)


@pytest.mark.parametrize("offloads", [0x0F, 0x2F, 0x4F])
def test_a_kernel_that_does_not_split_is_given_single_ones(town: Town, offloads: int) -> None:
    town.state["offloads"] = offloads
    frames = same_flow([700] * 3)
    assert len(written(town, frames)) == (1 if offloads & 0x20 else 3)
    assert len(written(town, same_flow([700] * 3, six=True))) == (1 if offloads & 0x40 else 3)
    assert ALL_OFFLOADS & offloads == offloads


def test_a_device_that_is_gone_is_told_once_and_every_packet_counted(town: Town) -> None:
    arrive(town, same_flow([700] * 3))
    town.far.close()
    assert write(town) < 0
    assert town.count(IN, DOWN) == 3
    assert int(town.sessions.tables.root[0]["slot"][0]["dropped"][IN]) == 3
