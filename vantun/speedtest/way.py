"""The way of a speed test to the server: flows and an association through the client's SOCKS5 proxy."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

from vantun.errors import ConnectError, NotRunningError, VantunError
from vantun.socks5_client import Address, RefusedError, associate, connect_through
from vantun.speedtest.messages import HOST, PORT, TOKEN, Request

PATIENCE = 10.0
"""Seconds without anything, after which the server is taken for dead."""
T = TypeVar("T")

_REASONS = {
    1: "the server does not take another one now: too many are under way, or it is about to end",
    2: "it is not offered: `speedTest: false` in the server's file, or a rule of this client rejects it",
    3: "no path to the server is up; `vantun status` tells why",
    4: "the server knows no speed test, it is too old; or a `direct` rule of this client keeps it from the tunnel",
    6: "the server does not answer",
}
"""By reply code of SOCKS5 (RFC 1928, section 6)."""


@dataclass(frozen=True)
class Way:
    """Opens flows; all calls block, and raise VantunError with what can be done."""

    proxy: Address
    login: tuple[str, str] | None = None

    def open(self, request: Request) -> socket.socket:
        """Return a flow, not blocking any more, on which the request was sent."""
        sock = self._through(lambda: connect_through(self.proxy, (HOST, PORT), self.login, PATIENCE))
        try:
            sock.sendall(request.encode())
            sock.settimeout(0)
        except OSError as error:
            sock.close()
            raise broken(error) from None
        return sock

    def open_all(self, requests: Iterable[Request], stack: ExitStack) -> list[socket.socket]:
        """Return a flow for each request; the stack closes them."""
        return [stack.enter_context(self.open(request)) for request in requests]

    def associate(self, stack: ExitStack) -> socket.socket:
        """Return a UDP socket that is connected to a relay of the proxy; the stack closes it."""
        control, relay = self._through(lambda: associate(self.proxy, self.login, PATIENCE))
        stack.enter_context(control)
        sock = stack.enter_context(
            socket.socket(socket.AF_INET6 if ":" in relay[0] else socket.AF_INET, socket.SOCK_DGRAM)
        )
        sock.settimeout(0)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, 1 << 20)
        sock.connect(relay)
        return sock

    def _through(self, ask: Callable[[], T]) -> T:
        where = f"{self.proxy[0]}:{self.proxy[1]}"
        try:
            return ask()
        except RefusedError as error:
            if error.code in _REASONS:
                raise VantunError(f"no speed test: {_REASONS[error.code]}") from None
            raise
        except TimeoutError:
            raise ConnectError(f"no speed test: the client at {where} has not answered within {PATIENCE:g} s") from None
        except ConnectionRefusedError:
            raise NotRunningError(
                f"no client listens on {where}; start one (`vantun client -c FILE`), or name its proxy with --proxy"
            ) from None
        except OSError as error:
            raise ConnectError(f"the client at {where} cannot be used: {error.strerror or error}") from None


def broken(error: OSError) -> ConnectError:
    """Return what to say about a flow that has ended in the middle."""
    reason = error.strerror or str(error) or "no answer in time"
    return ConnectError(f"the measurement broke in the middle ({reason}): the server, its client or the path ended")


async def read_token(sock: socket.socket) -> bytes:
    """Return the token that a measurement of datagrams begins with. Raises VantunError."""
    loop = asyncio.get_running_loop()
    token = b""
    async with asyncio.timeout(PATIENCE):
        while len(token) < TOKEN:
            part = await loop.sock_recv(sock, TOKEN - len(token))
            if not part:
                raise VantunError("no speed test: the server measures datagrams for others now; try again in a minute")
            token += part
    return token


async def together(works: Iterable[Coroutine[None, None, None]], seconds: float) -> None:
    """Run works for ``seconds``, then cancel them; those that end before are fine, one that fails ends all.

    Raises
    ------
    VantunError
        With the first failure.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    except OSError as error:
        raise broken(error) from None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
