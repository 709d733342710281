"""The client's side of reverse forwards: asks the server to listen, and connects what arrives there to its own targets.

The server names a listener by its number only; where that leads is this client's configuration.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from vantun.acl import AccessList, Guard
from vantun.config_forwards import ReverseConfig
from vantun.control.connector import Connector
from vantun.control.path_events import SessionUnknownError
from vantun.control.resolver import Resolver
from vantun.control.session_messages import ListenAnswer, ListenCode, ListenRequest, SessionAnswer, Transport
from vantun.control.udp_ends import attach_reverse
from vantun.dataplane.ports import RefusalCode
from vantun.udp_messages import REVERSE_TARGET

if TYPE_CHECKING:
    from vantun.control.crew import Crew

log = logging.getLogger(__name__)

REVERSE = "reverse:"
"""Begins the target of a flow that the server opens for a listener; its number follows."""
TRY_AGAIN = 30.0
"""Seconds until a listener that the server's machine refused is asked for again."""

Ask = Callable[[int, ListenRequest], Awaitable[SessionAnswer]]


class ReverseForwards:
    """The configured reverse forwards of a client."""

    def __init__(self, config: tuple[ReverseConfig, ...], resolver: Resolver) -> None:
        self._config = config
        self._resolver = resolver
        self._states = ["waiting for a session"] * len(config)
        self._connector: Connector | None = None
        self._asking: list[asyncio.Task[None]] = []
        self._link: Crew | None = None
        self._attaching: set[asyncio.Task[None]] = set()

    def begin(self, link: Crew) -> None:
        """Connect flows by a new worker."""
        # What the user has configured himself needs no other permission.
        access = AccessList(guard=Guard.NONE)
        self._link = link
        self._connector = Connector(self._resolver, link.attach_flow, link.refuse_flow, access)

    def register(self, session: int, ask: Ask) -> None:
        """Ask the server of a new session to listen."""
        self.withdraw()
        self._asking = [
            asyncio.create_task(self._register(number, item, session, ask)) for number, item in enumerate(self._config)
        ]

    def withdraw(self) -> None:
        """Stop asking: the session is lost, and its listeners with it."""
        for task in self._asking:
            task.cancel()
        self._asking = []
        self._states = ["waiting for a session"] * len(self._config)

    async def _register(self, number: int, item: ReverseConfig, session: int, ask: Ask) -> None:
        request = ListenRequest(number, Transport(item.protocol), item.listen.host, item.listen.port)
        told = ""
        while True:
            try:
                answer = await ask(session, request)
            except SessionUnknownError:
                return
            if not isinstance(answer, ListenAnswer):
                self._states[number] = "the server's answer makes no sense"
                return
            if answer.code is ListenCode.LISTENING:
                self._states[number] = f"listening on port {answer.port}"
                log.info("reverse: the server listens on %s port %d for %s", item.protocol, answer.port, item.target)
                return
            self._states[number] = answer.reason
            level = logging.DEBUG if answer.reason == told else logging.WARNING
            log.log(level, "reverse: the server does not listen on %s: %s", item.listen, answer.reason)
            told = answer.reason
            if answer.code is ListenCode.NOT_ALLOWED:
                return
            await asyncio.sleep(TRY_AGAIN)

    def open(self, handle: int, target: str) -> bool:
        """Connect a flow that the server has opened; return whether it is for a reverse forward of TCP."""
        item = self._of(target, REVERSE, "tcp")
        if item is None or self._connector is None:
            return False
        self._connector.open(handle, str(item.target))
        return True

    def open_udp(self, handle: int, target: str) -> bool:
        """As :meth:`open`, for UDP."""
        item = self._of(target, REVERSE_TARGET, "udp")
        link = self._link
        if item is None or link is None:
            return False

        async def attach() -> None:
            code = await attach_reverse(link, self._resolver, handle, item.target)
            if code is not None:
                link.refuse_flow(handle, code)

        task = asyncio.create_task(attach())
        self._attaching.add(task)
        task.add_done_callback(self._attaching.discard)
        return True

    def _of(self, target: str, prefix: str, protocol: str) -> ReverseConfig | None:
        text = target.removeprefix(prefix)
        if text == target or not re.fullmatch("[0-9]{1,9}", text) or int(text) >= len(self._config):
            return None
        item = self._config[int(text)]
        return item if item.protocol == protocol else None

    def cancel(self, handle: int) -> None:
        """Give up a flow that has ended."""
        if self._connector is not None:
            self._connector.cancel(handle)

    def status(self) -> list[dict[str, object]]:
        """Return each forward and what became of it."""
        return [
            {"listen": str(item.listen), "protocol": item.protocol, "target": str(item.target), "state": state}
            for item, state in zip(self._config, self._states, strict=True)
        ]

    async def close(self) -> None:
        """Give up everything."""
        tasks = [*self._asking, *self._attaching]
        for task in self._attaching:
            task.cancel()
        self.withdraw()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._connector is not None:
            await self._connector.close()
            self._connector = None


def refuse_unknown(link: Crew, handle: int, target: str) -> None:
    """Refuse a flow that the server has opened for nothing that is configured here."""
    log.info("a flow to %.60r, which the server opened, is refused", target)
    link.refuse_flow(handle, RefusalCode.NOT_ALLOWED)
