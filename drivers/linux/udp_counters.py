"""What a UDP socket has done, per call and never per packet; read when somebody asks."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Direction:
    """One direction of a socket.

    Attributes
    ----------
    calls
        System calls that moved something.
    messages
        Messages moved: with segmentation offload, many packets are one message.
    packets, size
        Packets, and their bytes.
    """

    calls: int = 0
    messages: int = 0
    packets: int = 0
    size: int = 0


@dataclass
class UdpCounters:
    """Counters of one socket.

    Attributes
    ----------
    receive, send
        Each direction.
    gro_messages, gso_messages
        Messages received, and sent, that held more than one packet.
    would_block, no_buffer
        Sends that ended with EAGAIN (socket buffer full), and with ENOBUFS (device queue full).
    interrupted
        Calls that a signal ended (EINTR).
    icmp_errors
        Errors of earlier packets that ICMP brought back (ECONNREFUSED and its like); the packet at hand was not hurt.
    too_big
        Packets the kernel refused for their length (EMSGSIZE).
    truncated, overflow
        Messages cut by the kernel and packets beyond the batch, both dropped; neither is expected.
    dropped
        Packets that could not leave, by errno name: no route, forbidden by a firewall ...
    fallbacks
        ``{name: {reason: times}}`` of every slower way that was taken.
    """

    receive: Direction = field(default_factory=Direction)
    send: Direction = field(default_factory=Direction)
    gro_messages: int = 0
    gso_messages: int = 0
    would_block: int = 0
    no_buffer: int = 0
    interrupted: int = 0
    icmp_errors: int = 0
    too_big: int = 0
    truncated: int = 0
    overflow: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    fallbacks: dict[str, dict[str, int]] = field(default_factory=dict)

    def drop(self, reason: str, packets: int) -> None:
        """Count packets that could not leave."""
        self.dropped[reason] = self.dropped.get(reason, 0) + packets

    def fall_back(self, name: str, reason: str) -> None:
        """Count one decision to go a slower way."""
        reasons = self.fallbacks.setdefault(name, {})
        reasons[reason] = reasons.get(reason, 0) + 1

    @property
    def lost(self) -> int:
        """Packets that were taken by ``send`` and did not leave."""
        return self.too_big + sum(self.dropped.values())
