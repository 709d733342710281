"""Groups of sockets on one port: who gets which datagram, and who may not join. Against this kernel."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from drivers.errors import SystemCallError
from drivers.linux import reuseport
from drivers.linux.address import for_socket
from drivers.linux.reuseport import Group, bind_group, bind_shared, probe_steering, program
from drivers.linux.udp_bind import bind_udp
from tests.unit.drivers.linux.loopback import ipv6_missing

NO_IPV6 = ipv6_missing()
REFUSED = probe_steering()
steered = pytest.mark.skipif(bool(REFUSED), reason=REFUSED or "-")

Bind = Callable[[int, bool], socket.socket]


def binder(host: str) -> Bind:
    def bind(port: int, shared: bool) -> socket.socket:
        return bind_udp(host, port, shared=shared)

    return bind


@pytest.fixture
def group(request: pytest.FixtureRequest) -> Iterator[Group]:
    made = bind_group(3, binder(getattr(request, "param", "127.0.0.1")))
    yield made
    for sock in made.sockets:
        sock.close()


def who_got(group: Group) -> dict[bytes, int]:
    """Return datagram -> place of the socket that has it."""
    found = {}
    for place, sock in enumerate(group.sockets):
        while True:
            try:
                found[sock.recv(65_536)] = place
            except BlockingIOError:
                break
    return found


CASES = [
    (bytes([0x40, 0, 1]), 0),
    (bytes([0x40, 1, 2]), 1),
    (bytes([0x7F, 2, 3]), 2),
    (bytes([0x40, 3, 4]), 0),  # no such worker
    (bytes([0x40, 255, 5]), 0),
    (bytes([0xC0, 2, 6]), 0),  # a long header
    (bytes([0x80, 2, 7]), 0),
    (bytes([0x00, 2, 8]), 0),  # none of ours
    (bytes([0x40]), 0),  # too short to tell
]


@steered
@pytest.mark.parametrize(
    ("group", "target"),
    [
        ("127.0.0.1", "127.0.0.1"),
        pytest.param("::1", "::1", marks=pytest.mark.skipif(NO_IPV6 is not None, reason=f"{NO_IPV6}")),
        ("", "127.0.0.1"),
        pytest.param("", "::1", marks=pytest.mark.skipif(NO_IPV6 is not None, reason=f"{NO_IPV6}")),
    ],
    indirect=["group"],
)
def test_the_worker_that_the_connection_id_names_gets_the_datagram(group: Group, target: str) -> None:
    assert (group.steered, group.reason) == (True, "")
    port = group.sockets[0].getsockname()[1]
    assert {sock.getsockname()[1] for sock in group.sockets} == {port}
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    for _ in range(4):  # by the hash of the addresses, one of twelve senders would miss
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            for data, _ in CASES:
                sender.sendto(data, for_socket(family, target, port))
        assert who_got(group) == dict(CASES)


@steered
def test_a_superpacket_goes_where_its_first_datagram_is_for(group: Group) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        try:
            sender.setsockopt(socket.IPPROTO_UDP, 103, 100)  # UDP_SEGMENT
            group.sockets[2].setsockopt(socket.IPPROTO_UDP, 104, 1)  # UDP_GRO
        except OSError as error:
            pytest.skip(f"no superpackets here: {error.strerror}")
        whole = b"".join(bytes([0x40, worker]).ljust(100, b"-") for worker in (2, 2, 1))
        sender.sendto(whole, group.sockets[0].getsockname())
    data, control, _, _ = group.sockets[2].recvmsg(65_536, 64)
    assert data == whole
    assert struct.unpack("i", control[0][2]) == (100,)


@steered
def test_a_place_stays_when_a_worker_dies_and_another_takes_the_socket_over(group: Group) -> None:
    copies = [sock.dup() for sock in group.sockets]
    group.sockets[1].close()
    kept = Group(copies, group.steered, group.reason)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for worker in range(3):
            sender.sendto(bytes([0x40, worker]), copies[0].getsockname())
    assert who_got(kept) == {bytes([0x40, worker]): worker for worker in range(3)}
    for sock in copies:
        sock.close()


def test_without_the_program_a_sender_stays_with_one_socket_whoever_dies() -> None:
    sockets = bind_shared(3, binder("127.0.0.1"))
    kept = Group([sock.dup() for sock in sockets], steered=False, reason="")
    senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(48)]

    def send() -> dict[bytes, int]:
        for number, sender in enumerate(senders):
            for part in range(3):  # the first byte would be a connection id's
                sender.sendto(bytes([0x40, part, number]), kept.sockets[0].getsockname())
        return who_got(kept)

    before = send()
    assert set(before.values()) == {0, 1, 2}, "3 * (2 / 3) ** 48: one in 30 million that a socket gets none"
    assert all(before[bytes([0x40, 0, number])] == before[bytes([0x40, 2, number])] for number in range(48))
    for sock in sockets:
        sock.close()
        assert send() == before
    for sock in (*senders, *kept.sockets):
        sock.close()


def test_a_group_may_not_be_joined_by_another_server(group: Group) -> None:
    host, port = group.sockets[0].getsockname()
    for count in (1, 3):
        with pytest.raises(SystemCallError, match="stop the program that holds it") as caught:
            bind_group(count, lambda other, shared: bind_udp(host, other or port, shared=shared))
        assert caught.value.errno == errno.EADDRINUSE


def test_nobody_who_shares_his_port_is_joined() -> None:
    with bind_udp("127.0.0.1", 0, shared=True) as theirs:
        port = theirs.getsockname()[1]
        with pytest.raises(SystemCallError, match="stop the program that holds it"):
            bind_group(2, lambda other, shared: bind_udp("127.0.0.1", other or port, shared=shared))


def test_one_socket_alone_shares_nothing() -> None:
    made = bind_group(1, binder("127.0.0.1"))
    with made.sockets[0] as sock:
        assert (len(made.sockets), made.steered) == (1, True)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0


def test_a_group_that_cannot_be_whole_leaves_no_socket_behind() -> None:
    made: list[socket.socket] = []

    def bind(port: int, shared: bool) -> socket.socket:
        if len(made) == 2:
            raise SystemCallError("binding", errno.EMFILE, "raise the limit on open files")
        made.append(bind_udp("127.0.0.1", port, shared=shared))
        return made[-1]

    with pytest.raises(SystemCallError, match="open files"):
        bind_group(3, bind)
    assert [sock.fileno() for sock in made] == [-1, -1]


def test_a_kernel_without_the_program_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuseport, "SO_ATTACH_REUSEPORT_CBPF", 9999)
    made = bind_group(2, binder("127.0.0.1"))
    for sock in made.sockets:
        sock.close()
    assert not made.steered
    assert os.strerror(errno.ENOPROTOOPT) in made.reason
    assert os.strerror(errno.ENOPROTOOPT) in probe_steering()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
@steered
def test_an_ordinary_user_may_steer() -> None:
    os.seteuid(65_534)
    try:
        made = bind_group(2, binder("127.0.0.1"))
    finally:
        os.seteuid(0)
    for sock in made.sockets:
        sock.close()
    assert made.steered


def test_the_program_names_no_socket_beyond_the_last() -> None:
    code = [struct.unpack("=HBBI", program(16)[at : at + 8]) for at in range(0, len(program(16)), 8)]
    assert len(code) == 7
    assert code[4] == (0x35, 1, 0, 16)
