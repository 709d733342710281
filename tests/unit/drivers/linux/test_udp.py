"""The UDP socket against the real kernel: what is sent arrives, whole, in order, from the right address."""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.batch import CE, ECT0, ECT1, NOT_ECT
from drivers.errors import DriverError, SystemCallError
from drivers.linux.address_table import AddressTable
from drivers.linux.libc import libc
from drivers.linux.udp import SO_MEMINFO, UdpOptions, UdpSocket
from drivers.linux.udp_counters import UdpCounters
from drivers.linux.udp_send import Sender
from tests.unit.drivers.linux.loopback import PATIENCE_MS, drain, ipv6_missing, parcel, row_of

NO_IPV6 = ipv6_missing()
HOSTS = ["127.0.0.1", pytest.param("::1", marks=pytest.mark.skipif(NO_IPV6 is not None, reason=f"{NO_IPV6}"))]
LOOPBACK_MAX = {"127.0.0.1": 65_507, "::1": 65_488}
"""Largest datagram on loopback: 65,536 bytes less the IPv6 and UDP headers, or the limit of UDP itself on IPv4."""


@pytest.fixture(params=[True, False], ids=["gso", "no gso"])
def gso(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=[True, False], ids=["gro", "no gro"])
def gro(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def sender(host: str, gso: bool) -> Iterator[UdpSocket]:
    made = UdpSocket.bind(host, 0, options=UdpOptions(gso=gso))
    yield made
    made.close()


@pytest.fixture
def receivers(host: str, gro: bool) -> Iterator[list[UdpSocket]]:
    made = [UdpSocket.bind(host, 0, options=UdpOptions(gro=gro)) for _ in range(3)]
    yield made
    for each in made:
        each.close()


def exchange(sender: UdpSocket, receivers: list[UdpSocket], packets: list[tuple[int, int]], gaps: list[int]) -> None:
    """Send ``(length, receiver)`` packets and check everything about what arrives."""
    table = AddressTable(len(receivers))
    rows = [row_of(table, each) for each in receivers]
    what = parcel([(length, rows[peer]) for length, peer in packets], table, gaps)
    before = [each.counters.receive.packets for each in receivers]
    assert sender.send(what.batch, 0, what.count) == what.count
    for row, each, already in zip(rows, receivers, before, strict=True):
        expected = [data for data, peer in zip(what.contents, what.peers, strict=True) if peer == row]
        arrived = drain(each, len(expected))
        assert [data for data, _ in arrived] == expected
        assert {source for _, source in arrived} <= {sender.socket.getsockname()[:2]}
        assert each.receive(each.receive_batch()) == 0
        assert each.counters.receive.packets - already == len(expected)


RUNS = st.lists(
    st.tuples(st.integers(0, 1500) | st.sampled_from([0, 1, 1200, 1350]), st.integers(0, 2), st.integers(1, 20)),
    max_size=6,
)


@given(runs=RUNS, gaps=st.lists(st.integers(0, 70), max_size=60))
@pytest.mark.parametrize("offload", [True, False])
def test_any_packets_arrive_whole_and_in_order_per_peer(
    offload: bool, runs: list[tuple[int, int, int]], gaps: list[int]
) -> None:
    options = UdpOptions(gso=offload, gro=offload)
    sockets = [UdpSocket.bind("127.0.0.1", 0, options=options) for _ in range(4)]
    try:
        packets = [(length, peer) for length, peer, repeat in runs for _ in range(repeat)]
        exchange(sockets[0], sockets[1:], packets, gaps)
        assert sockets[0].counters.lost == 0
        assert not sockets[0].too_big
    finally:
        for each in sockets:
            each.close()


@pytest.mark.parametrize("gaps", [[], [64] * 200], ids=["contiguous", "rows"])
def test_a_bulk_batch_travels_in_few_messages(
    sender: UdpSocket, receivers: list[UdpSocket], gso: bool, gro: bool, gaps: list[int]
) -> None:
    exchange(sender, receivers, [(1350, 0)] * 100 + [(1350, 1)] * 47 + [(900, 1)], gaps)
    assert sender.counters.send.packets == 148
    assert sender.counters.send.size == 147 * 1350 + 900
    if gso:
        assert sender.counters.send.messages == sender.counters.gso_messages == 4  # 48 + 48 + 4, and 47 with its tail
        assert sender.counters.send.calls == 1
    else:
        assert sender.counters.send.messages == 148
    assert bool(receivers[0].counters.gro_messages) == (gso and gro)


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 1200, 1201, 1473, 8192, 32_753, 32_754])
def test_runs_of_odd_lengths(sender: UdpSocket, receivers: list[UdpSocket], length: int) -> None:
    exchange(sender, receivers, [(length, 0)] * 3 + [(length // 2, 0)] + [(length, 0)], [3, 0, 5])


def test_a_lengthening_run_is_not_one_message(sender: UdpSocket, receivers: list[UdpSocket]) -> None:
    exchange(sender, receivers, [(100, 0), (101, 0), (100, 0), (100, 0), (99, 0), (100, 0)], [])


def test_the_largest_datagrams(sender: UdpSocket, receivers: list[UdpSocket], host: str) -> None:
    exchange(sender, receivers, [(LOOPBACK_MAX[host], 0), (0, 0), (LOOPBACK_MAX[host], 1)], [])


def test_a_datagram_beyond_the_interface_is_reported_and_the_rest_leaves(
    sender: UdpSocket, receivers: list[UdpSocket]
) -> None:
    table = AddressTable(3)
    rows = [row_of(table, each) for each in receivers]
    what = parcel([(100, rows[0]), (65_530, rows[2]), (65_530, rows[1]), (100, rows[0])], table)
    assert sender.send(what.batch, 0, 4) == 4
    assert sender.too_big == [rows[2], rows[1]]
    assert sender.too_big_sizes == [65_530, 65_530]
    assert sender.counters.too_big == 2
    assert [data for data, _ in drain(receivers[0], 2)] == [what.contents[0], what.contents[3]]
    assert sender.send(what.batch, 3, 1) == 1
    assert sender.too_big == sender.too_big_sizes == []


def test_more_packets_than_one_call_takes() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", 0))
        sending = UdpSocket.bind("127.0.0.1", 0)
        table = AddressTable(1)
        what = parcel([(40, table.row(*sink.getsockname()))] * 5000, table, [1] * 5000)
        assert sending.send(what.batch, 0, 5000) == 5000
        assert sending.counters.send.packets == 5000
        assert sending.counters.send.messages == -(-5000 // 64)
        assert sending.counters.send.calls == 3  # 2048 iovecs, that is 32 messages of 64, at a time
        sending.close()


def test_part_of_a_batch() -> None:
    sockets = [UdpSocket.bind("127.0.0.1", 0) for _ in range(2)]
    table = AddressTable(1)
    what = parcel([(10 + index, row_of(table, sockets[1])) for index in range(6)], table)
    assert sockets[0].send(what.batch, 2, 3) == 3
    assert [data for data, _ in drain(sockets[1], 3)] == what.contents[2:5]
    assert sockets[0].send(what.batch, 2, 0) == 0
    for each in sockets:
        each.close()


@pytest.mark.skipif(NO_IPV6 is not None, reason=f"{NO_IPV6}")
def test_a_dual_stack_socket_speaks_to_both_families() -> None:
    dual, four, six = UdpSocket.bind("", 0), UdpSocket.bind("127.0.0.1", 0), UdpSocket.bind("::1", 0)
    table = AddressTable(8)
    port = dual.socket.getsockname()[1]
    for other, host in ((four, "127.0.0.1"), (six, "::1")):
        out = parcel([(1000, row_of(table, other))] * 5, table)
        assert dual.send(out.batch, 0, 5) == 5
        assert drain(other, 5) == [(data, (host, port)) for data in out.contents]
        back = parcel([(500, table.row(host, port))] * 3, table)
        assert other.send(back.batch, 0, 3) == 3
        assert drain(dual, 3) == [(data, other.socket.getsockname()[:2]) for data in back.contents]
    assert dual.counters.gso_messages == 2
    for each in (dual, four, six):
        each.close()


@pytest.mark.parametrize(
    ("hosts", "to"),
    [
        (("127.0.0.1", "127.0.0.1"), "127.0.0.1"),
        pytest.param(("::1", "::1"), "::1", marks=pytest.mark.skipif(NO_IPV6 is not None, reason=f"{NO_IPV6}")),
        pytest.param(("", ""), "127.0.0.1", marks=pytest.mark.skipif(NO_IPV6 is not None, reason=f"{NO_IPV6}")),
    ],
    ids=["IPv4", "IPv6", "IPv4 over IPv6 sockets"],
)
def test_ecn_bits_travel_per_message(hosts: tuple[str, str], to: str) -> None:
    """The real kernel sets what each message asks for, merges only what is alike, and tells what arrived."""
    sender, receiver = (UdpSocket.bind(host, 0) for host in hosts)
    assert receiver.reads_ecn
    table = AddressTable(2)
    marks = [ECT0] * 4 + [CE] * 4 + [NOT_ECT] * 4 + [ECT1] + [ECT0] * 3
    what = parcel([(1000, table.row(to, receiver.socket.getsockname()[1]))] * len(marks), table)
    what.batch.ecn[:] = marks
    assert sender.send(what.batch, 0, len(marks)) == len(marks)
    assert (sender.marks, sender.counters.fallbacks) == (True, {})
    assert sender.counters.gso_messages == 4
    waiting = select.poll()
    seen: list[int] = []
    waiting.register(receiver.fileno(), select.POLLIN)
    while len(seen) < len(marks):
        assert waiting.poll(PATIENCE_MS)
        count = receiver.receive(batch := receiver.receive_batch())
        seen += batch.ecn[:count].tolist()
    assert seen == marks
    sender.close()
    receiver.close()


def test_an_adopted_socket_and_its_duplicate_share_the_traffic() -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    control = sock.dup()
    worker, other = UdpSocket.adopt(sock), UdpSocket.bind("127.0.0.1", 0)
    control.sendto(b"from control", other.socket.getsockname())
    assert drain(other, 1) == [(b"from control", worker.socket.getsockname())]
    assert not worker.socket.getblocking()
    for each in (control, worker, other):
        each.close()


@pytest.mark.parametrize(
    ("family", "kind"), [(socket.AF_INET, socket.SOCK_STREAM), (socket.AF_UNIX, socket.SOCK_DGRAM)]
)
def test_only_udp_is_adopted(family: int, kind: int) -> None:
    with socket.socket(family, kind) as sock, pytest.raises(DriverError, match="is not a UDP socket"):
        UdpSocket.adopt(sock)


def test_a_connected_socket_sends_to_row_zero_and_outlives_icmp_errors() -> None:
    """The port that answered is closed: the ICMP error of one packet comes back at the call for the next."""
    gone = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    gone.bind(("127.0.0.1", 0))
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(gone.getsockname())
    sending = UdpSocket.adopt(sock)
    what = parcel([(50, 0)], AddressTable(1))
    assert sending.send(what.batch, 0, 1) == 1
    assert gone.recv(100) == what.contents[0]
    gone.close()
    assert sending.send(what.batch, 0, 1) == 1
    assert sending.send(what.batch, 0, 1) == 1
    assert sending.receive(sending.receive_batch()) == 0
    assert sending.counters.icmp_errors == 2
    assert sending.counters.dropped == {}
    sending.close()


def test_a_full_queue_of_the_real_kernel_gives_a_partial_count() -> None:
    """A Unix datagram queue fills at once and for sure, which a UDP socket's on loopback does not."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right:
        left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        counters = UdpCounters()
        sending = Sender(left.fileno(), libc(), counters, 1)
        what = parcel([(100, 0)] * 64, AddressTable(1))
        done = sending.send(what.batch, 0, 64)
        assert 0 < done < 64
        assert counters.would_block == 1
        received = [right.recv(200) for _ in range(done)]
        assert sending.send(what.batch, done, 1) == 1
        assert [*received, right.recv(200)] == what.contents[: done + 1]


@pytest.mark.parametrize(
    ("field", "value"),
    [("offset", -1), ("offset", 1 << 40), ("length", -1), ("length", 1 << 30), ("peer", -1), ("peer", 1)],
)
def test_a_packet_outside_its_memory_never_reaches_the_kernel(field: str, value: int) -> None:
    sockets = [UdpSocket.bind("127.0.0.1", 0) for _ in range(2)]
    table = AddressTable(1)
    what = parcel([(100, row_of(table, sockets[1]))] * 3, table)
    getattr(what.batch, field)[2] = value
    with pytest.raises(DriverError, match="packet 2 of the batch lies outside"):
        sockets[0].send(what.batch, 0, 3)
    assert len(drain(sockets[1], 2)) == 2
    for each in sockets:
        each.close()


@pytest.mark.parametrize(("first", "count"), [(-1, 1), (0, 4), (3, 1), (0, -1)])
def test_a_range_outside_the_batch_is_refused(first: int, count: int) -> None:
    sending = UdpSocket.bind("127.0.0.1", 0)
    what = parcel([(1, 0)] * 3, AddressTable(1))
    with pytest.raises(DriverError, match="give a range inside the batch"):
        sending.send(what.batch, first, count)
    sending.close()


def test_a_row_without_address_is_a_named_error_on_an_unconnected_socket() -> None:
    sending = UdpSocket.bind("127.0.0.1", 0)
    what = parcel([(1, 0)], AddressTable(1))
    with pytest.raises(SystemCallError, match="sending packet 0 of a batch failed"):
        sending.send(what.batch, 0, 1)
    sending.close()


def test_a_closed_socket_touches_no_other_file() -> None:
    sending = UdpSocket.bind("127.0.0.1", 0)
    batch = sending.receive_batch()
    what = parcel([(1, 0)], AddressTable(1))
    number = sending.fileno()
    sending.close()
    sending.close()
    assert sending.fileno() == -1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as heir:
        assert heir.fileno() == number, "the kernel gives the lowest free number: the one just closed"
        heir.connect(("127.0.0.1", 9))
        with pytest.raises(SystemCallError) as caught:
            sending.receive(batch)
        assert caught.value.errno == errno.EBADF
        with pytest.raises(SystemCallError):
            sending.send(what.batch, 0, 1)
    assert batch.memory[0] == 0


def test_only_the_socket_s_own_batch_is_filled() -> None:
    receiving = UdpSocket.bind("127.0.0.1", 0)
    batch = receiving.receive_batch()
    assert batch is receiving.receive_batch()
    assert len(batch.offset) >= 1024
    assert batch.memory.ctypes.data % 4096 == 0
    with pytest.raises(DriverError, match="only into its own batch"):
        receiving.receive(parcel([(1, 0)], AddressTable(1)).batch)
    receiving.close()


def test_what_bind_asked_for_is_what_the_warning_compares_with() -> None:
    modest = UdpSocket.bind("127.0.0.1", 0, receive_buffer=65_536, send_buffer=65_536)
    assert modest.buffer_warning() is None
    modest.close()
    greedy = UdpSocket.bind("127.0.0.1", 0, receive_buffer=1 << 30, send_buffer=65_536)
    # The kernel's own ceiling is (2^31 - 1) / 2, so 1 GiB is refused even to root.
    assert "sysctl -w net.core.rmem_max=1073741824" in (greedy.buffer_warning() or "")
    greedy.close()


def test_what_found_no_room_in_the_buffer_is_counted() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36)
        except OSError as error:
            pytest.skip(f"this kernel has no SO_MEMINFO: {error}")
        receiver = UdpSocket.bind("127.0.0.1", 0, receive_buffer=4096)
        assert receiver.kernel_dropped() == 0
        for _ in range(100):
            sock.sendto(bytes(1400), receiver.socket.getsockname())
        dropped = receiver.kernel_dropped()
        assert dropped
        assert len(drain(receiver, 100 - dropped)) == 100 - dropped
        receiver.close()
        assert receiver.kernel_dropped() is None
