"""Questions to name servers of our own: messages, files, servers that lie, fail or say nothing."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vantun.control import own_lookup as module
from vantun.control.own_lookup import AAAA, A, DnsError, OwnLookup, answer, hosts, name_servers, question
from vantun.control.resolver import Address

NAME = "vpn.example.org"
Reply = Callable[[bytes], list[bytes]]


def record(kind: int, data: bytes, name: bytes = b"\xc0\x0c", class_: int = 1) -> bytes:
    return name + struct.pack("!HHIH", kind, class_, 60, len(data)) + data


def reply(asked: bytes, *records: bytes, code: int = 0) -> bytes:
    return asked[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(records), 0, 0) + asked[12:] + b"".join(records)


def test_a_question_is_as_the_rfc_writes_it() -> None:
    asked = question(0x1234, "a.example.", A)
    assert asked == bytes.fromhex("1234 0100 0001 0000 0000 0000 0161 07 6578616d706c65 00 0001 0001")


@pytest.mark.parametrize("name", ["", "a..b", "x" * 64 + ".org", "é.org", ".".join(["x" * 60] * 5)])
def test_names_that_cannot_be_asked_for(name: str) -> None:
    with pytest.raises(ValueError, match=r"no host name|can't encode"):
        question(1, name, A)


def test_addresses_behind_an_alias() -> None:
    asked = question(7, NAME, A)
    alias = record(5, b"\x04real\xc0\x10")
    found = answer(reply(asked, alias, record(A, bytes([192, 0, 2, 1])), record(A, bytes([192, 0, 2, 2]))), asked)
    assert found == ["192.0.2.1", "192.0.2.2"]
    asked = question(7, NAME, AAAA)
    data = reply(asked, record(AAAA, bytes(15) + b"\1", b"\3vpn\7example\3org\0"), record(A, bytes(4)))
    assert answer(data, asked) == ["::1"]


def test_no_address_and_no_knowledge_are_different() -> None:
    asked = question(7, NAME, A)
    assert answer(reply(asked), asked) == []
    assert answer(reply(asked, code=3), asked) == []
    assert answer(reply(asked, code=2), asked) is None
    assert answer(reply(asked.replace(b"example", b"EXAMPLE")), asked) == []


def test_what_answers_something_else_is_refused() -> None:
    asked = question(7, NAME, A)
    others = [
        b"",
        reply(question(8, NAME, A)),
        reply(question(7, "vpn.example.com", A)),
        reply(question(7, NAME, AAAA)),
        asked,
        reply(asked, record(A, bytes(4)))[:-1],
        reply(asked, b"\x3fx"),
        reply(asked, b"\x80\x00" + bytes(14)),
        reply(asked, record(A, bytes(4))[:5]),
    ]
    for data in others:
        with pytest.raises(DnsError):
            answer(data, asked)


@given(st.binary(max_size=80), st.integers(0, 40))
def test_no_bytes_break_it(data: bytes, records: int) -> None:
    asked = question(7, NAME, A)
    head = asked[:2] + struct.pack("!HHHHH", 0x8180, 1, records, 0, 0) + asked[12:]
    for message in (data, head + data):
        try:
            found = answer(message, asked)
        except DnsError:
            continue
        assert found is None or all(len(where.split(".")) == 4 for where in found)


def test_the_files_of_the_system() -> None:
    text = "# c\nsearch x\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.53\nnameserver oops\nnameserver\n"
    assert name_servers(text + "nameserver fe80::1%eth0\n") == ["192.0.2.53", "fe80::1%eth0"]
    assert len(name_servers("nameserver 192.0.2.1\n" * 9)) == 3
    text = "127.0.0.1 localhost\n192.0.2.7\tVPN.example.org vpn # ours\noops vpn\n2001:db8::7 vpn\n"
    assert hosts(text, "vpn.EXAMPLE.org.") == ["192.0.2.7"]
    assert hosts(text, "vpn") == ["192.0.2.7", "2001:db8::7"]
    assert hosts(text, "ours") == []


class System:
    """The C library: knows what it is told to know."""

    def __init__(self, **known: str) -> None:
        self.known = known
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> list[Address]:
        self.asked.append(host)
        if host not in self.known:
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return [Address(socket.AF_INET, self.known[host], port)]


@contextmanager
def name_server(replies: Reply) -> Iterator[tuple[str, int]]:
    """Answer on loopback; an empty datagram ends it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            while (got := sock.recvfrom(4096))[0]:
                for data in replies(got[0]):
                    sock.sendto(data, got[1])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield sock.getsockname()
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", sock.getsockname())
            thread.join()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with files of the system; its name server is on loopback, which counts as elsewhere here."""
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    monkeypatch.setattr(module, "name_servers", lambda text: ["127.0.0.1"] if "192.0.2.53" in text else [])
    return tmp_path


def both(asked: bytes) -> list[bytes]:
    """Answer for 127.0.0.9 and, where there is no route to, 2001:db8::9; a forged answer comes first."""
    if asked[-4:-2] == b"\0\1":
        right = reply(asked, record(A, bytes([127, 0, 0, 9])))
    else:
        right = reply(asked, record(AAAA, socket.inet_pton(socket.AF_INET6, "2001:db8::9")))
    return [bytes([asked[0] ^ 1]) + right[1:], right]


def test_a_name_server_is_asked_and_the_system_is_not(folder: Path) -> None:
    system = System()
    with name_server(both) as (_, port):
        found = OwnLookup(0, system, folder, port)(NAME, 443)
    assert {address.host for address in found} == {"127.0.0.9", "2001:db8::9"}
    assert {address.port for address in found} == {443}
    assert system.asked == []


def test_addresses_without_a_route_come_last(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with name_server(both) as (_, port):
        lookup = OwnLookup(0, System(), folder, port)
        monkeypatch.setattr(lookup, "_is_out_of_reach", lambda host: ":" in host)
        assert [address.host for address in lookup(NAME, 443)] == ["127.0.0.9", "2001:db8::9"]


def test_the_hosts_file_comes_first(folder: Path) -> None:
    (folder / "hosts").write_text(f"192.0.2.7 {NAME}\n")
    with name_server(lambda _asked: []) as (_, port):
        assert OwnLookup(0, System(), folder, port)(NAME, 1)[0].host == "192.0.2.7"


def test_names_without_a_dot_are_the_systems(folder: Path) -> None:
    with name_server(both) as (_, port):
        assert OwnLookup(0, System(vpn="192.0.2.8"), folder, port)("vpn", 1)[0].host == "192.0.2.8"


@pytest.mark.parametrize("replies", [lambda _: [], lambda asked: [reply(asked, code=2)], lambda asked: [asked]])
def test_a_name_server_that_is_of_no_use(folder: Path, replies: Reply, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system is asked, and then what is known."""
    monkeypatch.setattr(module, "SECONDS", 0.02)
    system = System(**{NAME: "192.0.2.8"})
    with name_server(replies) as (_, port):
        lookup = OwnLookup(0, system, folder, port)
        assert lookup(NAME, 1)[0].host == "192.0.2.8"
        system.known.clear()
        assert lookup(NAME, 2) == [Address(socket.AF_INET, "192.0.2.8", 2)]
        with pytest.raises(socket.gaierror):
            lookup("other.example.org", 1)


def test_the_last_address_serves_while_the_system_hangs(folder: Path) -> None:
    (folder / "resolv.conf").write_text("nameserver 127.0.0.53\n")
    hangs, asked = threading.Event(), threading.Event()

    def system(_host: str, port: int) -> list[Address]:
        if asked.is_set():
            hangs.wait(10)
        asked.set()
        return [Address(socket.AF_INET, "192.0.2.8", port)]

    lookup = OwnLookup(0, system, folder)
    assert lookup(NAME, 1)[0].host == "192.0.2.8"
    thread = threading.Thread(target=lookup, args=(NAME, 1))
    thread.start()
    while NAME not in lookup._pending:
        pass
    assert lookup(NAME, 1)[0].host == "192.0.2.8"
    hangs.set()
    thread.join()


def test_what_is_known_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 2)
    (folder / "resolv.conf").write_text("")
    lookup = OwnLookup(0, lambda _host, port: [Address(socket.AF_INET, "192.0.2.8", port)], folder)
    for number in range(5):
        lookup(f"{number}.example.org", 1)
    assert len(lookup._known) == 2
