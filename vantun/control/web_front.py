"""The web site of a server, put together: visitors by HTTP/3 and on TCP, and the threads that check credentials."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from vantun.config import ServerConfig
from vantun.control.authentication import removed_users
from vantun.control.gate import Pool
from vantun.control.resolver import Resolver
from vantun.control.server_paths import ServerPaths
from vantun.control.visits import Visit, Visitors

if TYPE_CHECKING:
    from vantun.control.tcp_site import TcpSite

log = logging.getLogger(__name__)


class WebFront:
    """What of a server needs an event loop to meet strangers.

    Parameters
    ----------
    wake
        Called after a visitor's connection has something to send.
    """

    def __init__(self, paths: ServerPaths, wake: Callable[[], None]) -> None:
        self._paths = paths
        self._visitors = Visitors(paths.front.origin, wake)
        self._verifier = Pool(wake)
        self._tcp: TcpSite | None = None
        paths.front.gate.verifier = self._verifier
        self._warn()

    async def start(self, config: ServerConfig, resolver: Resolver) -> None:
        """Listen on TCP, if the configuration says so. Raises ResourceError."""
        if config.masquerade.listen_https is not None or config.masquerade.listen_http is not None:
            from vantun.control.tcp_site import TcpSite  # and h11: half a megabyte

            self._tcp = await TcpSite.start(config, self._visitors, resolver)

    async def close(self) -> None:
        """Turn everybody away."""
        if self._tcp is not None:
            await self._tcp.close()
        await self._visitors.close()
        self._verifier.close()

    def serve(self, visit: Visit) -> None:
        """Answer a visitor by HTTP/3."""
        self._visitors.serve(visit)

    async def reload(self, config: ServerConfig, before: ServerConfig) -> dict[str, str]:
        """Use users, certificate and site of ``config``; return the users, and why, who may not stay.

        Raises
        ------
        ResourceError
            When it cannot be used; then nothing has changed.
        """
        leaving = await asyncio.to_thread(removed_users, config.auth, before.auth)
        reload_tcp = self._tcp.prepare(config) if self._tcp is not None else None
        self._paths.reload(config)
        if reload_tcp is not None:
            reload_tcp()
        if self._paths.front.origin is not self._visitors.origin:
            self._visitors.replace(self._paths.front.origin)
        self._warn()
        return leaving

    def _warn(self) -> None:
        if self._paths.front.gate.authenticator.tells_by_time:
            log.warning(
                "auth.userpass: who tries passwords can tell users apart by the time it takes, because hashes are of "
                "different cost; make all of them with the same `vantun user hash`"
            )

    def report(self) -> dict[str, object]:
        """Return sections of the status: ``admission``, and ``web`` when the site is served on TCP."""
        admission = {**self._paths.admission.report(), "credentials": dict(self._paths.front.gate.counts)}
        web = {} if self._tcp is None else {"web": {**self._tcp.report(), "answering": self._visitors.busy}}
        return {"admission": admission, **web}
