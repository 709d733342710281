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
        self.places: tuple[int, ...] = (0,)
        self.workers: list[int] = []

    def udp_places(self, session: int) -> tuple[int, ...]:
        return self.places if session else ()

    def open_udp(
        self, session: int, kind: UdpKind, sock: socket.socket, *, target: str, idle: float, worker: int
    ) -> int:
        self.said.append(("open", session, kind.value, target, idle))
        self.workers.append(worker)
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


def play(settings: ClientConfig, scenario: Scenario, workers: int = 1) -> None:
    carried: list[Endpoint] = []

    async def carry(target: Endpoint, sock: socket.socket, _reply: StreamReply, _first: bytes) -> RefusalCode | None:
        carried.append(target)
        sock.close()
        return None

    async def nowhere() -> None:
        return None

    async def run() -> None:
        dialer = Dialer(AccessList(guard=Guard.NONE), Resolver(), carry)
        made = await Entrances.start(settings, Resolver(), dialer, Associations(nowhere), workers)
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
    def unprivileged(host: str, _port: int, _count: int) -> list[socket.socket]:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((host, 0))
        return [sock]

    monkeypatch.setattr(udp_entrances, "bind_tproxies", unprivileged)
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


def forward(folder: Path) -> ClientConfig:
    return config(folder, f"udpForwarding: [{{listen: '127.0.0.1:{port()}', remote: 'dns.test:53'}}]\n")


def test_every_worker_serves_a_socket_and_one_that_dies_costs_the_others_nothing(tmp_path: Path) -> None:
    link: Any = Worker()
    link.places = (0, 1, 2)

    async def scenario(made: Entrances, _carried: list[Endpoint]) -> None:
        made.begin(link)
        made.move(7)
        assert link.workers == [0, 1, 2]
        assert len(set(link.ports)) == 1
        assert [said for said in link.said if said[0] != "open"] == [("move", 1, 7), ("move", 2, 7), ("move", 3, 7)]
        link.said.clear()
        made.rejoin(link, lambda number: number == 2)
        assert link.said == [("close", 2), ("open", 7, "forward", "dns.test:53", 60.0)]
        assert link.workers[3:] == [1]
        assert link.ports[3] == link.ports[1]

    play(forward(tmp_path), scenario, 3)


def test_a_session_of_fewer_slices_is_served_by_the_workers_that_have_one(tmp_path: Path) -> None:
    link: Any = Worker()
    link.places = (1,)

    async def scenario(made: Entrances, _carried: list[Endpoint]) -> None:
        made.begin(link)
        made.move(7)
        opened = ("open", 7, "forward", "dns.test:53", 60.0)
        assert link.said[2:] == [("close", 1), opened, ("move", 2, 7)]
        assert link.workers == [0, 1, 1]
        link.said.clear()
        link.places = (0, 1)
        made.move(0)
        assert link.said == [("move", 3, 0), ("move", 2, 0)]
        made.move(8)
        assert link.said[2] == ("close", 3), "it comes home"
        assert link.workers == [0, 1, 1, 0]

    play(forward(tmp_path), scenario, 2)


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
