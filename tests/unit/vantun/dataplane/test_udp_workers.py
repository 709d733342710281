"""UDP through two real workers, and the commands of the link: as control processes use them."""

from __future__ import annotations

import asyncio
import socket

from tests.unit.vantun.dataplane.udp_lab import udp, unwrap, wrap
from tests.unit.vantun.dataplane.worker_pair import SESSION, WorkerPair
from vantun.acl import AccessList
from vantun.config_kinds import Endpoint
from vantun.control.resolver import Resolver
from vantun.control.udp_connector import UdpConnector
from vantun.control.udp_ends import attach_reverse, bind_listeners, bind_relay
from vantun.dataplane.events import FlowOpened
from vantun.udp_messages import FLOW_TARGET, REVERSE_TARGET, ResolveUdp, UdpClosed, UdpKind


async def datagram(sock: socket.socket) -> tuple[bytes, tuple[str, int]]:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recvfrom(sock, 1 << 17), 30)


def test_a_relay_a_forward_and_a_reverse_forward() -> None:
    async def scenario() -> None:
        pair = await WorkerPair.start()
        access = AccessList.parse(["allow(127.0.0.0/8)"])
        connector = UdpConnector(pair.server, Resolver(), access)
        with udp() as program, udp() as target:
            where = target.getsockname()

            async def serve_association() -> None:
                opened = await pair.server_heard.event(FlowOpened, lambda event: event.target == FLOW_TARGET)
                assert connector.open(opened.handle, opened.session, "somebody") is None
                connector.resolve(await pair.server_heard.event(ResolveUdp))

            sock = bind_relay("127.0.0.1")
            relay = sock.getsockname()
            number = pair.client.open_udp(SESSION, UdpKind.SOCKS5, sock, peer=("127.0.0.1", 0))
            program.sendto(wrap(where, b"question"), relay)
            await serve_association()
            question, source = await datagram(target)
            target.sendto(question * 1000, source)
            assert unwrap((await datagram(program))[0]) == (b"question" * 1000, where)
            snapshot = (await pair.server.snapshot())["udp_flows"]
            assert isinstance(snapshot, dict)
            assert (snapshot["associations"], snapshot["destinations"]) == (1, 1)
            pair.client.close_udp(number)

            (sock,) = bind_listeners("127.0.0.1", 0)
            forward = sock.getsockname()
            pair.client.open_udp(SESSION, UdpKind.FORWARD, sock, target=str(Endpoint(*where)))
            program.sendto(b"by forward", forward)
            await serve_association()
            question, source = await datagram(target)
            target.sendto(b"answer", source)
            assert await datagram(program) == (b"answer", forward)

            (sock,) = bind_listeners("127.0.0.1", 0)
            public = sock.getsockname()
            pair.server.open_udp(SESSION, UdpKind.REVERSE, sock, target="games")
            program.sendto(b"knock", public)
            opened = await pair.client_heard.event(FlowOpened)
            assert opened.target == REVERSE_TARGET + "games"
            assert await attach_reverse(pair.client, Resolver(), opened.handle, Endpoint(*where)) is None
            question, source = await datagram(target)
            assert question == b"knock"
            target.sendto(b"come in", source)
            assert await datagram(program) == (b"come in", public)

            sock = bind_relay("127.0.0.1")
            gone = pair.client.open_udp(SESSION + 1, UdpKind.SOCKS5, sock, peer=("127.0.0.1", 0))
            await pair.client_heard.event(UdpClosed, lambda event: event.number == gone)
        await connector.close()
        await pair.close()

    asyncio.run(scenario())
