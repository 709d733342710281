"""What the control process and its data worker say to each other: one CBOR map per message, one table of messages.

They share a ``SOCK_SEQPACKET`` pair, so a message is received whole or not at all; a file descriptor travels beside it
(SCM_RIGHTS). Events of the data plane are messages as they are. Imports neither numba nor asyncio: both ends use it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cbor2

from vantun.dataplane.events import (
    FlowClosed,
    FlowOpened,
    LaneChanged,
    LaneClosed,
    LaneMoved,
    LaneRefused,
    SessionRestarted,
    SessionViolated,
    SocketFailed,
    UnitChanged,
)
from vantun.dataplane.ports import RefusalCode
from vantun.errors import ProtocolError
from vantun.lanes import LaneSpec
from vantun.plain_values import from_plain, to_plain
from vantun.tun_messages import TUN_MESSAGES, TunCommand, TunReport
from vantun.udp_messages import UDP_MESSAGES, UdpCommand, UdpReport

MAX_MESSAGE = 64_000
"""Bytes of a message; Linux gives a socket buffer more than that by default."""
MAX_DATAGRAM = 9_216
"""Bytes of a datagram that travels in Misses: a jumbo frame. Longer ones are dropped; QUIC sends none."""


@dataclass(frozen=True)
class StreamReply:
    """What the worker writes to the TCP socket before the first tunnel byte.

    Attributes
    ----------
    accepted
        Written when the far end has connected to the target.
    refused
        Written when it could not; then the socket is closed (FIN, not RST, so that the reply arrives).
    code_at
        Index in ``refused`` that takes the refusal code; -1 = none.
    by_code
        Instead of ``refused``, one answer per refusal code, by its number as text; ``refused`` is for the others.
    failed
        The code when the session, or the worker's room for flows, ends before there was an answer.
    """

    accepted: bytes = b""
    refused: bytes = b""
    code_at: int = -1
    failed: int = int(RefusalCode.GENERAL)
    by_code: dict[str, bytes] = field(default_factory=dict)

    def refusal(self, code: int) -> bytes:
        """Return the answer to a refusal: that of ``code``, or ``refused`` with ``code`` in its place."""
        known = self.by_code.get(str(code))
        if known is not None:
            return known
        if not 0 <= self.code_at < len(self.refused):
            return self.refused
        return self.refused[: self.code_at] + bytes([code & 0xFF]) + self.refused[self.code_at + 1 :]


# --- control process to worker


@dataclass(frozen=True)
class Configure:
    """The first message: a DataplaneConfig and an AccelConfig as plain values. Answered by Ready or Failed.

    ``incarnation`` counts the workers of an appliance: handles of flows differ from those of the workers before.
    ``services`` is by name of an engine the places of the services that have its devices.
    """

    dataplane: dict[str, object]
    accel: dict[str, object]
    incarnation: int = 0
    services: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class AddSocket:
    """Carries a bound UDP socket: receive everything on it, and send the packets of its lanes."""

    number: int


@dataclass(frozen=True)
class RemoveSocket:
    """Stop using a UDP socket."""

    number: int


@dataclass(frozen=True)
class JoinMesh:
    """Carries the reading end of this worker's inbox, where others put datagrams of its lanes.

    See :mod:`vantun.dataplane.handover`. ``worker`` is its number: byte 0 of the connection ids that are received here.
    """

    worker: int


@dataclass(frozen=True)
class AddPeer:
    """Carries the writing end of another worker's inbox."""

    worker: int


@dataclass(frozen=True)
class AddLane:
    """Begin to speak on a lane. Answered only by LaneRefused, if there is no room."""

    lane: LaneSpec


@dataclass(frozen=True)
class CloseLane:
    """Stop using a path."""

    session: int
    path: int


@dataclass(frozen=True)
class EndSession:
    """Reset every flow of a session and forget it."""

    session: int


@dataclass(frozen=True)
class OpenFlow:
    """Carries a TCP socket whose bytes go to ``target``, behind ``first``."""

    session: int
    target: str
    reply: StreamReply
    first: bytes


@dataclass(frozen=True)
class AttachFlow:
    """Carries the TCP socket that is connected to the target of FlowOpened."""

    handle: int


@dataclass(frozen=True)
class RefuseFlow:
    """The target of FlowOpened cannot be reached."""

    handle: int
    code: RefusalCode


@dataclass(frozen=True)
class UserRate:
    """What is sent to and received from a user, bit/s; 0 = no limit."""

    user: str
    sending: float
    receiving: float


@dataclass(frozen=True)
class LimitUsers:
    """Limit these users from now on; ``more`` rates follow in another message, and count with them."""

    rates: tuple[UserRate, ...]
    more: bool


@dataclass(frozen=True)
class AskSnapshot:
    """Answered by SnapshotTaken with the same number."""

    number: int


