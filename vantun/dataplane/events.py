"""What the data plane tells its owner: rare things only, never per packet."""

from __future__ import annotations

from dataclasses import dataclass

from vantun.tun_messages import TunReport
from vantun.udp_messages import UdpReport


@dataclass(frozen=True)
class FlowOpened:
    """The peer opened a flow to ``target`` (``host:port``); answer with ``attach_flow`` or ``refuse_flow``."""

    handle: int
    session: int
    target: str


@dataclass(frozen=True)
class FlowClosed:
    """A flow has ended, and its port was closed; pending work for ``handle`` is in vain."""

    handle: int
    session: int


@dataclass(frozen=True)
class LaneChanged:
    """A lane changed its state: validating, active, suspect, dead."""

    session: int
    path: int
    state: str
    before: str


@dataclass(frozen=True)
class LaneMoved:
    """The peer of a lane has another address, and has proved it."""

    session: int
    path: int
    peer: tuple[str, int]


@dataclass(frozen=True)
class UnitChanged:
    """The largest shard of a session has another size: ``unit`` bytes fit every path that counts."""

    session: int
    unit: int


@dataclass(frozen=True)
class LaneClosed:
    """The peer closed a lane with an error code."""

    session: int
    path: int
    code: int


@dataclass(frozen=True)
class SessionViolated:
    """The peer broke the protocol; end the session."""

    session: int
    reason: str


@dataclass(frozen=True)
class SocketFailed:
    """Packets cannot leave by a UDP socket: its route, interface or address is gone. Told once a second at most."""

    number: int
    reason: str


@dataclass(frozen=True)
class SessionRestarted:
    """A session goes on in another epoch: its worker died, ``here`` or at the peer; every flow of before has ended."""

    session: int
    epoch: int
    here: bool


@dataclass(frozen=True)
class LaneRefused:
    """A lane that was to be added has no place in the worker: tables full, or a contradictory LaneSpec."""

    session: int
    path: int
    reason: str


Event = (
    FlowOpened
    | FlowClosed
    | LaneChanged
    | LaneMoved
    | LaneClosed
    | LaneRefused
    | SessionRestarted
    | SessionViolated
    | SocketFailed
    | UnitChanged
    | TunReport
    | UdpReport
)
