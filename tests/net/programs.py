"""Programs of a user that no command line tool of the tests is: ``python -m tests.net.programs ADDRESS...``."""

from __future__ import annotations

import asyncio
import ssl
import sys

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent
from websockets.asyncio.client import connect as connect_websocket

from tests.net.services import BODY, HTTP3, WEBSOCKET

_MESSAGES = 20
_SECONDS = 20.0


class _Http3(QuicConnectionProtocol):
    """One request, whose answer is in ``body`` when ``done`` is set."""

    def begin(self) -> None:
        """Send the request."""
        self.body, self.done = bytearray(), asyncio.Event()
        self._http = H3Connection(self._quic)
        stream = self._quic.get_next_available_stream_id()
        fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"example"), (b":path", b"/")]
        self._http.send_headers(stream, fields, end_stream=True)
        self.transmit()

    def quic_event_received(self, event: QuicEvent) -> None:
        for found in self._http.handle_event(event) if hasattr(self, "_http") else ():
            if isinstance(found, DataReceived):
                self.body += found.data
                if found.stream_ended:
                    self.done.set()


async def http3(address: str) -> None:
    """Fetch the page by HTTP/3."""
    settings = QuicConfiguration(alpn_protocols=H3_ALPN, is_client=True, verify_mode=ssl.CERT_NONE)
    async with connect(address, HTTP3, configuration=settings, create_protocol=_Http3) as connection:
        assert isinstance(connection, _Http3)
        connection.begin()
        await connection.done.wait()
        assert bytes(connection.body) == BODY, f"{len(connection.body)} B of {len(BODY)} B"


async def websocket(address: str) -> None:
    """Have messages of all sizes echoed."""
    host = f"[{address}]" if ":" in address else address
    async with connect_websocket(f"ws://{host}:{WEBSOCKET}", proxy=None) as connection:
        for number in range(_MESSAGES):
            message = bytes([number]) * (1 + number * 3000)
            await connection.send(message)
            assert await connection.recv() == message


async def main(addresses: list[str]) -> None:
    """Run all programs; AssertionError or TimeoutError when one fails."""
    for address in addresses:
        for program in (http3, websocket):
            async with asyncio.timeout(_SECONDS):
                await program(address)
            sys.stdout.write(f"{program.__name__} {address}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
