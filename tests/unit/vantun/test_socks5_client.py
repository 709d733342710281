from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vantun.errors import VantunError
from vantun.socks5_client import Address, connect_through


@contextmanager
def proxy(*dialogue: tuple[bytes, bytes]) -> Iterator[Address]:
    """Serve one connection: for each pair, expect the first bytes and answer with the second."""
    wrong: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                for expected, answer in dialogue:
                    got = sock.recv(4096)
                    if got != expected:
                        wrong.append(got)
                        return
                    sock.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[:2]
        thread.join()
    assert wrong == []


def test_a_name_is_resolved_at_the_far_end() -> None:
    ask = b"\x05\x01\x00\x03\x0bexample.org\x01\xbb"
    answer = b"\x05\x00\x00\x01" + bytes(6) + b"hello"
    with (
        proxy((b"\x05\x01\x00", b"\x05\x00"), (ask, answer)) as where,
        connect_through(where, ("example.org", 443)) as sock,
    ):
        assert sock.recv(5) == b"hello"


@pytest.mark.parametrize("bound", [b"\x01" + bytes(4), b"\x04" + bytes(16), b"\x03\x02ab"])
def test_the_bound_address_is_read_whatever_it_is(bound: bytes) -> None:
    ask = b"\x05\x01\x00\x04" + bytes(15) + b"\x01\x00\x50"
    answer = b"\x05\x00\x00" + bound + b"\x00\x00!"
    with proxy((b"\x05\x01\x00", b"\x05\x00"), (ask, answer)) as where, connect_through(where, ("::1", 80)) as sock:
        assert sock.recv(1) == b"!"


def test_login() -> None:
    ask = b"\x05\x01\x00\x01\x01\x02\x03\x04\x00\x50"
    with proxy(
        (b"\x05\x01\x02", b"\x05\x02"),
        (b"\x01\x05alice\x06s3cret", b"\x01\x00"),
        (ask, b"\x05\x00\x00\x01" + bytes(6)),
    ) as where:
        connect_through(where, ("1.2.3.4", 80), ("alice", "s3cret")).close()


@pytest.mark.parametrize(
    ("dialogue", "login", "said"),
    [
        ([(b"\x05\x01\x00", b"\x05\xff")], None, "asks for a login"),
        ([(b"\x05\x01\x02", b"\x05\x02"), (b"\x01\x01a\x01b", b"\x01\x01")], ("a", "b"), "does not accept user 'a'"),
        (
            [(b"\x05\x01\x00", b"\x05\x00"), (b"\x05\x01\x00\x01\x01\x02\x03\x04\x00\x50", b"\x05\x02\x00\x01")],
            None,
            r"refused 1\.2\.3\.4:80: not allowed",
        ),
        ([(b"\x05\x01\x00", b"\x05")], None, "closed the connection after 1 of 2 bytes"),
    ],
)
def test_refusals(dialogue: list[tuple[bytes, bytes]], login: tuple[str, str] | None, said: str) -> None:
    with proxy(*dialogue) as where, pytest.raises(VantunError, match=said):
        connect_through(where, ("1.2.3.4", 80), login)
