"""The UDP part of the control process's end of the data worker."""

from __future__ import annotations

import itertools
import socket
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from vantun.udp_messages import (
    ANY_WORKER,
    ASSOCIATION_IDLE,
    NO_PEER,
    PROGRAM_IDLE,
    SOURCES,
    AttachUdp,
    CloseUdp,
    JudgeUdp,
    MoveUdp,
    OpenUdp,
    UdpAction,
    UdpKind,
    UdpTarget,
    UdpVerdict,
)

if TYPE_CHECKING:
    from vantun.worker_messages import Command

_NUMBERS = itertools.count(1)
"""Never used twice in a process, so that what was said to one worker means nothing to the next."""


class UdpLink(ABC):
    """Commands about UDP sockets that programs, targets and listeners stand behind. A part of WorkerLink."""

    @abstractmethod
    def _post(self, message: Command, sock: socket.socket | None = None) -> None:
        """Send a command; ``sock`` travels with it and is closed here."""

    def open_udp(
        self,
        session: int,
        kind: UdpKind,
        sock: socket.socket,
        *,
        target: str = "",
        peer: tuple[str, int] = NO_PEER,
        idle: float | None = None,
        worker: int = ANY_WORKER,
    ) -> int:
        """Carry the datagrams of a bound UDP socket, which is the worker's from now on and closed here.

        Parameters
        ----------
        session
            Whose flows they become; 0 = none until :meth:`move_udp` (sockets that listen only).
        kind
            SOCKS5: the relay of one program, which may send from ``peer`` only (an IP address as the TCP control
            connection shows it; port 0 = the first port that sends). FORWARD: a listening socket whose datagrams go to
            ``target`` (``host:port``, resolved by the server). TPROXY: a listening socket with IP_TRANSPARENT and
            IP_RECVORIGDSTADDR or IPV6_RECVORIGDSTADDR. REVERSE: the server's listening end of the reverse forward whose
            id is ``target``.
        idle
            Seconds of silence after which an association ends or a source is forgotten; None = 120 for SOCKS5, else 60.
        worker
            Which one of several is to serve it.

        Returns
        -------
        int
            The number to name it by. UdpClosed comes when an association (SOCKS5) ends by itself.
        """
        number = next(_NUMBERS)
        if idle is None:
            idle = ASSOCIATION_IDLE if kind == UdpKind.SOCKS5 else PROGRAM_IDLE
        self._post(OpenUdp(number, session, kind, target, peer, float(idle), SOURCES, worker), sock)
        return number

    def move_udp(self, number: int, session: int) -> None:
        """Have a socket open its next flows in another session, 0 = none; a listening one's old flows end."""
        self._post(MoveUdp(number, session))

    def close_udp(self, number: int) -> None:
        """Close the socket of :meth:`open_udp` and end its flows: the TCP connection of the association has ended."""
        self._post(CloseUdp(number))

    def attach_udp(
        self, handle: int, sock: socket.socket, peer: tuple[str, int] = NO_PEER, idle: float = ASSOCIATION_IDLE
    ) -> None:
        """Answer FlowOpened of a ``udp:`` target with a UDP socket, which is the worker's from now on and closed here.

        With ``peer`` the socket is connected to it, and everything goes there. Without, ResolveUdp asks for every new
        destination.
        """
        self._post(AttachUdp(handle, peer, float(idle)), sock)

    def udp_target(self, handle: int, number: int, address: tuple[str, int] | None) -> None:
        """Answer ResolveUdp with the address to send to, or None to refuse."""
        host, port = address or NO_PEER
        self._post(UdpTarget(handle, number, host, port))

    def judge_udp(self, mark: int, *, judged: bool) -> None:
        """Say that the access list is new, and whether targets are to be asked for; ``mark`` is for direct sockets."""
        self._post(JudgeUdp(judged, mark))

    def udp_verdict(self, number: int, action: UdpAction, address: tuple[str, int] = NO_PEER) -> None:
        """Answer AskUdp; DIRECT needs the address to send to."""
        self._post(UdpVerdict(number, action, *address))
