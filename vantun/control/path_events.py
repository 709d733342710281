"""What a QUIC end tells its owner about paths and sessions: rare things, for both roles."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from vantun.control.session_messages import SessionAnswer, SessionRequest
from vantun.errors import ConnectError, VantunError
from vantun.lanes import LaneSpec

if TYPE_CHECKING:
    from vantun.control.visits import Visit


@dataclass(frozen=True)
class SessionIdentity:
    """A session that a path joins, and the single-use token that proves the right to."""

    session: int
    token: bytes = field(repr=False)


class Route(NamedTuple):
    """How datagrams of a path go: by which UDP socket, to which address, and to how many workers of ours."""

    socket: int
    peer: tuple[str, int]
    workers: int = 1


@dataclass(frozen=True)
class PathUp:
    """A path is authenticated and has keys: install ``lane`` before the next packets leave.

    ``tokens`` (client only) let as many further paths join the session. ``slices`` are the lanes of its further slices.
    """

    lane: LaneSpec
    user: str = ""
    tokens: tuple[bytes, ...] = field(default=(), repr=False)
    slices: tuple[LaneSpec, ...] = ()

    @property
    def lanes(self) -> tuple[LaneSpec, ...]:
        """The lanes of all slices."""
        return (self.lane, *self.slices)


@dataclass(frozen=True)
class PathRefused:
    """A path did not come up. ``retry`` = the same again, later, may succeed."""

    path: int
    error: VantunError
    retry: bool = True


@dataclass(frozen=True)
class PathDown:
    """A path that was up has ended; ``at_once`` = the server can be reached, so it need not wait before it returns."""

    session: int
    path: int
    reason: str
    retry: bool = True
    at_once: bool = False


@dataclass(frozen=True)
class SessionEnded:
    """A session has had no path for longer than a client may take to come back, or was closed."""

    session: int


@dataclass(frozen=True)
class MessageReceived:
    """A session message has come: at a server a request, which is new, at a client the answer to one."""

    session: int
    path: int
    number: int
    message: SessionRequest | SessionAnswer


@dataclass(frozen=True)
class VisitorCame:
    """A visitor asks for something whose answer takes I/O."""

    visit: Visit


PathEvent = PathUp | PathRefused | PathDown | SessionEnded | MessageReceived | VisitorCame


class SessionUnknownError(ConnectError):
    """The server does not know the session or the token: begin a new session."""
