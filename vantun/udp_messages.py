"""What control process and worker say to each other about UDP over packet flows; part of worker_messages' table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

NO_PEER = ("", 0)

PROGRAM_IDLE = 60.0
"""Seconds without a datagram after which a source of a forward or of TPROXY is forgotten."""
ASSOCIATION_IDLE = 120.0
"""Seconds without a datagram after which an association ends; RFC 4787, REQ-5, wants two minutes at least."""
SOURCES = 1024
"""Local sources that one listening socket serves at once."""
DESTINATIONS = 4096
"""Destinations that one association remembers."""

FLOW_TARGET = "udp:"
"""OPEN target of a UDP association."""
REVERSE_TARGET = "udp:reverse:"
"""Begins the OPEN target of a source of a reverse forward; its id follows."""


ANY_WORKER = -1
"""In place of the index of a worker: whoever has least to do."""
PORTS = 1 << 16
"""Bytes of the page of :class:`NotePorts`: one for each local port."""


class UdpKind(StrEnum):
    """What stands behind a UDP socket that is handed to the worker."""

    SOCKS5 = "socks5"
    """The relay of one program: datagrams carry the header of RFC 1928, section 7."""
    FORWARD = "forward"
    """Listens; every datagram goes to one target."""
    TPROXY = "tproxy"
    """Listens with IP_TRANSPARENT; every datagram goes where it was sent to."""
    REVERSE = "reverse"
    """Listens at the server; every datagram goes to the client, which knows the target by an id."""


class UdpAction(StrEnum):
    """What a client does with the datagrams for a target."""

    TUNNEL = "tunnel"
    """The server decides about it."""
    DIRECT = "direct"
    """They are sent from this machine, past the tunnel."""
    REJECT = "reject"


# --- control process to worker


@dataclass(frozen=True)
class OpenUdp:
    """Carries a bound UDP socket whose datagrams travel through a session.

    Attributes
    ----------
    number
        Chosen by the control process, for the messages that follow.
    session
        0 = none yet (a listening socket drops and counts what comes until MoveUdp names one).
    target
        FORWARD: ``host:port``. REVERSE: the id. Else empty.
    peer
        SOCKS5: whom the relay serves; port 0 = the first that sends from that host.
    idle
        Seconds: how long a source, or the association of SOCKS5, may be silent.
    sources
        Most local sources at once, for sockets that listen.
    worker
        Which of several it is meant for; of no use to the worker itself.
    """

    number: int
    session: int
    kind: UdpKind
    target: str
    peer: tuple[str, int]
    idle: float
    sources: int
    worker: int = ANY_WORKER


@dataclass(frozen=True)
class MoveUdp:
    """From now on, a socket's new flows belong to another session (0 = none); a listening one's old flows end."""

    number: int
    session: int


@dataclass(frozen=True)
class CloseUdp:
    """Close the socket of OpenUdp, and end its flows; unknown numbers are ignored."""

    number: int


@dataclass(frozen=True)
class AttachUdp:
    """Carries the socket for an association that the peer opened.

    Attributes
    ----------
    peer
        Of a connected socket; NO_PEER = it is not connected, and every new destination is asked for by ResolveUdp.
    idle
        Seconds that the association may be silent.
    """

    handle: int
    peer: tuple[str, int]
    idle: float


@dataclass(frozen=True)
class UdpTarget:
    """Answers ResolveUdp: the address to send to, or the empty host when it is refused."""

    handle: int
    number: int
    host: str
    port: int


@dataclass(frozen=True)
class JudgeUdp:
    """A client's access list is new: what was said about targets is void.

    Attributes
    ----------
    judged
        Whether every target is to be asked for (AskUdp); else everything goes through the tunnel.
    mark
        Firewall mark of the sockets of direct datagrams, 0 = none.
    """

    judged: bool
    mark: int


@dataclass(frozen=True)
class NotePorts:
    """Carries a page that all workers share: for each local port 1 + the worker whose direct socket has it, or 0.

    By it every worker knows a direct datagram of another one that the firewall has led back to TPROXY.
    """

    worker: int


@dataclass(frozen=True)
class UdpVerdict:
    """Answers AskUdp; DIRECT comes with the IP address to send to."""

    number: int
    action: UdpAction
    host: str
    port: int


# --- worker to control process


@dataclass(frozen=True)
class ResolveUdp:
    """A program wants to send to ``host`` (address or name): answer with UdpTarget of the same handle and number."""

    handle: int
    number: int
    host: str
    port: int


@dataclass(frozen=True)
class AskUdp:
    """A program of a client wants to send to ``host`` (address or name): answer with UdpVerdict of the same number."""

    number: int
    host: str
    port: int


@dataclass(frozen=True)
class UdpClosed:
    """The association of a SOCKS5 OpenUdp has ended by itself: idle, session lost, refused by the far end."""

    number: int
    reason: str


UdpCommand = OpenUdp | MoveUdp | CloseUdp | AttachUdp | UdpTarget | JudgeUdp | NotePorts | UdpVerdict
UdpReport = ResolveUdp | AskUdp | UdpClosed
UDP_MESSAGES: dict[str, type[UdpCommand | UdpReport]] = {
    "open udp": OpenUdp,
    "move udp": MoveUdp,
    "close udp": CloseUdp,
    "attach udp": AttachUdp,
    "udp target": UdpTarget,
    "judge udp": JudgeUdp,
    "note ports": NotePorts,
    "udp verdict": UdpVerdict,
    "resolve udp": ResolveUdp,
    "ask udp": AskUdp,
    "udp closed": UdpClosed,
}
