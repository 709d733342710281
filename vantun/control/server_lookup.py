"""Where the server of a path is: its address, of a family that the path has an address of."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vantun.config import ClientConfig, PathConfig, ServerEntry
from vantun.config_kinds import Endpoint
from vantun.control.resolver import Address, Resolver
from vantun.errors import ConnectError

LOOKUP_TIME = 10.0
"""Seconds."""


class UnresolvableError(ConnectError):
    """The server's name has no address.

    Attributes
    ----------
    again
        Whether the name server may know it later.
    """

    def __init__(self, host: str, error: OSError) -> None:
        self.again = isinstance(error, TimeoutError) or error.errno == socket.EAI_AGAIN
        step = "is the name server reachable?" if self.again else "check the spelling in `server`, or write its address"
        super().__init__(f"the server {host!r} cannot be found: {error.strerror or 'no answer'}; {step}")


@dataclass(frozen=True)
class Serving:
    """A path with the server that it goes to at present."""

    config: ClientConfig
    path: PathConfig
    entry: ServerEntry

    @classmethod
    def of(cls, config: ClientConfig, path: PathConfig, entry: ServerEntry) -> Serving:
        """Return ``path`` to ``entry``; an address of its own, if the path has one, is the first server's."""
        if entry.server != config.server:
            path = replace(path, server=entry.server)
        return cls(replace(config, auth=entry.auth, tls=entry.tls), path, entry)


async def find_server(resolver: Resolver, server: Endpoint, sources: Sequence[str]) -> tuple[Address, str]:
    """Return the server's address, and the first of ``sources`` that is of its family (empty, if there are none).

    Raises
    ------
    UnresolvableError
        When it has none, or none of such a family.
    """
    try:
        async with asyncio.timeout(LOOKUP_TIME):
            found = await resolver.resolve(server.host, server.port)
    except OSError as error:
        raise UnresolvableError(server.host, error) from None
    for source in sources or ("",):
        usable = [address for address in found if not source or (":" in source) == (":" in address.host)]
        if usable:
            return usable[0], source
    family = "IPv6" if ":" in sources[0] else "IPv4"
    raise UnresolvableError(server.host, socket.gaierror(socket.EAI_NONAME, f"it has no {family} address"))
