"""What the control process tells a worker about a lane: the seam between key exchange and data plane."""

from __future__ import annotations

from dataclasses import dataclass, field

from accel.engine import Suite

CID_LENGTH = 8
"""Bytes of a data-plane connection id; byte 0 encodes the worker."""


@dataclass(frozen=True)
class LaneSpec:
    """A lane = (path, worker): everything a worker needs to speak on it.

    ``path`` is never reused inside a session. ``send_secret`` and ``receive_secret`` are traffic secrets from which
    key, IV and header-protection key follow as in RFC 9001, section 5.1. ``socket`` names a UDP socket that was
    handed to the worker before; ``peer`` is the address to send to.
    """

    session: int
    path: int
    socket: int
    peer: tuple[str, int]
    receive_cid: bytes
    send_cid: bytes
    suite: Suite
    send_secret: bytes = field(repr=False)
    receive_secret: bytes = field(repr=False)
    client: bool
    name: str = ""
    user: str = ""
    rate: float = 0.0
    """Configured send rate in bit/s for ``brutal``; 0 = measured (``bbr``)."""
    cap: float = 0.0
    """The most that ``bbr`` may send, bit/s; 0 = no limit."""
    mtu: int = 1200
    """UDP payload bytes of a full packet on this path, to begin with."""
    max_mtu: int = 0
    """The largest that the search for the path's MTU may reach; 0 = it stays at ``mtu``."""
    rtt: float = 0.0
    """Round-trip time that the handshake has seen, seconds; 0 = none."""
    floor: int = -1
    """Place in the page of packet-number floors; -1 = the lane ends with its worker."""
    session_floor: int = -1
    """Place of its session there."""
    share: tuple[int, int] = (-1, 0)
    """Place of its path in the page of shared rates, and line of its slice there: ``rate`` and ``cap`` are then only
    what it begins with, and ``slices`` times as much is the path's. Place -1 = they are the lane's own."""
    slices: int = 1
    """How many slices its session has."""
    backup: bool = False
    """Whether it carries data only while no other lane of the session does; probes and RECEIPTs always."""
    slice: int = 0
    """Which slice of its session the lane belongs to; of no meaning to a worker (docs/architecture.md, "Slices")."""
