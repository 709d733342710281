"""What a test's internet offers: HTTP, DNS, a WebSocket echo and HTTP/3.

Run in a namespace as ``python -m tests.net.services FOLDER ADDRESS...``; FOLDER has cert.pem and key.pem. Says "ready"
when all of it is there.
"""

from __future__ import annotations

import asyncio
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import cast

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ProtocolNegotiated, QuicEvent
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket

HTTP, DNS, WEBSOCKET, HTTP3 = 80, 53, 8080, 443
BODY = b"served in a namespace\n" * 5000
"""More than a hundred packets."""


class Dns(asyncio.DatagramProtocol):
    """Answers every question with an A record of its own address."""

    def __init__(self, address: str) -> None:
        self._address = address

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        end = data.index(b"\0", 12) + 5  # name, type, class
        head = data[:2] + b"\x81\x80" + b"\0\1\0\1\0\0\0\0"
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + ip_address(self._address).packed
        self._transport.sendto(head + data[12:end] + answer, addr)


class Http3(QuicConnectionProtocol):
    """Answers every request with BODY."""

    _http: H3Connection

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ProtocolNegotiated):
            self._http = H3Connection(self._quic)
        for found in self._http.handle_event(event) if hasattr(self, "_http") else ():
            if isinstance(found, HeadersReceived):
                self._http.send_headers(found.stream_id, [(b":status", b"200")])
                self._http.send_data(found.stream_id, BODY, end_stream=True)
                self.transmit()


async def _http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    request = await reader.readuntil(b"\r\n\r\n")
    peer = writer.get_extra_info("peername")[0]
    body = peer.encode() + b"\n" if request.startswith(b"GET /who") else BODY
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
    writer.close()


async def _echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def main(folder: Path, addresses: list[str]) -> None:
    """Serve on each address until the end."""
    loop = asyncio.get_running_loop()
    quic = QuicConfiguration(alpn_protocols=H3_ALPN, is_client=False)
    quic.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    for address in addresses:
        await asyncio.start_server(_http, address, HTTP)
        await serve_websocket(_echo, address, WEBSOCKET)
        await serve(address, HTTP3, configuration=quic, create_protocol=Http3)
        if ip_address(address).version == 4:
            await loop.create_datagram_endpoint(lambda at=address: Dns(at), (address, DNS))  # type: ignore[misc]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
