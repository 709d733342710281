"""A TCP port against real sockets over loopback: bytes, ends, resets and replies."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from vantun.dataplane.ports import WOULD_BLOCK
from vantun.dataplane.tcp_port import TcpPort
from vantun.worker_messages import StreamReply

REPLY = StreamReply(accepted=b"yes", refused=b"no?", code_at=2, failed=1)


class Keeper:
    """Records what a port asks of whoever watches it."""

    def __init__(self) -> None:
        self.lingering: list[TcpPort] = []
        self.forgotten: list[TcpPort] = []
        self.lent: list[TcpPort] = []

    def forget(self, port: TcpPort) -> None:
        assert port.fileno() >= 0, "the socket must still be open, or its number may be another's already"
        self.forgotten.append(port)

    def lend(self, port: TcpPort) -> None:
        self.lent.append(port)

    def linger(self, port: TcpPort) -> None:
        self.lingering.append(port)


class Ends:
    """A port and the program at the other end of its connection."""

    def __init__(self, reply: StreamReply | None = None, first: bytes = b"") -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.program = socket.create_connection(listener.getsockname(), timeout=10)
            self.handed, _ = listener.accept()
        self.keeper = Keeper()
        self.port = TcpPort(self.handed, self.keeper, reply, first)

    def close(self) -> None:
        self.program.close()
        self.port.close()

    def received(self) -> bytes:
        """Return everything until the end of the stream."""
        data = b""
        while part := self.program.recv(1 << 16):
            data += part
        return data

    def reset_by_program(self) -> None:
        self.program.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.program.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.close()


@pytest.fixture
def client() -> Iterator[Ends]:
    made = Ends(REPLY)
    yield made
    made.close()


def iov(*parts: NDArray[np.uint8]) -> NDArray[np.uint64]:
    return np.array([(part.ctypes.data, part.size) for part in parts], np.uint64)


def test_bytes_are_read_into_the_rows_in_order(ends: Ends) -> None:
    first, second = np.zeros(3, np.uint8), np.zeros(8, np.uint8)
    assert ends.port.readv(iov(first, second), 2) == WOULD_BLOCK
    ends.program.sendall(b"abcdef")
    assert ends.port.readv(iov(first, second), 2) == 6
    assert (first.tobytes(), second[:3].tobytes()) == (b"abc", b"def")
    ends.program.shutdown(socket.SHUT_WR)
    assert ends.port.readv(iov(first), 1) == 0


def test_bytes_are_written_from_the_rows_until_the_socket_is_full(ends: Ends) -> None:
    data = np.full(1 << 16, 7, np.uint8)
    taken = 0
    while (part := ends.port.writev(iov(data, data), 2)) != WOULD_BLOCK:
        taken += part
    ends.port.shutdown_write()
    assert ends.received() == b"\x07" * taken


def test_a_half_closed_stream_goes_on_the_other_way(ends: Ends) -> None:
    ends.port.shutdown_write()
    assert ends.received() == b""
    ends.program.sendall(b"late")
    place = np.zeros(8, np.uint8)
    assert ends.port.readv(iov(place), 1) == 4


def test_a_reset_by_the_program_is_a_connection_error(ends: Ends) -> None:
    ends.reset_by_program()
    with pytest.raises(ConnectionError):
        ends.port.readv(iov(np.zeros(8, np.uint8)), 1)
    with pytest.raises(ConnectionError):
        ends.port.writev(iov(np.zeros(8, np.uint8)), 1)
    ends.port.shutdown_write()


def test_reset_reaches_the_program_as_reset(ends: Ends) -> None:
    ends.port.reset()
    with pytest.raises(ConnectionResetError):
        ends.program.recv(1)
    assert ends.keeper.forgotten == [ends.port]
    assert ends.port.fileno() == -1


def test_closing_behind_the_end_is_no_reset(ends: Ends) -> None:
    ends.port.writev(iov(np.full(4, 1, np.uint8)), 1)
    ends.program.shutdown(socket.SHUT_WR)
    assert ends.port.readv(iov(np.zeros(8, np.uint8)), 1) == 0
    ends.port.shutdown_write()
    ends.port.close()
    ends.port.close()
    assert ends.received() == b"\x01" * 4


def test_a_socket_that_its_process_leaves_behind_is_reset() -> None:
    """A worker that dies says nothing; the kernel closes for it, and a clean end would pass for the end of the data."""
    ends = Ends()
    ends.port.writev(iov(np.full(4, 1, np.uint8)), 1)
    ends.handed.close()
    with ends.program, pytest.raises(ConnectionResetError):
        ends.received()


def test_an_accepted_program_is_told_once(client: Ends) -> None:
    client.port.accepted()
    client.port.accepted()
    client.port.shutdown_write()
    assert client.received() == b"yes"


def test_a_program_that_left_cannot_be_told(client: Ends) -> None:
    client.reset_by_program()
    with pytest.raises(ConnectionError):
        client.port.accepted()


def test_a_refused_program_gets_the_code_and_a_clean_end_whatever_it_has_sent(client: Ends) -> None:
    client.program.sendall(b"a request that did not wait")
    client.port.refused(5)
    assert client.keeper.lingering == [client.port]
    assert client.received() == b"no\x05"
    assert not client.port.drain()
    client.program.close()
    assert client.port.drain()


def test_a_refused_program_may_not_send_for_ever(client: Ends) -> None:
    client.port.refused(5)
    piece = bytes(1 << 16)
    sent = 0
    while not client.port.drain():
        sent += client.program.send(piece)
        assert sent < 16 << 20


def test_a_program_without_answer_is_refused_when_its_flow_is_reset(client: Ends) -> None:
    client.port.reset()
    assert client.received() == b"no\x01"


def test_a_program_that_was_answered_is_reset(client: Ends) -> None:
    client.port.accepted()
    client.port.reset()
    with pytest.raises(ConnectionResetError):
        client.received()


def test_refusing_a_program_that_left_closes_the_port(client: Ends) -> None:
    client.reset_by_program()
    client.port.refused(5)
    assert client.port.fileno() == -1
    assert client.keeper.lingering == []


def test_what_was_read_before_comes_first() -> None:
    ends = Ends(first=b"GET / HTTP")
    try:
        ends.program.sendall(b"body")
        rows = np.zeros((2, 4), np.uint8)
        assert ends.port.readv(iov(rows[0], rows[1]), 2) == 8
        assert rows.tobytes() == b"GET / HT"
        assert ends.port.readv(iov(rows[0], rows[1]), 2) == 2
        assert rows.tobytes()[:2] == b"TP"
        assert ends.port.readv(iov(rows[0], rows[1]), 2) == 4
        assert rows.tobytes()[:4] == b"body"
        assert ends.port.readv(iov(rows[0]), 1) == WOULD_BLOCK
    finally:
        ends.close()


@pytest.mark.parametrize(("code", "answer"), [(2, b"not allowed"), (5, b"refused 5"), (300, b"refused ,")])
def test_answers_by_code(code: int, answer: bytes) -> None:
    ends = Ends(StreamReply(b"", b"refused ?", 8, 1, {"2": b"not allowed"}))
    try:
        ends.port.refused(code)
        assert ends.received().replace(b"\x05", b"5") == answer
    finally:
        ends.close()


def test_the_socket_is_lent_once_the_far_end_is_connected(client: Ends) -> None:
    assert client.keeper.lent == []
    client.port.accepted()
    assert client.keeper.lent == [client.port]
    client.reset_by_program()


def test_the_socket_is_lent_only_when_nothing_that_came_before_is_held_back() -> None:
    ends = Ends(REPLY, first=b"GET")
    try:
        ends.port.accepted()
        assert ends.keeper.lent == []
        rows = np.zeros(2, np.uint8)
        assert ends.port.readv(iov(rows), 1) == 2
        assert ends.keeper.lent == []
        assert ends.port.readv(iov(rows), 1) == 1
        assert ends.keeper.lent == [ends.port]
    finally:
        ends.close()


def test_a_program_that_is_gone_is_lent_to_nobody(client: Ends) -> None:
    client.reset_by_program()
    with pytest.raises(ConnectionError):
        client.port.accepted()
    assert client.keeper.lent == []
