"""Datagrams to bodies and back, against plain Python, with packets that end where memory does."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from drivers.linux.address import pack, unpack
from tests.unit.vantun.dataplane.udp_batches import (
    Datagram,
    batch_of,
    bodies_for,
    counted,
    listed,
    no_drops,
    packets,
)
from vantun.dataplane.udp_kernels import (
    OF_SOURCE,
    SOURCE_KEY,
    TO_ORIGINAL,
    TO_TARGET,
    Listening,
    Program,
    aim_bodies,
    name_answers,
    name_sources,
    prefix_answers,
    read_relay,
    sort_sources,
    source_key,
    strip_addresses,
)
from vantun.dataplane.udp_table import ALLOWED, PENDING, REFUSED, UdpTable
from vantun.udp_address import decode_address, encode_address

ADDRESSES = st.tuples(st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"]), st.integers(1, 3))
PAYLOADS = st.binary(max_size=40)
DATAGRAMS = st.lists(st.tuples(PAYLOADS, ADDRESSES), max_size=12)
BODIES = st.one_of(
    st.binary(max_size=30),
    st.builds(lambda a, p: encode_address(*a) + p, ADDRESSES, PAYLOADS),
    st.builds(lambda n, p: encode_address(n, 7) + p, st.sampled_from(["a.example", "b.example"]), PAYLOADS),
)


def whole(body: bytes) -> bool:
    try:
        decode_address(body)
    except ValueError:
        return False
    return True


def program(host: str, port: int) -> Program:
    name = encode_address(host, port)
    made = Program(np.zeros(259, np.uint8), np.array([len(name), 0], np.int64), np.zeros((1, 28), np.uint8))
    made.host[: len(name)] = np.frombuffer(name, np.uint8)
    return made


@given(
    st.lists(st.tuples(st.sampled_from([b"", b"\0", b"\0\0\0", b"\0\0\1", b"\7\7\0"]), BODIES, ADDRESSES), max_size=12),
    ADDRESSES,
    st.booleans(),
)
def test_a_relay_takes_whole_datagrams_of_its_program_only(
    sent: list[tuple[bytes, bytes, tuple[str, int]]], owner: tuple[str, int], any_port: bool
) -> None:
    host, port = owner[0], 0 if any_port else owner[1]
    known = program(host, port)
    expected, drops = [], {"foreign": 0, "malformed": 0, "fragment": 0}
    for head, body, (source, source_port) in sent:
        data = head + body
        if source != host or port not in (0, source_port):
            drops["foreign"] += 1
        elif len(data) < 3 or not whole(data[3:]):
            drops["malformed"] += 1
        elif data[2]:
            drops["fragment"] += 1
        else:
            expected.append(data[3:])
            port = source_port
    batch, bodies, seen = (
        batch_of([(head + body, source) for head, body, source in sent]),
        bodies_for(len(sent)),
        no_drops(),
    )
    count = read_relay(batch, len(sent), known, bodies, 5, seen)
    assert listed(batch.memory, bodies, count) == expected
    assert counted(seen) == {name: number for name, number in drops.items() if number}
    assert set(bodies.flow[:count].tolist()) <= {5}
    if expected:
        assert unpack(known.address[0]) == (host, port)


@given(DATAGRAMS, st.sets(st.sampled_from(["192.0.2.1", "2001:db8::2"])))
def test_only_hosts_that_were_spoken_to_answer(sent: list[Datagram], spoken: set[str]) -> None:
    hosts = UdpTable(8, 17)
    for host in spoken:
        hosts.add(encode_address(host, 0)[:-2], ALLOWED, 0.0)
    batch, bodies, drops = batch_of(sent), bodies_for(len(sent)), no_drops()
    count = name_answers(batch, len(sent), hosts.table, bodies, 1, drops)
    expected = [encode_address(*source) + data for data, source in sent if source[0] in spoken]
    assert listed(bodies.memory, bodies, count) == expected
    assert counted(drops).get("stranger", 0) == len(sent) - len(expected)


@given(DATAGRAMS)
def test_answers_of_a_connected_socket_get_its_peer(sent: list[Datagram]) -> None:
    peer = encode_address("198.51.100.7", 9)
    batch, bodies = batch_of(sent), bodies_for(len(sent))
    count = prefix_answers(batch, len(sent), np.frombuffer(peer, np.uint8).copy(), bodies, 1)
    assert listed(bodies.memory, bodies, count) == [peer + data for data, _ in sent]


def test_bodies_never_leave_their_memory() -> None:
    sent: list[Datagram] = [(b"x" * 30, ("192.0.2.1", 1))] * 4
    hosts = UdpTable(8, 17)
    hosts.add(encode_address("192.0.2.1", 0)[:-2], ALLOWED, 0.0)
    batch = batch_of(sent)
    bodies = bodies_for(4, size=80)
    assert name_answers(batch, 4, hosts.table, bodies, 1, no_drops()) == 2
    assert prefix_answers(batch, 4, np.zeros(7, np.uint8), bodies, 1) == 2
    assert sort_sources(batch, (0, 4), listening(TO_TARGET, [("192.0.2.1", 1)]), bodies, no_drops(), 0.0)[:2] == (0, 0)


def listening(mode: int, sources: list[tuple[str, int]], original: list[tuple[str, int]] | None = None) -> Listening:
    """Return a listener that knows ``sources``, the flow of each being its place in the list."""
    table = UdpTable(64, SOURCE_KEY)
    key = np.zeros(SOURCE_KEY, np.uint8)
    for number, source in enumerate(sources):
        source_key(np.frombuffer(pack(*source), np.uint8).reshape(1, 28).copy(), 0, key)
        row = table.add(key.tobytes(), ALLOWED, 0.0)
        table.table.number[row] = number
    target = encode_address("target.example", 53)
    rows = np.zeros((16, 28), np.uint8)
    for i, where in enumerate(original or []):
        rows[i] = np.frombuffer(pack(*where), np.uint8)
    return Listening(
        table.table,
        np.array([mode, len(target)], np.int64),
        np.frombuffer(target.ljust(260, b"\0"), np.uint8).copy(),
        rows,
    )


@given(DATAGRAMS, st.sampled_from([TO_TARGET, TO_ORIGINAL, OF_SOURCE]), st.lists(ADDRESSES, unique=True, max_size=8))
def test_a_listener_sorts_until_a_source_is_unknown(
    sent: list[Datagram], mode: int, known: list[tuple[str, int]]
) -> None:
    original = [("203.0.113.9", i + 1) for i in range(len(sent))]
    heard = listening(mode, known, original)
    batch, bodies = batch_of(sent), bodies_for(len(sent))
    count, stopped, _ = sort_sources(batch, (0, len(sent)), heard, bodies, no_drops(), 3.0)
    assert stopped == next((i for i, (_, source) in enumerate(sent) if source not in known), len(sent))
    expected = []
    for i, (data, source) in enumerate(sent[:stopped]):
        address = {TO_TARGET: ("target.example", 53), TO_ORIGINAL: original[i], OF_SOURCE: source}[mode]
        expected.append(encode_address(*address) + data)
    assert listed(bodies.memory, bodies, count) == expected
    assert bodies.flow[:count].tolist() == [known.index(source) for _, source in sent[:stopped]]


def test_a_datagram_without_original_destination_is_dropped() -> None:
    drops = no_drops()
    heard = listening(TO_ORIGINAL, [("192.0.2.1", 1)])
    batch = batch_of([(b"x", ("192.0.2.1", 1))])
    assert sort_sources(batch, (0, 1), heard, bodies_for(1), drops, 0.0)[:2] == (0, 1)
    assert counted(drops) == {"malformed": 1}


@given(st.lists(BODIES, max_size=12))
def test_payloads_without_their_addresses(sent: list[bytes]) -> None:
    out, drops = batch_of([(body, ("192.0.2.1", 1)) for body in sent]), no_drops()
    count = strip_addresses(out, len(sent), 0, drops)
    assert packets(out, count) == [body[decode_address(body)[2] :] for body in sent if whole(body)]
    assert counted(drops).get("malformed", 0) == len(sent) - count


@given(st.lists(BODIES, max_size=12))
def test_payloads_and_where_they_came_from(sent: list[bytes]) -> None:
    out, drops, rows = batch_of([(body, ("192.0.2.1", 1)) for body in sent]), no_drops(), np.zeros((12, 28), np.uint8)
    count = name_sources(out, len(sent), 0, rows, drops)
    wanted = [decode_address(body) for body in sent if whole(body) and body[0] != 3]
    assert [unpack(row) for row in rows[:count]] == [(host, port) for host, port, _ in wanted]
    assert counted(drops).get("malformed", 0) == len(sent) - count


@given(st.lists(BODIES, max_size=12), st.dictionaries(ADDRESSES, st.sampled_from([ALLOWED, PENDING, REFUSED])))
def test_bodies_are_aimed_by_what_is_known(sent: list[bytes], states: dict[tuple[str, int], int]) -> None:
    known = UdpTable(64, 259)
    for where, believed in states.items():
        row = known.add(encode_address(*where), believed, 0.0)
        known.table.expires[row] = 5.0 if where[1] == 3 else 50.0
    out, drops, rest = batch_of([(body, ("192.0.2.1", 1)) for body in sent]), no_drops(), np.zeros((12, 2), np.int64)
    aimed, others = aim_bodies(out, len(sent), known.table, rest, drops, 10.0)
    expected, asked, refused = [], [], 0
    for body in filter(whole, sent):
        host, port, size = decode_address(body)
        state: int | None = states.get((host, port))
        if state in (None, PENDING) or port == 3:
            asked.append(body)
        elif state == REFUSED:
            refused += 1
        else:
            expected.append((body[size:], (host, port)))
    names = [known.name(int(row)) for row in out.peer[:aimed]]
    assert packets(out, aimed) == [payload for payload, _ in expected]
    assert names == [encode_address(*where) for _, where in expected]
    assert [out.memory[start : start + size].tobytes() for start, size in rest[:others].tolist()] == asked
    assert counted(drops).get("refused", 0) == refused
