"""What control process and worker say to each other about the TUN device; part of worker_messages' table.

A worker has one TUN device at most. Routes and rules are kept whether there is a device or not, so they may come in
any order. A worker that replaces another is told everything again: the control process keeps a descriptor of the
device, and the interface with its addresses stays.
"""

from __future__ import annotations

from dataclasses import dataclass

FLOW_TARGET = "tun:"
"""OPEN target of a session's TUN flow."""
MAX_PREFIXES = 4096
"""Addresses and prefixes of all sessions together."""
MAX_PACKET_RULES = 1024
BUCKETS = 256
"""Flows are told apart by a hash of addresses and ports in so many buckets (:mod:`drivers.linux.tun_steering`)."""
BUCKET_NUMBERS = 4
"""Counted of a bucket: packets and bytes out, packets and bytes in."""
BUCKET_ROWS = 16
"""Parts of a page of such counters, one for each worker."""


# --- control process to worker


@dataclass(frozen=True)
class AddTun:
    """Carries a TUN device (:meth:`drivers.linux.tun.TunDevice.open`). Takes the place of one that is there.

    Attributes
    ----------
    number
        Chosen by the control process, for TunLost.
    client
        Everything read belongs to the one session that has a TUN flow, and waits in the interface's queue while that
        has no room; else sessions are told apart by their routes, and what finds no room is dropped.
    client_to_client
        Server: whether one session may send to another.
    offloads
        :class:`drivers.linux.tun.TunOffload`: what this kernel takes (``TunDevice.takes``); a peer may send nothing
        else.
    """

    number: int
    client: bool
    client_to_client: bool
    offloads: int


@dataclass(frozen=True)
class SetTunRoutes:
    """Addresses and prefixes (``"10.8.0.2"``, ``"fd00::/64"``) of a session, instead of those it had.

    Server: packets to them go to the session, and packets from it must come from them. Client: its own, which packets
    must come from to be sent; received ones must be for them, and never from them. A client without any is not held
    to that. They go with EndSession.

    Attributes
    ----------
    away
        Worker that has a flow of packets of the session: what is read here while there is none here is handed over to
        it. The session may be one that this worker has nothing else of.
    beside
        Session whose routes this one shares: to this worker, two slices of one session are two sessions.
    """

    session: int
    addresses: tuple[str, ...]
    prefixes: tuple[str, ...]
    away: int = -1
    beside: int = -1


@dataclass(frozen=True)
class CountTun:
    """Carries a page, in which the worker counts what passes of each bucket (:mod:`drivers.linux.tun_steering`).

    Attributes
    ----------
    row
        Its part of the page.
    """

    row: int


@dataclass(frozen=True)
class OpenTun:
    """Client: open the session's TUN flow, instead of the one it has. Answered by TunFlow."""

    session: int


@dataclass(frozen=True)
class AttachTun:
    """Server: answer FlowOpened of ``tun:``. A session's older TUN flow is reset. Answered by TunFlow."""

    handle: int


@dataclass(frozen=True)
class SetPacketRules:
    """Rows of :meth:`vantun.acl.AccessList.packet_rules` as bytes, at most MAX_PACKET_RULES.

    They hold for packets of every session, both ways, by the address and port that are not the session's: what may be
    reached may answer.
    """

    rows: bytes


# --- worker to control process


@dataclass(frozen=True)
class TunFlow:
    """The TUN flow of a session carries packets from now on (``code`` 0), or was refused (a RefusalCode) or has ended.

    Attributes
    ----------
    open
        Whether it carries packets.
    code
        A :class:`vantun.dataplane.ports.RefusalCode` when it was refused, else 0.
    """

    session: int
    open: bool
    code: int


@dataclass(frozen=True)
class TunLost:
    """The device cannot be used (any more): the interface was deleted, or the descriptor is none of a TUN device."""

    number: int
    reason: str


TunCommand = AddTun | SetTunRoutes | CountTun | OpenTun | AttachTun | SetPacketRules
TunReport = TunFlow | TunLost

TUN_MESSAGES: dict[str, type[TunCommand | TunReport]] = {
    "add tun": AddTun,
    "set tun routes": SetTunRoutes,
    "count tun": CountTun,
    "open tun": OpenTun,
    "attach tun": AttachTun,
    "set packet rules": SetPacketRules,
    "tun flow": TunFlow,
    "tun lost": TunLost,
}