@dataclass(frozen=True)
class Retune:
    """Look at the profile of the engines again and serve by it; ``clear`` = test anew those that were wrong.

    ``services`` as in Configure.
    """

    clear: bool = False
    services: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Quarantine:
    """An engine was wrong in another worker, at its side or before it, and nobody has cleared it since."""

    operation: str
    engine: str
    reason: str


@dataclass(frozen=True)
class Ping:
    """Answered by Pong with the same number: the worker's loop turns."""

    number: int


@dataclass(frozen=True)
class Stop:
    """Send what is queued, then exit."""


# --- worker to control process


@dataclass(frozen=True)
class Ready:
    """Kernels are loaded, engines are chosen and tested: commands are served from now on."""

    engines: dict[str, str]
    compiled: str = ""
    """Why kernels were compiled at the start and not ahead of time, and the next step; empty if they were not."""


@dataclass(frozen=True)
class Failed:
    """The worker cannot serve, and exits."""

    reason: str


@dataclass(frozen=True)
class Misses:
    """Datagrams of no lane, in the order they came, as (data, host, port)."""

    number: int
    datagrams: tuple[tuple[bytes, str, int], ...]


@dataclass(frozen=True)
class SnapshotTaken:
    """Carries a memfd that holds the snapshot as CBOR: it has no size limit."""

    number: int


@dataclass(frozen=True)
class Pong:
    """Answers Ping."""

    number: int


Command = (
    Configure
    | AddSocket
    | RemoveSocket
    | JoinMesh
    | AddPeer
    | AddLane
    | CloseLane
    | EndSession
    | OpenFlow
    | AttachFlow
    | RefuseFlow
    | LimitUsers
    | AskSnapshot
    | Ping
    | Retune
    | Quarantine
    | Stop
    | TunCommand
    | UdpCommand
)
Report = (
    Ready
    | Failed
    | Misses
    | SnapshotTaken
    | Pong
    | FlowOpened
    | FlowClosed
    | LaneChanged
    | LaneMoved
    | LaneClosed
    | LaneRefused
    | UnitChanged
    | SessionRestarted
    | SessionViolated
    | SocketFailed
    | TunReport
    | UdpReport
)
Message = Command | Report

MESSAGES: dict[str, type[Message]] = {
    "configure": Configure,
    "add socket": AddSocket,
    "remove socket": RemoveSocket,
    "join mesh": JoinMesh,
    "add peer": AddPeer,
    "add lane": AddLane,
    "close lane": CloseLane,
    "end session": EndSession,
    "open flow": OpenFlow,
    "attach flow": AttachFlow,
    "refuse flow": RefuseFlow,
    "limit users": LimitUsers,
    "ask snapshot": AskSnapshot,
    "ping": Ping,
    "retune": Retune,
    "quarantine": Quarantine,
    "stop": Stop,
    "ready": Ready,
    "failed": Failed,
    "misses": Misses,
    "snapshot taken": SnapshotTaken,
    "pong": Pong,
    "flow opened": FlowOpened,
    "flow closed": FlowClosed,
    "lane changed": LaneChanged,
    "lane moved": LaneMoved,
    "lane closed": LaneClosed,
    "lane refused": LaneRefused,
    "unit changed": UnitChanged,
    "session restarted": SessionRestarted,
    "session violated": SessionViolated,
    "socket failed": SocketFailed,
    **TUN_MESSAGES,
    **UDP_MESSAGES,
}
"""The name of every message on the wire; both ends are of one version, so names and fields may change freely."""
_NAMES = {kind: name for name, kind in MESSAGES.items()}
_NAME_KEY = "is"


def encode(message: Message) -> bytes:
    """Return a message as bytes; raises ValueError when it is too long."""
    fields = to_plain(message)
    assert isinstance(fields, dict)
    data = cbor2.dumps({_NAME_KEY: _NAMES[type(message)], **fields})
    if len(data) > MAX_MESSAGE:
        raise ValueError(f"a {_NAMES[type(message)]!r} message of {len(data)} B is over {MAX_MESSAGE} B; send less")
    return data


def decode(data: bytes) -> Message:
    """Return the message in ``data``; raises ProtocolError when there is none."""
    try:
        plain = cbor2.loads(data)
        if not isinstance(plain, dict):
            raise ValueError("no map")
        kind = MESSAGES.get(plain.pop(_NAME_KEY, ""))
        if kind is None:
            raise ValueError("of an unknown kind")
        return from_plain(kind, plain)
    except (cbor2.CBORDecodeError, ValueError, TypeError, RecursionError) as error:
        raise ProtocolError(
            f"a message of {len(data)} B between control process and worker cannot be read: {error}; "
            "both must be of one version, restart the appliance"
        ) from None
