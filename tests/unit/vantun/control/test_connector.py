from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vantun.acl import AccessList
from vantun.config_kinds import Endpoint
from vantun.control import connector
from vantun.control.connector import Connector, interleave, most_telling, parse_target, refusal
from vantun.control.resolver import Address, Resolver
from vantun.dataplane.ports import RefusalCode

V4, V6 = socket.AF_INET, socket.AF_INET6


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("example.org:80", Endpoint("example.org", 80)),
        ("192.0.2.1:1", Endpoint("192.0.2.1", 1)),
        ("[2001:db8::1]:65535", Endpoint("2001:db8::1", 65535)),
    ],
)
def test_targets(text: str, target: Endpoint) -> None:
    assert parse_target(text) == target


NO_TARGETS = """
    : :80 a a: a:0 a:65536 a:-1 a:٣ a:80:80 [fe80::1%eth0]:80 [a]:80 ::1:80 127.1:80
"""


@pytest.mark.parametrize("text", ["", " a:80", "a:80\n", "a b:80", "\0:80", *NO_TARGETS.split()])
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_target(text)


@given(st.text(max_size=300))
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        target = parse_target(text)
    except ValueError:
        return
    assert parse_target(str(target)) == target


def test_families_take_turns() -> None:
    names = [(V6, "a"), (V6, "b"), (V6, "c"), (V4, "d"), (V4, "e")]
    ordered = interleave(Address(family, name, 1) for family, name in names)
    assert [address.host for address in ordered] == ["a", "d", "b", "e", "c"]


def test_the_most_telling_failure() -> None:
    unreachable, refused = OSError(errno.ENETUNREACH, ""), ConnectionRefusedError(errno.ECONNREFUSED, "")
    assert most_telling([unreachable, refused]) is refused
    assert refusal(unreachable) is RefusalCode.NETWORK_UNREACHABLE
    assert refusal(socket.gaierror(socket.EAI_NONAME, "")) is RefusalCode.HOST_UNREACHABLE
    assert refusal(TimeoutError()) is RefusalCode.TIMED_OUT
    assert refusal(OSError(errno.EMFILE, "")) is RefusalCode.GENERAL


@contextmanager
def listening(host: str = "127.0.0.1") -> Iterator[tuple[socket.socket, int]]:
    with socket.socket() as listener:
        listener.bind((host, 0))
        listener.listen()
        yield listener, listener.getsockname()[1]


@contextmanager
def deaf() -> Iterator[int]:
    """Yield a port that neither accepts nor refuses: its queue of one connection is full, so SYNs are dropped."""
    with socket.socket() as listener, socket.socket() as filler:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        filler.connect(listener.getsockname())
        yield listener.getsockname()[1]


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def connect(
    target: str,
    addresses: list[Address],
    time_limit: float = 10,
    act: Callable[[Connector], None] = lambda _: None,
    rules: tuple[str, ...] = ("allow(127.0.0.0/8)", "allow(::1)"),
) -> socket.socket | RefusalCode | None:
    """Open one flow and return what came of it; None when neither callback was called."""
    outcome: list[socket.socket | RefusalCode] = []

    async def scenario() -> None:
        made = Connector(
            Resolver(lambda _host, _port: addresses),
            lambda handle, sock: outcome.append(sock) if handle == 7 else None,
            lambda handle, code: outcome.append(code) if handle == 7 else None,
            AccessList.parse(rules),
            time_limit,
        )
        made.open(7, target)
        act(made)
        while len(made):
            await asyncio.sleep(0.001)
        await made.close()

    asyncio.run(scenario())
    assert len(outcome) <= 1
    return outcome[0] if outcome else None


def test_connects() -> None:
    with listening() as (listener, port):
        sock = connect("name.test:80", [Address(V4, "127.0.0.1", port)])
        assert isinstance(sock, socket.socket)
        with sock, listener.accept()[0] as accepted:
            accepted.sendall(b"hi")
            sock.setblocking(True)
            assert sock.recv(2) == b"hi"


def test_a_literal_is_not_looked_up() -> None:
    with listening() as (_, port):
        sock = connect(f"127.0.0.1:{port}", [])
        assert isinstance(sock, socket.socket)
        sock.close()


