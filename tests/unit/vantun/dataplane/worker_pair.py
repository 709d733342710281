"""Two real worker processes with a path between them over loopback, and streams that end in this process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from accel.engine import Suite
from drivers.linux.udp_bind import bind_udp
from vantun.config_accel import DEFAULT_ACCEL, AccelConfig
from vantun.control.worker_link import StreamReply, WorkerLink
from vantun.dataplane.config import DataplaneConfig
from vantun.dataplane.events import Event, FlowOpened
from vantun.lanes import LaneSpec
from vantun.session.limits import Limits

SESSION = 0x5E55104
REPLY = StreamReply(accepted=b"yes!", refused=b"no:?!", code_at=3, failed=1)
SMALL = DataplaneConfig(limits=Limits(sessions=256, flows=512, rows=16384))

E = TypeVar("E")


class Recorder:
    """A WorkerListener that keeps what it is told, and lets a test wait for it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.datagrams: list[tuple[int, bytes, tuple[str, int]]] = []
        self.lost: list[str] = []
        self._changed = asyncio.Event()

    def on_datagram(self, number: int, data: bytes, peer: tuple[str, int]) -> None:
        self.datagrams.append((number, data, peer))
        self._changed.set()

    def on_event(self, event: Event) -> None:
        self.events.append(event)
        self._changed.set()

    def on_worker_lost(self, reason: str) -> None:
        self.lost.append(reason)
        self._changed.set()

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait until ``done``, looking whenever something was told."""
        while not done():
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), 30)

    async def event(self, kind: type[E], wanted: Callable[[E], bool] = lambda _: True) -> E:
        """Return the first event of a kind that is wanted, and forget it."""

        def found() -> E | None:
            return next((event for event in self.events if isinstance(event, kind) and wanted(event)), None)

        await self.until(lambda: found() is not None)
        event = found()
        assert event is not None
        self.events.remove(event)  # type: ignore[arg-type] # E is an Event wherever it was found
        return event


def lane_pair(path: int, ports: tuple[int, int], session: int = SESSION) -> tuple[LaneSpec, LaneSpec]:
    """Return a client's and a server's lane that belong together; ``ports`` are theirs, in this order."""
    tag = (session & 0xFFFFFF).to_bytes(3, "big") + path.to_bytes(2, "big")
    cids = b"\x00c\x00" + tag, b"\x00s\x00" + tag
    secrets = (b"c" + tag).ljust(32, b"."), (b"s" + tag).ljust(32, b".")
    client = LaneSpec(
        session=session,
        path=path,
        socket=0,
        peer=("127.0.0.1", ports[1]),
        receive_cid=cids[0],
        send_cid=cids[1],
        suite=Suite.AES_128_GCM,
        send_secret=secrets[0],
        receive_secret=secrets[1],
        client=True,
    )
    server = replace(
        client,
        peer=("127.0.0.1", ports[0]),
        receive_cid=cids[1],
        send_cid=cids[0],
        send_secret=secrets[1],
        receive_secret=secrets[0],
        client=False,
    )
    return client, server


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Return two ends of a TCP connection over loopback, non-blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    for sock in (near, far):
        sock.settimeout(0)
    return near, far


class WorkerPair:
    """A client worker and a server worker with one lane between them. Made by :meth:`start`."""

    def __init__(self, links: tuple[WorkerLink, WorkerLink], heard: tuple[Recorder, Recorder]) -> None:
        self.client, self.server = links
        self.client_heard, self.server_heard = heard
        self.ports = (0, 0)
        self._targets = 0

    @classmethod
    async def start(cls, config: DataplaneConfig = SMALL, accel: AccelConfig = DEFAULT_ACCEL) -> WorkerPair:
        heard = Recorder(), Recorder()
        links = await asyncio.gather(*(WorkerLink.start(config, accel, each) for each in heard))
        pair = cls((links[0], links[1]), heard)
        await pair.connect()
        return pair

    async def connect(self) -> None:
        """Hand both a UDP socket, and lanes that lead to each other."""
        sockets = bind_udp("127.0.0.1", 0), bind_udp("127.0.0.1", 0)
        self.ports = sockets[0].getsockname()[1], sockets[1].getsockname()[1]
        lanes = lane_pair(1, self.ports)
        for link, sock, lane in zip((self.client, self.server), sockets, lanes, strict=True):
            link.add_socket(0, sock)
            link.add_lane(lane)
            sock.close()

    async def open(self, reply: StreamReply = REPLY) -> tuple[socket.socket, FlowOpened]:
        """Open a flow; return the program's socket, and what the server was told."""
        self._targets += 1
        target = f"target-{self._targets}.example:80"
        program, handed = tcp_pair()
        self.client.open_flow(SESSION, target, handed, reply)
        opened = await self.server_heard.event(FlowOpened, lambda event: event.target == target)
        return program, opened

    async def stream(self) -> tuple[socket.socket, socket.socket]:
        """Open a flow and accept it; return the program's and the target's socket."""
        program, opened = await self.open()
        target, handed = tcp_pair()
        self.server.attach_flow(opened.handle, handed)
        assert await receive(program, len(REPLY.accepted)) == REPLY.accepted
        return program, target

    async def close(self) -> None:
        """End both workers."""
        await asyncio.gather(self.client.close(), self.server.close())


async def receive(sock: socket.socket, size: int) -> bytes:
    """Return ``size`` bytes, or fewer if the stream ends before."""
    data = bytearray()
    while len(data) < size:
        part = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, min(size - len(data), 1 << 18)), 30)
        if not part:
            break
        data += part
    return bytes(data)


async def send(sock: socket.socket, data: bytes) -> None:
    """Send everything."""
    await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(sock, data), 60)
