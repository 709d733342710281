"""What anybody on the way, or a peer with the right keys, may send: it is counted, and costs others no byte, no row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.peer import (
    BULK,
    CID,
    INTERACTIVE,
    SMALL,
    Peer,
    body,
    data,
    open_record,
    packets,
    pair,
    parity,
    receipt,
    stream,
    unit,
    varint,
)
from tests.property.invariants import check_tables
from vantun.dataplane.config import DataplaneConfig
from vantun.dataplane.events import FlowOpened
from vantun.lab.link import LinkProfile
from vantun.lab.network import Network
from vantun.lab.packet_port import MemoryPacketPort
from vantun.lab.transfer import start_transfer
from vantun.session.limits import Limits

CLEAN = LinkProfile(rate=400e6, delay=0.005, queue_bytes=4_000_000)
SIZE = 2_000_000
FIRST_CID = {0: bytes([0]) + (1 + (1 << 32)).to_bytes(7, "big"), 1: bytes([0]) + (1).to_bytes(7, "big")}
"""Connection ids of path 1 in packets of each direction."""


def drops(network: Network) -> dict[str, int]:
    total: dict[str, int] = {}
    for end in (network.client, network.server):
        counted = end.plane.snapshot()["drops"]
        assert isinstance(counted, dict)
        for name, count in counted.items():
            total[name] = total.get(name, 0) + count
    return {name: count for name, count in total.items() if count}


def run_under_attack(
    attack: Callable[[Network, int, int, bytes], bytes | None], profile: LinkProfile = CLEAN
) -> Network:
    """Transfer SIZE bytes each way while ``attack`` sees, changes and injects datagrams; check bytes and rows."""
    network = Network(seed=21)
    network.add_path(1, profile)
    network.tamper = lambda path, direction, datagram: attack(network, path, direction, datagram)
    transfer = start_transfer(network, SIZE, SIZE)
    assert network.run(60.0, lambda: transfer.done(network))
    network.run(network.now + 1.0)
    transfer.check(network)
    for end in (network.client, network.server):
        assert len(end.plane.flows) == 0
        assert end.rows_in_use <= 2 * 4 * 128
        assert not [event for event in end.events if type(event).__name__ == "SessionViolated"]
    return network


@pytest.mark.slow
def test_injected_garbage_under_the_right_connection_id_is_counted() -> None:
    random = np.random.default_rng(1)
    sent = 0

    def attack(network: Network, path: int, direction: int, datagram: bytes) -> bytes:
        nonlocal sent
        head = bytes([random.integers(0x80)]) + FIRST_CID[direction]
        network.inject(direction, head + random.bytes(int(random.integers(24, 1300))))
        sent += 1
        return datagram

    network = run_under_attack(attack)
    assert sent > 1000
    assert drops(network)["bad"] == sent  # 33 bytes at least: each is looked at
    assert network.client.misses + network.server.misses == 0


@pytest.mark.slow
def test_packets_for_nobody_are_misses() -> None:
    random = np.random.default_rng(2)
    sent = 0

    def attack(network: Network, path: int, direction: int, datagram: bytes) -> bytes:
        nonlocal sent
        network.inject(direction, random.bytes(int(random.integers(0, 1300))))
        sent += 1
        return datagram

    network = run_under_attack(attack)
    assert network.client.misses + network.server.misses == sent
    assert set(drops(network)) <= {"late"}


@pytest.mark.slow
def test_replayed_packets_are_counted_exactly() -> None:
    sent = 0

    def attack(network: Network, path: int, direction: int, datagram: bytes) -> bytes:
        nonlocal sent
        network.inject(direction, datagram, after=0.02)
        network.inject(direction, datagram, after=0.1)
        sent += 2
        return datagram

    network = run_under_attack(attack)
    network.run(network.now + 0.2)
    assert drops(network)["replay"] in range(sent - 60, sent + 1)  # those of the last 0.1 s are still under way


@pytest.mark.slow
def test_reflected_packets_are_misses_or_bad() -> None:
    sent = 0

    def attack(network: Network, path: int, direction: int, datagram: bytes) -> bytes:
        nonlocal sent
        network.inject(1 - direction, datagram)
        network.inject(1 - direction, datagram[:1] + FIRST_CID[1 - direction] + datagram[9:])
        sent += 1
        return datagram

    network = run_under_attack(attack)
    assert network.client.misses + network.server.misses == sent
    assert drops(network)["bad"] == sent


@pytest.mark.slow
def test_flipped_bits_cost_the_packet_and_nothing_else() -> None:
    random = np.random.default_rng(3)
    flipped = 0

    def attack(network: Network, path: int, direction: int, datagram: bytes) -> bytes:
        nonlocal flipped
        if random.random() > 0.1:
            return datagram
        flipped += 1
        changed = bytearray(datagram)
        changed[random.integers(9, len(changed))] ^= 1 << random.integers(8)
        return bytes(changed)

    network = run_under_attack(attack)
    assert flipped > 200
    assert drops(network)["bad"] == flipped


@pytest.mark.slow
def test_truncated_packets() -> None:
    random = np.random.default_rng(4)
    looked_at = missed = 0

    def attack(network: Network, path: int, direction: int, datagram: bytes) -> bytes:
        nonlocal looked_at, missed
        cut = int(random.integers(0, len(datagram)))
        network.inject(direction, datagram[:cut])
        if cut >= 33:
            looked_at += 1
        else:
            missed += 1
        return datagram

    network = run_under_attack(attack)
    assert drops(network)["bad"] == looked_at
    assert network.client.misses + network.server.misses == missed


def test_every_length_of_datagram() -> None:
    peer = Peer(DataplaneConfig(limits=SMALL.limits))
    for size in range(1501):
        peer.end.arrive((b"\x43" + CID + bytes(size))[:size], peer.now)
    peer.end.run(peer.now)
    counted = peer.drops()
    assert peer.end.misses == 33
    assert counted["bad"] + counted.get("malformed", 0) + counted.get("no_row", 0) == 1501 - 33
    assert peer.pool().rows == peer.empty.rows


# --- a peer with the right keys


def in_stream(*records: bytes) -> bytes:
    return data(INTERACTIVE, 0, b"".join(records))


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (in_stream(stream(0, 262144, b"x")), "credit"),
        (in_stream(stream(1, 0, b"x")), "flow id"),
        (in_stream(open_record(1)), "flow id"),
        (in_stream(stream(2 * 16, 0, b"x")), "flow id"),  # the 17th flow
        (in_stream(stream(1 << 44, 0, b"x")), "flow id"),
        (in_stream(stream((1 << 62) - 2, 0, b"x")), "flow id"),
        (in_stream(open_record(0), pair(3, 0, 262145)), "final"),
        (in_stream(pair(3, 0, 5), pair(3, 0, 6)), "final"),
        (in_stream(stream(0, 0, b"123456"), pair(3, 0, 5)), "final"),
        (in_stream(pair(3, 0, 5), stream(0, 0, b"123456")), "final"),
        (in_stream(b"\x09\x00\x00"), "record"),
        (in_stream(packets(0, 0, 4, b"abc")), "record"),
        (in_stream(b"\x20\x00\x00"), "record"),
        (in_stream(b"\x21\x00\x00\x00\x05abcd"), "record"),
        (in_stream(stream(0, 0, b"x"), packets(0, 1, 0, b"x")), "impossible length"),
        (in_stream(packets(0, 0, 0, b"x"), stream(0, 1, b"x")), "impossible length"),
        (in_stream(open_record(0), packets(0, 0, 0, b"x")), "impossible length"),
        (in_stream(open_record(0, b"udp:"), stream(0, 0, b"x")), "impossible length"),
        (in_stream(packets(0, 0, 0, b"x"), open_record(0)), "impossible length"),
        (in_stream(packets(1, 0, 0, b"x")), "flow id"),
        (in_stream(packets(1 << 44, 0, 0, b"x")), "flow id"),
        (in_stream(b"\x01\x00\x45"), "record"),
        (in_stream(open_record(0, bytes(261))), "record"),
        (receipt([(0, 5)]), "never sent"),
        (receipt([((1 << 62) - 1, (1 << 62) - 1)]), "never sent"),
        (b"\x0a", "unknown frame"),
        (b"\xff" * 20, "unknown frame"),
        (in_stream(stream(0, 0, b"x")) + b"\x07", "unknown frame"),
        (data(BULK, 5, stream(0, 0, b"x"), k=5), "contradicts"),
        (data(BULK, 0, stream(0, 0, b"x"), k=129), ""),
        (parity(BULK, 1, 4, 0, bytes(40)), "contradicts"),
        (parity(BULK, 0, 0, 0, bytes(40)), "contradicts"),
        (parity(BULK, 0, 4, 127, bytes(40)), "contradicts"),
        (data(4, 0, stream(0, 0, b"x")), ""),
    ],
)
def test_a_violation_ends_the_session_and_not_the_process(frames: bytes, reason: str) -> None:
    peer = Peer()
    peer.send(frames)
    if reason:
        assert len(peer.violations) == 1
        assert reason in peer.violations[0]
    else:
        assert peer.drops() == {"malformed": 1}
    before = peer.end.rows_in_use
    peer.send(frames, data(INTERACTIVE, 1, open_record(2)))  # nothing more is taken from it
    assert len(peer.violations) == (1 if reason else 0)
    if reason:
        assert peer.end.rows_in_use == before
    assert peer.end_session() == peer.empty


@pytest.mark.parametrize(
    "frames",
    [
        (data(BULK, 5, b""), data(BULK, 1, b"", k=3)),
        (data(BULK, 127, b""), parity(BULK, 0, 64, 0, bytes(40))),
        (data(BULK, 70, b""), parity(BULK, 0, 3, 0, bytes(40))),
        (data(BULK, 0, b"", k=4), data(BULK, 1, b"", k=5)),
        (parity(BULK, 0, 3, 0, bytes(40)), parity(BULK, 0, 3, 1, bytes(41))),
        (parity(BULK, 0, 3, 0, bytes(40)), parity(BULK, 0, 4, 1, bytes(40))),
        (parity(BULK, 0, 3, 0, bytes(10)), data(BULK, 0, stream(0, 0, bytes(20)))),
        (data(BULK, 0, stream(0, 0, bytes(20))), parity(BULK, 0, 3, 0, bytes(10))),
    ],
)
def test_shards_that_contradict_each_other(frames: tuple[bytes, ...]) -> None:
    peer = Peer()
    peer.send(*frames)
    assert peer.violations == ["a shard that contradicts its block"]
    assert peer.end_session() == peer.empty


def test_parity_that_lies_ends_the_session() -> None:
    peer = Peer()
    peer.send(data(BULK, 0, b"", k=2), parity(BULK, 0, 2, 0, bytes(64)))
    # the rebuilt unit is unit 0 itself, padded: length and CRC are right, so it is an empty area, and no lie
    assert peer.violations == []
    peer.send(data(BULK, 128, b"", k=2), parity(BULK, 128, 2, 1, b"\1" * 64))
    assert peer.violations == ["a shard that contradicts its block"]
    assert peer.drops()["crc"] == 1
    assert peer.end_session() == peer.empty


def test_rebuilt_records_that_cannot_be_read_end_the_session() -> None:
    peer = Peer()
    peer.send(parity(BULK, 0, 1, 0, unit(b"\x7f")))
    assert peer.violations == ["a record that cannot be read"]
    assert peer.end_session() == peer.empty


def test_a_block_that_was_completed_and_replaced_is_decoded_once() -> None:
    """In one batch block 0 is queued for the decoder and completed, block 128 comes into its place and is queued."""
    peer = Peer()
    packets = [
        data(BULK, 0, stream(0, 0, b"a"), k=2),
        parity(BULK, 0, 2, 0, bytes(64)),
        data(BULK, 1, stream(0, 1, b"b"), k=2),
        data(BULK, 128 * 128, stream(0, 2, b"c"), k=2),
    ]
    last = unit(stream(0, 3, b"d"))
    first = unit(stream(0, 2, b"c"))
    payload = bytes(a ^ b for a, b in zip(first, last, strict=True))
    peer.send(*packets, parity(BULK, 128 * 128, 2, 0, payload))
    assert peer.violations == []
    assert peer.end.channel_total("rx_recovered") == 1
    assert peer.end_session() == peer.empty


def test_the_target_of_an_open_outlives_its_row() -> None:
    """The row of a complete block is free before the decoder takes rows; the target must not be overwritten."""
    peer = Peer()
    lost = unit(stream(2, 0, b"x" * 40))
    here = unit(stream(2, 40, b"y" * 40))
    payload = bytes(a ^ b for a, b in zip(lost, here, strict=True))
    peer.send(
        data(BULK, 0, stream(2, 40, b"y" * 40), k=2),
        data(0, 0, open_record(0, b"first.example:1"), k=1),
        data(0, 128, open_record(2, b"second.example:2"), k=1),
        parity(BULK, 0, 2, 0, payload),
    )
    targets = [event.target for event in peer.end.events if type(event).__name__ == "FlowOpened"]  # type: ignore[union-attr]
    assert targets == ["first.example:1", "second.example:2"]
    assert peer.end.channel_total("rx_recovered") == 1


def test_a_flood_of_close_frames_hides_no_violation() -> None:
    peer = Peer()
    peer.send(*[b"\x04\x00\x00" * 380] * 12, b"\x0a")
    assert len(peer.violations) == 1


def test_a_full_flow_table_is_no_fault_of_the_peer() -> None:
    config = replace(SMALL, limits=Limits(sessions=2, flows=8, rows=512, flows_per_session=16))
    peer = Peer(config)
    peer.send(data(INTERACTIVE, 0, stream(2 * 9, 0, b"x")))
    assert peer.violations == []
    assert peer.pool() == peer.empty
    peer.send(data(INTERACTIVE, 0, stream(2 * 7, 0, b"x")))
    assert peer.pool().flows == 0
    peer.send(data(INTERACTIVE, 1, stream(2 * 8, 0, b"x") + stream(1, 0, b"x")))
    assert peer.violations == []  # refused as a whole: it may come again


FRAGMENTS = st.one_of(
    st.binary(max_size=60),
    st.builds(lambda n: b"\x01" + n.to_bytes(8, "big"), st.integers(0, 2**64 - 1)),
    st.builds(lambda a, b: b"\x03" + a + b, st.binary(max_size=4), st.binary(max_size=40)),
    st.builds(lambda code: b"\x04" + varint(code) + b"\0", st.integers(0, 2**62 - 1)),
)
NUMBERS = st.one_of(st.integers(0, 300), st.integers(0, 2**32 - 1), st.sampled_from([127, 128, 16383, 16384]))
SIZES = st.one_of(st.integers(0, 10), st.integers(0, 1 << 20), st.integers(0, (1 << 62) - 1))
FLOW = st.one_of(st.integers(0, 40), st.integers(0, (1 << 62) - 1))
RECORDS = st.one_of(
    st.binary(min_size=1, max_size=30),
    st.builds(stream, FLOW, SIZES, st.binary(max_size=30)),
    st.builds(open_record, FLOW, st.binary(max_size=270)),
    st.builds(open_record, FLOW, st.sampled_from([b"udp:", b"tun:"])),
    st.builds(packets, FLOW, SIZES, st.integers(0, 33), st.binary(max_size=30)),
    st.builds(packets, FLOW, st.integers(0, 40), st.integers(0, 20), st.binary(max_size=30).map(body)),
    st.builds(pair, st.integers(3, 8), FLOW, SIZES),
    st.builds(lambda flow: b"\x02" + varint(flow), FLOW),
)
AREAS = st.lists(RECORDS, max_size=5).map(b"".join)
SHARDS = st.one_of(
    st.builds(data, st.integers(0, 4), NUMBERS, AREAS, st.integers(0, 130)),
    st.builds(
        parity, st.integers(0, 4), NUMBERS, st.integers(0, 130), st.integers(0, 130), st.binary(min_size=6, max_size=80)
    ),
)
PACKETS = st.one_of(
    st.binary(min_size=1, max_size=200),
    st.lists(FRAGMENTS, min_size=1, max_size=6).map(b"".join),
    SHARDS,
    st.builds(lambda shard, more: shard + more, SHARDS, FRAGMENTS),
)


@pytest.mark.slow
@given(batches=st.lists(st.lists(PACKETS, min_size=1, max_size=8), min_size=1, max_size=4), client=st.booleans())
def test_authenticated_nonsense_never_crashes_and_leaks_nothing(batches: list[list[bytes]], client: bool) -> None:
    peer = Peer(client=client)
    for batch in batches:
        peer.send(*batch)
        for event in peer.end.events:
            if isinstance(event, FlowOpened) and event.target in ("udp:", "tun:"):
                peer.end.plane.attach_flow(event.handle, MemoryPacketPort(peer.end.plane), peer.now)
        peer.end.events = [event for event in peer.end.events if not isinstance(event, FlowOpened)]
        peer.depart(0.01)
        check_tables(peer.end.plane)
    assert len(peer.violations) <= 1
    assert peer.end_session() == peer.empty
