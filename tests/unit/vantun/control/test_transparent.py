"""What needs no firewall; tests/net/test_transparent.py has the rest."""

from __future__ import annotations

import asyncio
import socket

import pytest

from vantun.acl import AccessList, Guard
from vantun.config_kinds import Endpoint
from vantun.control.dialer import Dialer
from vantun.control.resolver import Resolver
from vantun.control.transparent import Transparent, is_local, plain
from vantun.dataplane.ports import RefusalCode
from vantun.worker_messages import StreamReply


@pytest.mark.parametrize(
    ("where", "endpoint"),
    [
        (("192.0.2.1", 80), Endpoint("192.0.2.1", 80)),
        (("::ffff:192.0.2.1", 80, 0, 0), Endpoint("192.0.2.1", 80)),
        (("fe80::1%eth0", 80, 0, 2), Endpoint("fe80::1", 80)),
    ],
)
def test_addresses(where: tuple[object, ...], endpoint: Endpoint) -> None:
    assert plain(where) == endpoint


def test_which_addresses_are_local() -> None:
    assert is_local("127.0.0.1")
    assert not is_local("192.0.2.1")
    assert not is_local("2001:db8::1")


@pytest.mark.parametrize("redirected", [False, True])
def test_a_connection_that_was_not_diverted(redirected: bool) -> None:
    async def carry(_target: Endpoint, _sock: socket.socket, _reply: StreamReply, _first: bytes) -> RefusalCode | None:
        raise AssertionError("it would loop")

    dialer = Dialer(AccessList(guard=Guard.NONE), Resolver(), carry)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        sock, _ = listener.accept()
        with sock:
            reason = asyncio.run(Transparent(dialer, redirected=redirected).serve(sock))
    assert reason is not None
    assert "it was not" in reason
