from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from vantun.acl import AccessList, Guard
from vantun.config import ClientConfig, load_client
from vantun.config_kinds import Endpoint
from vantun.control import udp_entrances
from vantun.control.associations import Associations
from vantun.control.dialer import Dialer
from vantun.control.entrances import Entrances
from vantun.control.resolver import Resolver
from vantun.dataplane.ports import RefusalCode
from vantun.errors import ResourceError
from vantun.udp_messages import UdpKind
from vantun.worker_messages import StreamReply


class Worker:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []
        self.ports: list[int] = []

    def open_udp(self, session: int, kind: UdpKind, sock: socket.socket, *, target: str, idle: float) -> int:
        self.said.append(("open", session, kind.value, target, idle))
        self.ports.append(sock.getsockname()[1])
        sock.close()
        return len(self.ports)

    def move_udp(self, number: int, session: int) -> None:
        self.said.append(("move", number, session))

    def close_udp(self, number: int) -> None:
        self.said.append(("close", number))


Scenario = Callable[[Entrances, list[Endpoint]], Awaitable[None]]


def config(folder: Path, text: str) -> ClientConfig:
    file = folder / "client.yaml"
    file.write_text("server: example.org\nauth: s3cret\n" + text)
    return load_client(file)


def play(settings: ClientConfig, scenario: Scenario) -> None:
    carried: list[Endpoint] = []

    async def carry(target: Endpoint, sock: socket.socket, _reply: StreamReply, _first: bytes) -> RefusalCode | None:
        carried.append(target)
        sock.close()
        return None

    async def nowhere() -> None:
        return None

    async def run() -> None:
        dialer = Dialer(AccessList(guard=Guard.NONE), Resolver(), carry)
        made = await Entrances.start(settings, Resolver(), dialer, Associations(nowhere))
        try:
            async with asyncio.timeout(30):
                await scenario(made, carried)
        finally:
            await made.close()

    asyncio.run(run())


def port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_a_forward_leads_to_its_target(tmp_path: Path) -> None:
    listen = port()

    async def scenario(made: Entrances, carried: list[Endpoint]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", listen)
        assert await reader.read() == b""
        writer.close()
        assert carried == [Endpoint("ssh.test", 22)]
        assert list(made.listeners) == [f"tcp 127.0.0.1:{listen}"]
        assert made.summary() == f"tcp 127.0.0.1:{listen} on 127.0.0.1:{listen}"
        status: Any = made.status()
        assert status["forwards"][f"tcp 127.0.0.1:{listen}"]["accepted"] == 1

    text = f"tcpForwarding: [{{listen: '127.0.0.1:{listen}', remote: 'ssh.test:22'}}]\n"
    play(config(tmp_path, text), scenario)


def test_proxies_on_one_port_and_on_two(tmp_path: Path) -> None:
    async def one(made: Entrances, _carried: list[Endpoint]) -> None:
        assert list(made.listeners) == ["socks5"]

    async def two(made: Entrances, _carried: list[Endpoint]) -> None:
        assert list(made.listeners) == ["socks5", "http"]
        reader, writer = await asyncio.open_connection("127.0.0.1", made.listeners["http"].port)
        writer.write(b"\x05\x01\x00")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()

    first, second = port(), port()
    text = f"socks5: {{listen: '127.0.0.1:{first}'}}\nhttp: {{listen: '127.0.0.1:"
    play(config(tmp_path, f"{text}{first}'}}\n"), one)
    play(config(tmp_path, f"{text}{second}'}}\n"), two)


def test_udp_sockets_outlive_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unprivileged(host: str, _port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((host, 0))
        return sock

    monkeypatch.setattr(udp_entrances, "bind_tproxy", unprivileged)
    listen = port()
    text = f"udpForwarding: [{{listen: '127.0.0.1:{listen}', remote: 'dns.test:53', timeout: 9s}}]\n"
    text += "udpTProxy: {listen: '127.0.0.1:2500'}\n"
    first: Any = Worker()
    second: Any = Worker()

    async def scenario(made: Entrances, _carried: list[Endpoint]) -> None:
        made.begin(first)
        assert first.said == [("open", 0, "forward", "dns.test:53", 9.0), ("open", 0, "tproxy", "", 60.0)]
        assert first.ports[0] == listen
        made.move(7)
        assert first.said[2:] == [("move", 1, 7), ("move", 2, 7)]
        made.move(0)
        made.begin(second)
        assert second.ports == first.ports
        assert f"udp 127.0.0.1:{listen}" in made.summary()

    play(config(tmp_path, text), scenario)
    assert second.said[-2:] == [("close", 1), ("close", 2)]


def test_a_port_that_is_taken_opens_nothing(tmp_path: Path) -> None:
    async def scenario(_made: Entrances, _carried: list[Endpoint]) -> None:
        raise AssertionError("it has started")

    free = port()
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        text = f"socks5: {{listen: '127.0.0.1:{free}'}}\nhttp: {{listen: '127.0.0.1:{taken}'}}\n"
        with pytest.raises(ResourceError, match=r"http\.listen: cannot listen on"):
            play(config(tmp_path, text), scenario)
        socket.create_server(("127.0.0.1", free)).close()