def test_goes_on_to_the_next_address_when_one_refuses() -> None:
    with listening() as (_, port):
        sock = connect("x.test:80", [Address(V4, "127.0.0.1", closed_port()), Address(V4, "127.0.0.1", port)])
        assert isinstance(sock, socket.socket)
        sock.close()


def test_does_not_wait_for_an_address_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector, "STAGGER", 0.001)
    with deaf() as silent, listening() as (_, port):
        sock = connect("x.test:80", [Address(V4, "127.0.0.1", silent), Address(V4, "127.0.0.1", port)])
        assert isinstance(sock, socket.socket)
        sock.close()


def test_refusals() -> None:
    assert connect("x.test:80", [Address(V4, "127.0.0.1", closed_port())]) is RefusalCode.REFUSED
    assert connect("x.test:80", []) is RefusalCode.HOST_UNREACHABLE
    assert connect("no port", []) is RefusalCode.GENERAL
    with deaf() as silent:
        assert connect("x.test:80", [Address(V4, "127.0.0.1", silent)], time_limit=0.01) is RefusalCode.TIMED_OUT


def test_a_flow_that_has_ended_is_not_answered() -> None:
    with deaf() as silent:
        assert connect("x.test:80", [Address(V4, "127.0.0.1", silent)], act=lambda made: made.cancel(7)) is None


def test_too_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector, "CONCURRENT", 0)
    assert connect("127.0.0.1:80", []) is RefusalCode.GENERAL


def test_targets_in_the_neighbourhood_are_refused_by_default() -> None:
    with listening() as (_, port):
        assert connect(f"127.0.0.1:{port}", [], rules=()) is RefusalCode.NOT_ALLOWED
        assert connect(f"[::ffff:127.0.0.1]:{port}", [], rules=()) is RefusalCode.NOT_ALLOWED
        assert connect("169.254.169.254:80", [], rules=()) is RefusalCode.NOT_ALLOWED


def test_an_answer_of_the_name_server_is_judged_address_by_address() -> None:
    """DNS rebinding: a public and a private address behind one name."""
    with listening("127.0.0.2") as (_, port):
        answer = [Address(V4, "127.0.0.1", port), Address(V4, "127.0.0.2", port)]
        sock = connect(f"x.test:{port}", answer, rules=("reject(127.0.0.1)", "allow(127.0.0.2)"))
        assert isinstance(sock, socket.socket)
        with sock:
            assert sock.getpeername() == ("127.0.0.2", port)
        assert connect(f"x.test:{port}", answer, rules=("allow(x.test)", "allow(all)")) is RefusalCode.NOT_ALLOWED
        assert connect(f"X.TEST.:{port}", answer, rules=("reject(x.test)", "allow(127.0.0.0/8)")) is (
            RefusalCode.NOT_ALLOWED
        )


@pytest.mark.parametrize("odd", ["0x7f000001", "0X7F000001", "0177.0.0.0x1", "localhost", "LOCALHOST."])
def test_odd_spellings_are_judged_by_what_the_resolver_makes_of_them(odd: str) -> None:
    outcome: list[socket.socket | RefusalCode] = []

    async def scenario() -> None:
        made = Connector(Resolver(), lambda _, sock: outcome.append(sock), lambda _, code: outcome.append(code))
        made.open(7, f"{odd}:1")
        while len(made):
            await asyncio.sleep(0.001)

    asyncio.run(scenario())
    assert outcome[0] in (RefusalCode.NOT_ALLOWED, RefusalCode.HOST_UNREACHABLE, RefusalCode.GENERAL)


def test_a_host_without_ipv6_goes_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    make = socket.socket

    def without(family: int = -1, *arguments: int, **named: int) -> socket.socket:
        if family == V6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return make(family, *arguments, **named)

    monkeypatch.setattr(connector, "STAGGER", 1000)
    with listening() as (_, port):
        monkeypatch.setattr(socket, "socket", without)
        sock = connect("x.test:80", [Address(V6, "::1", port), Address(V4, "127.0.0.1", port)])
        monkeypatch.undo()
        assert isinstance(sock, socket.socket)
        sock.close()
