"""What workers were told for good, apart from sockets and lanes; one that takes another's place is told it, too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vantun.tun_messages import OpenTun, SetPacketRules, SetTunRoutes
from vantun.udp_messages import JudgeUdp

if TYPE_CHECKING:
    from vantun.worker_messages import Command


class CrewMemory:
    """The last word about each thing."""

    def __init__(self) -> None:
        self._rules: SetPacketRules | None = None
        self._judge: JudgeUdp | None = None
        self.routes: dict[int, SetTunRoutes] = {}
        self.opened: set[int] = set()
        """Sessions whose flows of packets this end has opened."""

    def note(self, message: Command) -> None:
        """Remember a command about everybody, or about a session."""
        match message:
            case SetPacketRules():
                self._rules = message
            case JudgeUdp():
                self._judge = message
            case SetTunRoutes(session):
                self.routes[session] = message
            case OpenTun(session):
                self.opened.add(session)

    def forget(self, session: int) -> None:
        """Forget what was said about a session."""
        self.routes.pop(session, None)
        self.opened.discard(session)

    def recall(self) -> Iterator[Command]:
        """Yield what concerns every worker."""
        yield from (each for each in (self._rules, self._judge) if each is not None)
