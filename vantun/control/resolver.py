"""Names to addresses without stopping the loop, with a bound on lookups and on the time each may take."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

CONCURRENT_LOOKUPS = 32
"""Threads that may wait for a name server at once."""


@dataclass(frozen=True)
class Address:
    """An address that a socket of ``family`` can bind or connect to."""

    family: socket.AddressFamily
    host: str
    """IP address."""
    port: int


Lookup = Callable[[str, int], list[Address]]


def look_up(host: str, port: int) -> list[Address]:
    """Ask the system's resolver, and block. Raises OSError (socket.gaierror)."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(Address(family, str(where[0]), port) for family, _, _, _, where in found))


def literal(host: str, port: int) -> Address | None:
    """Return the address that ``host`` writes out, or None if it is a name."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return None
    return Address(socket.AF_INET6 if version == 6 else socket.AF_INET, host, port)


class Resolver:
    """Looks names up in daemon threads.

    asyncio's own executor is not used: its threads are joined at exit, so one name server that does not answer would
    hold up SIGTERM for as long as the C library cares to retry.

    Attributes
    ----------
    lookup
        What is called there; may be replaced.
    """

    def __init__(self, lookup: Lookup = look_up, concurrent: int = CONCURRENT_LOOKUPS) -> None:
        self.lookup = lookup
        self._free = asyncio.Semaphore(concurrent)

    async def resolve(self, host: str, port: int) -> list[Address]:
        """Return the addresses of ``host``, at least one, best first.

        A caller that gives up (cancellation) does not free the thread: the bound holds for lookups that hang, too.

        Raises
        ------
        OSError
            When there are none (socket.gaierror of the system's resolver).
        """
        known = literal(host, port)
        if known is not None:
            return [known]
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Address]] = loop.create_future()

        def settle(addresses: list[Address], error: OSError | None) -> None:
            self._free.release()
            if answer.done():  # nobody waits any more
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(addresses)

        def run() -> None:
            addresses: list[Address] = []
            error: OSError | None = None
            try:
                addresses = self.lookup(host, port)
                if not addresses:
                    error = socket.gaierror(socket.EAI_NONAME, "it has neither an IPv4 nor an IPv6 address")
            except OSError as failure:
                error = failure
            except UnicodeError:  # a label that IDNA does not allow
                error = socket.gaierror(socket.EAI_NONAME, "it is no host name")
            if not loop.is_closed():
                try:
                    loop.call_soon_threadsafe(settle, addresses, error)
                except RuntimeError:  # the loop was closed between the two lines: nobody waits any more
                    return

        threading.Thread(target=run, name=f"look up {host}", daemon=True).start()
        return await answer
