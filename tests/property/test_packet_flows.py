"""Packet flows: whatever happens to the shards, what is delivered was sent, once, and in order if that is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.peer import PACKETS, SMALL, Peer, body, data, open_record, packets, pair
from tests.property.invariants import check_tables
from vantun.dataplane.events import FlowOpened
from vantun.lab.network import SESSION
from vantun.lab.packet_port import MemoryPacketPort
from vantun.session.limits import Limits
from vantun.session.packets import MAX_PACKET

HOLD = 0.18
"""How long packets wait on a lane whose RTT is not known: 1.5 times 100 ms and 30 ms."""
ROOMY = replace(SMALL, limits=Limits(sessions=2, flows=16, rows=4096, flows_per_session=16))
SIZES = st.one_of(st.integers(0, 40), st.integers(0, 3000), st.sampled_from([0, 1, 1137, 65_535, MAX_PACKET]))


def bodies_of(sizes: list[int], seed: int) -> list[bytes]:
    """Return a packet of each size; each says which one it is, as far as it has room."""
    random = np.random.default_rng(seed)
    return [(i.to_bytes(2, "big") + random.bytes(size))[:size] for i, size in enumerate(sizes)]


def in_order(got: list[bytes], sent: list[bytes]) -> bool:
    """Return whether ``got`` is ``sent`` with some left out."""
    rest = iter(sent)
    return all(any(one == other for other in rest) for one in got)


@dataclass(frozen=True)
class Piece:
    """A PACKETS record of a stream of packets: its place, and where the first packet starts in it."""

    offset: int
    first: int
    content: bytes


def cut(sent: list[bytes], cuts: list[int]) -> list[Piece]:
    """Cut the stream of ``sent`` at ``cuts``, and wherever a record would be longer than a shard."""
    whole = b"".join(map(body, sent))
    starts = np.cumsum([0, *(4 + len(one) for one in sent)]).tolist()
    places = sorted({0, len(whole), *(place % (len(whole) + 1) for place in cuts), *range(0, len(whole), 1100)})
    pieces = []
    for low, high in pairwise(places):
        first = next((start for start in starts if low <= start < high), high)
        pieces.append(Piece(low, first - low, whole[low:high]))
    return pieces


@dataclass
class Receiver:
    """An endpoint with a packet flow, and the hand that gives it shards."""

    target: bytes
    open_for: int | None = None
    peer: Peer = field(default_factory=lambda: Peer(ROOMY))

    def __post_init__(self) -> None:
        self.plane = self.peer.end.plane
        self.peer.send(data(0, 0, open_record(0, self.target)))
        event = self.peer.end.events[-1]
        assert isinstance(event, FlowOpened)
        self.port = MemoryPacketPort(self.plane, open_for=self.open_for)
        self.plane.attach_flow(event.handle, self.port, self.peer.now)
        self.peer.depart()

    def give(self, number: int, piece: Piece) -> None:
        self.peer.send(data(PACKETS, number, packets(0, piece.offset, piece.first, piece.content)))

    def check(self, sent: list[bytes], *, ordered: bool) -> None:
        got = self.port.bodies
        if ordered:
            assert in_order(got, sent)
        left = list(sent)
        for one in got:
            left.remove(one)  # raises for what was not sent, or not so often
        check_tables(self.plane)
        policy = self.plane.context.tables.policy[0]
        assert int(self.plane.context.tables.session[0]["pieces"]) <= int(policy["pieces_per_session"])


Delivery = list[tuple[int, bool, bool]]
"""(shard, whether it comes twice, whether time passes) in the order of arrival."""


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[bytes], list[Piece], Delivery]:
    sizes = draw(st.lists(SIZES, min_size=1, max_size=8))
    sent = bodies_of(sizes, draw(st.integers(0, 9)))
    length = sum(sizes) + 4 * len(sizes)
    pieces = cut(sent, draw(st.lists(st.integers(0, length), max_size=6)))
    kept = [i for i in range(len(pieces)) if draw(st.integers(0, 5))] if draw(st.booleans()) else range(len(pieces))
    order = draw(st.permutations(list(kept)))
    if draw(st.booleans()):  # mostly in order, as on a real path
        order = sorted(order, key=lambda i: i // 3)
    marks = st.sampled_from([False, False, False, True])
    return sent, pieces, [(i, draw(marks), draw(marks)) for i in order]


@pytest.mark.slow
@pytest.mark.parametrize("target", [b"tun:", b"udp:"])
@given(delivery=deliveries())
def test_what_is_delivered_was_sent_once(target: bytes, delivery: tuple[list[bytes], list[Piece], Delivery]) -> None:
    sent, pieces, journey = delivery
    end = Receiver(target)
    ordered = target == b"tun:"
    for shard, twice, wait in journey:
        for _ in range(2 if twice else 1):
            end.give(shard // 100 * 128 + shard % 100, pieces[shard])
            end.check(sent, ordered=ordered)
        if wait:
            end.peer.depart(0.05)
    end.peer.depart(0.001)
    end.peer.depart(1.0)  # whatever was waited for is given up
    end.peer.depart(0.001)
    end.check(sent, ordered=ordered)
    assert end.peer.violations == []
    pending = int(end.plane.context.tables.session[0]["pieces"])
    assert pending == 0
    assert end.peer.end_session() == end.peer.empty


@pytest.mark.slow
@pytest.mark.parametrize("target", [b"tun:", b"udp:"])
@given(delivery=deliveries())
def test_all_packets_come_if_all_shards_come_in_time(
    target: bytes, delivery: tuple[list[bytes], list[Piece], Delivery]
) -> None:
    sent, pieces, journey = delivery
    end = Receiver(target)
    late = set(range(len(pieces))) - {shard for shard, _, _ in journey}
    for shard in [*(shard for shard, _, _ in journey), *late]:
        end.give(shard // 100 * 128 + shard % 100, pieces[shard])
    assert sorted(end.port.bodies) == sorted(sent)
    if target == b"tun:":
        assert end.port.bodies == sent


@pytest.mark.slow
@given(delivery=deliveries(), open_for=st.integers(0, 3))
def test_a_full_port_takes_the_rest_later(delivery: tuple[list[bytes], list[Piece], Delivery], open_for: int) -> None:
    sent, pieces, _ = delivery
    end = Receiver(b"tun:", open_for=open_for)
    for shard, piece in enumerate(pieces):
        end.give(shard // 100 * 128 + shard % 100, piece)
        assert len(end.port.bodies) <= open_for
    for _ in range(len(sent)):
        end.port.take(1)
        end.peer.depart(0.0)
        end.check(sent, ordered=True)
    assert end.port.bodies == sent


# --- sending


def records_of(area: bytes) -> list[tuple[int, Piece]]:
    """Return (flow, piece) of every PACKETS record of an area, read by hand."""

    def varint(at: int) -> tuple[int, int]:
        size = 1 << (area[at] >> 6)
        return int.from_bytes(area[at : at + size], "big") & ((1 << (8 * size - 2)) - 1), at + size

    found = []
    at = 0
    while at < len(area):
        kind = area[at]
        assert kind in (0x20, 0x21)
        flow, at = varint(at + 1)
        offset, at = varint(at)
        first, at = varint(at)
        size = len(area) - at
        if kind == 0x21:
            size, at = varint(at)
        assert size > 0
        assert first <= size
        found.append((flow, Piece(offset, first, area[at : at + size])))
        at += size
    return found


@pytest.mark.slow
@given(
    turns=st.lists(st.lists(st.tuples(st.integers(0, 2), SIZES), min_size=1, max_size=6), min_size=1, max_size=5),
    seed=st.integers(0, 9),
)
def test_records_say_what_was_put(turns: list[list[tuple[int, int]]], seed: int) -> None:
    peer = Peer(ROOMY, client=True)
    plane = peer.end.plane
    ports = [MemoryPacketPort(plane) for _ in range(3)]
    for port in ports:
        plane.open_flow(SESSION, "udp:", port, peer.now)
    peer.send(b"\x02" + bytes(8))  # the lane is in use once something has been heard: a RECEIPT makes it so
    sent: dict[int, bytes] = {0: b"", 2: b"", 4: b""}
    came: dict[int, dict[int, Piece]] = {0: {}, 2: {}, 4: {}}
    starts: dict[int, set[int]] = {0: {0}, 2: {0}, 4: {0}}
    random = np.random.default_rng(seed)
    plane.context.tables.lane[0]["state"] = 2
    plane.context.tables.lane[0]["cwnd"] = plane.context.tables.lane[0]["pacing_rate"] = 1e9
    for turn in turns:
        for flow, size in turn:
            content = random.bytes(size)
            ports[flow].send(content)
            sent[2 * flow] += body(content)
            starts[2 * flow].add(len(sent[2 * flow]))
        for _ in range(20):
            for frames in peer.depart(0.001):
                if frames[0] == 8 and frames[1] == PACKETS:
                    size = int.from_bytes(frames[8:10], "big")
                    for number, piece in records_of(frames[10 : 10 + size]):
                        came[number][piece.offset] = piece
    for flow, pieces in came.items():
        whole = b"".join(pieces[offset].content for offset in sorted(pieces))
        assert sent[flow].startswith(whole)
        for offset, piece in pieces.items():
            here = [start for start in starts[flow] if offset <= start < offset + len(piece.content)]
            assert offset + piece.first == min(here, default=offset + len(piece.content))
    check_tables(plane)
    assert sum(port.fed for port in ports) > 0 or all(
        sent[flow] == b"".join(came[flow][offset].content for offset in sorted(came[flow])) for flow in came
    )
    assert peer.end_session() == peer.empty


@given(st.binary(min_size=0, max_size=12), st.sampled_from([b"", b"udp", b"tun", b"udp:", b"tun:", b"udp:a:", b"tu"]))
def test_targets_of_packet_flows(rest: bytes, start: bytes) -> None:
    from vantun.session.inbox import packet_mode
    from vantun.session.packets import NOW, ORDERED

    target = start + rest
    expected = 0
    if target[:4] in (b"udp:", b"tun:") and (len(target) == 4 or b":" in target[4:]):
        expected = NOW if target[:3] == b"udp" else ORDERED
    assert int(packet_mode(np.frombuffer(target or b"\0", np.uint8), 0, len(target))) == expected


def test_a_fin_that_overtakes_its_open_is_judged_by_the_kind_of_the_flow() -> None:
    peer = Peer()
    peer.send(data(0, 0, pair(3, 0, 1 << 40)), data(0, 1, open_record(0, b"udp:")))
    assert peer.violations == []
    peer = Peer()
    peer.send(data(0, 0, pair(3, 0, 1 << 40)), data(0, 1, open_record(0, b"a:1")))
    assert peer.violations == ["contradicting final sizes"]
