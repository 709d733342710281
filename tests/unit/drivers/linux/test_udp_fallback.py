"""What the UDP socket does when the kernel says no: all of it is survived, counted, and loses nothing it need not."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.batch import ECT0
from drivers.errors import SystemCallError
from drivers.linux.address_table import AddressTable
from drivers.linux.udp import UdpOptions, UdpSocket
from drivers.linux.udp_send import ATTEMPTS, REFUSED
from tests.unit.drivers.linux.fake_calls import FakeCalls
from tests.unit.drivers.linux.loopback import drain, parcel, row_of


@pytest.fixture
def receiver() -> Iterator[UdpSocket]:
    made = UdpSocket.bind("127.0.0.1", 0)
    yield made
    made.close()


def sender_over(calls: FakeCalls) -> UdpSocket:
    return UdpSocket.bind("127.0.0.1", 0, options=UdpOptions(calls=calls))


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM])
def test_a_full_buffer_in_the_middle_gives_a_partial_count(receiver: UdpSocket, number: int) -> None:
    sending = sender_over(FakeCalls(send_script=deque([-2, number])))
    table = AddressTable(1)
    # Rising lengths: each packet is a message of its own.
    what = parcel([(100 + index, row_of(table, receiver)) for index in range(5)], table)
    assert sending.send(what.batch, 0, 5) == 2
    assert (sending.counters.would_block, sending.counters.no_buffer) == ((1, 0) if number == errno.EAGAIN else (0, 1))
    assert sending.counters.send.packets == 2
    assert sending.send(what.batch, 2, 3) == 3
    assert [data for data, _ in drain(receiver, 5)] == what.contents
    sending.close()


def test_a_partial_count_of_segmented_messages_counts_their_packets(receiver: UdpSocket) -> None:
    sending = sender_over(FakeCalls(send_script=deque([-1, errno.EAGAIN])))
    table = AddressTable(1)
    what = parcel([(1000, row_of(table, receiver))] * 70, table)
    assert sending.send(what.batch, 0, 70) == 64
    assert sending.send(what.batch, 64, 6) == 6
    assert [data for data, _ in drain(receiver, 70)] == what.contents
    assert sending.counters.send.size == 70_000
    sending.close()


def test_a_signal_is_survived_in_both_directions(receiver: UdpSocket) -> None:
    calls = FakeCalls(send_script=deque([errno.EINTR, -1, errno.EINTR]), receive_script=deque([errno.EINTR]))
    sending = sender_over(calls)
    table = AddressTable(2)
    what = parcel([(7, row_of(table, receiver)), (9, row_of(table, receiver))], table)
    assert sending.send(what.batch, 0, 2) == 2
    assert [data for data, _ in drain(receiver, 2)] == what.contents
    assert sending.receive(sending.receive_batch()) == 0
    assert sending.counters.interrupted == 3
    sending.close()


def test_endless_signals_end_the_call_and_not_the_program(receiver: UdpSocket) -> None:
    sending = sender_over(FakeCalls(send_script=deque([errno.EINTR] * ATTEMPTS)))
    table = AddressTable(1)
    what = parcel([(7, row_of(table, receiver))], table)
    assert sending.send(what.batch, 0, 1) == 0
    assert sending.send(what.batch, 0, 1) == 1
    sending.close()


@pytest.mark.parametrize("number", [errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.EOPNOTSUPP])
def test_refused_segmentation_is_replaced_and_remembered_for_that_peer(receiver: UdpSocket, number: int) -> None:
    calls = FakeCalls(segmented=number)
    sending = sender_over(calls)
    table = AddressTable(1)
    what = parcel([(1200, row_of(table, receiver))] * 10 + [(600, row_of(table, receiver))], table)
    assert sending.send(what.batch, 0, 11) == 11
    assert [data for data, _ in drain(receiver, 11)] == what.contents
    assert sending.counters.fallbacks == {"gso": {f"{errno.errorcode[number]} from the route to one peer": 1}}
    assert sending.gso
    assert sending.gso_refused_peers == 1
    calls.calls = 0
    assert sending.send(what.batch, 0, 11) == 11
    assert calls.calls == 1
    assert sending.counters.fallbacks["gso"] == {f"{errno.errorcode[number]} from the route to one peer": 1}
    assert sending.counters.gso_messages == sending.counters.lost == 0
    assert [data for data, _ in drain(receiver, 11)] == what.contents
    sending.close()


@pytest.mark.parametrize("segmented", [0, errno.EIO, errno.EINVAL])
@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP])
def test_refused_ecn_bits_are_left_out_and_segmentation_is_judged_apart(
    receiver: UdpSocket, number: int, segmented: int
) -> None:
    sending = sender_over(FakeCalls(marked=number, segmented=segmented))
    table = AddressTable(1)
    what = parcel([(1200, row_of(table, receiver))] * 10, table)
    what.batch.ecn[:] = ECT0
    for _ in range(2):
        assert sending.send(what.batch, 0, 10) == 10
        assert [data for data, _ in drain(receiver, 10)] == what.contents
    assert not sending.marks
    assert sending.counters.fallbacks["ecn"] == {f"{errno.errorcode[number]} for a message that sets ECN bits": 1}
    assert ("gso" in sending.counters.fallbacks) == (segmented > 0)
    assert sending.counters.lost == 0
    sending.close()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_refused_segmentation_is_not_blamed_on_ecn_bits(receiver: UdpSocket, number: int) -> None:
    sending = sender_over(FakeCalls(segmented=number))
    table = AddressTable(1)
    what = parcel([(1200, row_of(table, receiver))] * 10, table)
    what.batch.ecn[:] = ECT0
    assert sending.send(what.batch, 0, 10) == 10
    assert sending.marks
    assert list(sending.counters.fallbacks) == ["gso"]
    sending.close()


def test_other_peers_keep_segmentation(receiver: UdpSocket) -> None:
    calls = FakeCalls(segmented=errno.EIO)
    other, sending = UdpSocket.bind("127.0.0.1", 0), sender_over(calls)
    table = AddressTable(2)
    refused = parcel([(1200, row_of(table, receiver))] * 3, table)
    assert sending.send(refused.batch, 0, 3) == 3
    calls.segmented = 0
    both = parcel([(1200, row_of(table, receiver))] * 3 + [(1200, row_of(table, other))] * 3, table)
    assert sending.send(both.batch, 0, 6) == 6
    assert sending.counters.gso_messages == 1
    assert [data for data, _ in drain(receiver, 6)] == refused.contents + both.contents[:3]
    assert [data for data, _ in drain(other, 3)] == both.contents[3:]
    other.close()
    sending.close()


def test_too_many_refusing_peers_switch_segmentation_off() -> None:
    sending = sender_over(FakeCalls(segmented=errno.EIO))
    table = AddressTable(REFUSED + 1)
    rows = [table.row("127.0.0.1", 20_000 + index) for index in range(REFUSED + 1)]
    what = parcel([(10, row) for row in rows for _ in range(2)], table)
    assert sending.send(what.batch, 0, what.count) == what.count
    assert not sending.gso
    assert sum(sending.counters.fallbacks["gso"].values()) == REFUSED + 2
    sending.close()


def test_a_shrunken_path_is_not_blamed_on_segmentation(receiver: UdpSocket) -> None:
    """Segments beyond the MTU are refused like segmentation itself; only sending them singly tells the two apart."""
    calls = FakeCalls(segmented=errno.EMSGSIZE, longest=1000)
    sending = sender_over(calls)
    table = AddressTable(1)
    row = row_of(table, receiver)
    what = parcel([(1200, row)] * 3 + [(700, row)] + [(900, row)], table)
    assert sending.send(what.batch, 0, 5) == 5
    assert sending.too_big == [row] * 3
    assert sending.counters.too_big == 3
    assert sending.counters.fallbacks == {}
    assert sending.gso_refused_peers == 0
    assert [data for data, _ in drain(receiver, 2)] == what.contents[3:]
    calls.segmented = 0
    again = parcel([(900, row)] * 3, table)
    assert sending.send(again.batch, 0, 3) == 3
    assert sending.counters.gso_messages == 1
    assert [data for data, _ in drain(receiver, 3)] == again.contents
    sending.close()


def test_a_full_buffer_while_replacing_segmentation_loses_and_blames_nothing(receiver: UdpSocket) -> None:
    sending = sender_over(FakeCalls(segmented=errno.EIO, send_script=deque([0, -1, errno.EAGAIN])))
    table = AddressTable(1)
    what = parcel([(800, row_of(table, receiver))] * 4, table)
    assert sending.send(what.batch, 0, 4) == 1
    assert sending.gso_refused_peers == 0
    assert sending.send(what.batch, 1, 3) == 3
    assert sending.gso_refused_peers == 1
    assert [data for data, _ in drain(receiver, 4)] == what.contents
    sending.close()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_without_the_batched_calls_everything_still_travels(number: int) -> None:
    sockets = [sender_over(FakeCalls(batched=number)) for _ in range(2)]
    table = AddressTable(1)
    row = row_of(table, sockets[1])
    what = parcel([(1350, row)] * 60 + [(0, row), (3, row), (65_507, row)], table)
    for _ in range(2):
        assert sockets[0].send(what.batch, 0, what.count) == what.count
        arrived = drain(sockets[1], what.count)
        assert [data for data, _ in arrived] == what.contents
        assert {source for _, source in arrived} == {sockets[0].socket.getsockname()}
    reason = errno.errorcode[number]
    assert sockets[0].counters.fallbacks == {"sendmmsg": {f"{reason}: one sendmsg per message instead": 1}}
    assert sockets[1].counters.fallbacks == {"recvmmsg": {f"{reason}: one recvmsg per message instead": 1}}
    assert sockets[0].counters.gso_messages == sockets[1].counters.gro_messages == 4
    for each in sockets:
        each.close()


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EACCES])
def test_what_has_no_way_out_is_dropped_counted_and_holds_nobody_up(receiver: UdpSocket, number: int) -> None:
    """EPERM for one packet is a firewall; the empty call that tells it from a seccomp filter passes."""
    sending = sender_over(FakeCalls(send_script=deque([-1, number])))
    table = AddressTable(1)
    what = parcel([(100 + index, row_of(table, receiver)) for index in range(4)], table)
    assert sending.send(what.batch, 0, 4) == 4
    assert sending.counters.dropped == {errno.errorcode[number]: 1}
    assert sending.counters.lost == 1
    assert sending.counters.fallbacks == {}
    assert [data for data, _ in drain(receiver, 3)] == [what.contents[0], *what.contents[2:]]
    sending.close()


def test_icmp_errors_of_earlier_packets_hurt_nobody(receiver: UdpSocket) -> None:
    numbers = [errno.ECONNREFUSED, errno.EHOSTUNREACH]
    calls = FakeCalls(send_script=deque([errno.ECONNREFUSED]), receive_script=deque(numbers))
    sending = sender_over(calls)
    table = AddressTable(1)
    what = parcel([(5, row_of(table, receiver))], table)
    assert sending.send(what.batch, 0, 1) == 1
    assert [data for data, _ in drain(receiver, 1)] == what.contents
    receiver.socket.sendto(b"answer", sending.socket.getsockname())
    assert drain(sending, 1) == [(b"answer", receiver.socket.getsockname())]
    assert sending.counters.icmp_errors == 3
    sending.close()


@pytest.mark.parametrize("number", [errno.EBADF, errno.EFAULT, errno.ENOTSOCK])
def test_misuse_is_an_error(receiver: UdpSocket, number: int) -> None:
    sending = sender_over(FakeCalls(send_script=deque([number]), receive_script=deque([number])))
    table = AddressTable(1)
    what = parcel([(5, row_of(table, receiver))], table)
    with pytest.raises(SystemCallError) as caught:
        sending.send(what.batch, 0, 1)
    assert caught.value.errno == number
    with pytest.raises(SystemCallError):
        sending.receive(sending.receive_batch())
    sending.close()


VERDICTS = st.sampled_from(
    [0, -1, -2, errno.EAGAIN, errno.ENOBUFS, errno.EINTR, errno.ECONNREFUSED, errno.EIO, errno.EINVAL]
)


@given(
    script=st.lists(VERDICTS, max_size=20),
    segmented=st.sampled_from([0, errno.EIO, errno.EMSGSIZE]),
    longest=st.sampled_from([1000, 1 << 30]),
    runs=st.lists(st.tuples(st.integers(1, 1400), st.integers(1, 12)), max_size=5),
)
def test_any_refusals_keep_the_books(
    script: list[int], segmented: int, longest: int, runs: list[tuple[int, int]]
) -> None:
    """Taken = arrived + lost, in order, whatever the kernel says; and it ends."""
    calls = FakeCalls(send_script=deque(script), segmented=segmented, longest=longest)
    with closing(sender_over(calls)) as sending, closing(UdpSocket.bind("127.0.0.1", 0)) as receiving:
        table = AddressTable(1)
        row = row_of(table, receiving)
        what = parcel([(length, row) for length, repeat in runs for _ in range(repeat)], table)
        done = 0
        for _ in range(len(script) + 2):
            done += sending.send(what.batch, done, what.count - done)
        counters = sending.counters
        assert done == what.count
        assert counters.send.packets + counters.lost == done
        arrived = iter([data for data, _ in drain(receiving, counters.send.packets)])
        left = next(arrived, None)
        for data in what.contents:
            if data == left:
                left = next(arrived, None)
        assert left is None
        assert receiving.receive(receiving.receive_batch()) == 0
