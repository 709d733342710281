"""A lent socket moves what the socket itself would, and counts it; what the kernel refuses it leaves."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
import pytest

from drivers.linux.address_table import AddressTable
from drivers.linux.udp import UdpOptions, UdpSocket
from drivers.linux.udp_lent import (
    DESCRIPTOR,
    GOT_MESSAGES,
    LARGE,
    LARGE_SLOTS,
    MARKED,
    WORDS,
    receive_lent,
    send_lent,
)
from tests.unit.drivers.linux.fake_calls import FakeCalls
from tests.unit.drivers.linux.loopback import drain, parcel, row_of

pytestmark = pytest.mark.slow


@pytest.fixture
def sockets() -> Iterator[tuple[UdpSocket, UdpSocket]]:
    made = UdpSocket.bind("127.0.0.1", 0), UdpSocket.bind("127.0.0.1", 0)
    yield made
    for each in made:
        each.close()


def row_for(socket: UdpSocket) -> np.ndarray:
    row = np.zeros(WORDS, np.int64)
    assert socket.lend(row)
    return row


def test_it_counts_what_the_socket_itself_would_count(sockets: tuple[UdpSocket, UdpSocket]) -> None:
    sending, receiving = sockets
    table = AddressTable(1)
    what = parcel([(900, row_of(table, receiving))] * 10 + [(300, row_of(table, receiving))] * 2, table)
    what.batch.ecn[:6] = 2
    seen = []
    for lent in (False, True):
        before = [asdict(each.counters) for each in sockets]
        if lent:
            row = row_for(sending)
            assert send_lent(row, what.batch, sending.lent[1], 0, what.count) == what.count
            sending.take_back(row)
            assert not row[MARKED:].any()
        else:
            assert sending.send(what.batch, 0, what.count) == what.count
        assert [data for data, _ in drain(receiving, what.count)] == what.contents
        after = asdict(sending.counters)
        seen.append({name: after["send"][name] - before[0]["send"][name] for name in after["send"]})
    assert seen[0] == seen[1]
    assert seen[0]["packets"] == what.count


def test_what_arrives_is_in_the_sockets_own_batch(sockets: tuple[UdpSocket, UdpSocket]) -> None:
    sending, receiving = sockets
    row = row_for(receiving)
    assert receive_lent(row, receiving.lent[0]) == 0
    table = AddressTable(1)
    what = parcel([(700, row_of(table, receiving))] * 5, table)
    assert sending.send(what.batch, 0, 5) == 5
    assert receive_lent(row, receiving.lent[0]) == 5
    batch = receiving.receive_batch()
    got = [bytes(batch.memory[at : at + size]) for at, size in zip(batch.offset[:5], batch.length[:5], strict=True)]
    assert got == what.contents
    receiving.take_back(row)
    counters = receiving.counters
    assert (counters.receive.calls, counters.receive.packets, counters.receive.size) == (1, 5, 3500)


def test_a_call_after_large_messages_asks_for_few(sockets: tuple[UdpSocket, UdpSocket]) -> None:
    sending, receiving = sockets
    if not (sending.gso and receiving.gro):
        pytest.skip("the kernel does not merge packets")
    table = AddressTable(1)
    target = row_of(table, receiving)
    large = parcel([(size, target) for size in (1200, 1201) * 3 for _ in range(40)], table)  # a length, a message
    small = parcel([(size, target) for size in range(500, 510)], table)
    row = row_for(receiving)

    def messages(first: int) -> int:
        before = int(row[GOT_MESSAGES])
        assert receive_lent(row, receiving.lent[0]) >= first
        return int(row[GOT_MESSAGES]) - before

    for _ in range(2):
        assert sending.send(large.batch, 0, large.count) == large.count
    assert messages(40) == 12, "nothing is known of what arrives"
    assert row[LARGE]
    assert sending.send(large.batch, 0, large.count) == large.count
    assert [messages(40), messages(40)] == [LARGE_SLOTS, 6 - LARGE_SLOTS]
    assert sending.send(small.batch, 0, small.count) == small.count
    assert messages(LARGE_SLOTS) == LARGE_SLOTS
    assert not row[LARGE]
    assert messages(1) == small.count - LARGE_SLOTS


def test_what_the_kernel_refuses_is_left_for_the_socket(sockets: tuple[UdpSocket, UdpSocket]) -> None:
    sending, receiving = sockets
    table = AddressTable(1)
    target = row_of(table, receiving)
    what = parcel([(500, target), (65_508, target), (400, target)], table)
    row = row_for(sending)
    assert send_lent(row, what.batch, sending.lent[1], 0, 3) == 1
    sending.take_back(row)
    assert sending.counters.too_big == 0
    assert sending.send(what.batch, 1, 2) == 2
    assert (sending.counters.too_big, sending.counters.send.packets) == (1, 2)
    row[DESCRIPTOR] = -1
    assert receive_lent(row, receiving.lent[0]) == -errno.EBADF


def test_a_socket_that_takes_decisions_of_its_own_is_not_lent() -> None:
    faked = UdpSocket.bind("127.0.0.1", 0, options=UdpOptions(calls=FakeCalls()))
    row = np.zeros(WORDS, np.int64)
    assert not faked.lend(row)
    faked.close()
    closed = UdpSocket.bind("127.0.0.1", 0)
    closed.close()
    assert not closed.lend(row)
