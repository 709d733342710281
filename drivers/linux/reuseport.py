"""Several UDP sockets on one address and port, and a program that says which of them gets a datagram.

Every worker of an appliance has a socket of its own; byte 0 of a connection id names the worker (docs/protocol.md). The
program is classic BPF (SO_ATTACH_REUSEPORT_CBPF, Linux 4.5), which needs no privilege. It sees the UDP payload.
Without a program the kernel goes by a hash of both addresses and ports: whoever sends from one port stays with one
socket, as long as no socket of the group is closed for good.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from drivers.errors import SystemCallError

SO_REUSEPORT = 15
SO_ATTACH_REUSEPORT_CBPF = 51
"""asm-generic/socket.h."""

_LOAD_BYTE, _AND, _JEQ, _JGE, _RETURN, _RETURN_A = 0x30, 0x54, 0x15, 0x35, 0x06, 0x16
"""linux/bpf_common.h: BPF_LD|BPF_B|BPF_ABS, BPF_ALU|BPF_AND|BPF_K, BPF_JMP|BPF_JEQ|BPF_K, BPF_JMP|BPF_JGE|BPF_K,
BPF_RET|BPF_K, BPF_RET|BPF_A."""


@dataclass(frozen=True)
class Group:
    """Sockets on one address and port.

    Attributes
    ----------
    sockets
        In the order of their places.
    steered
        Whether the program is in force; without it the kernel spreads datagrams by their addresses.
    reason
        Why not.
    """

    sockets: list[socket.socket]
    steered: bool
    reason: str


def program(count: int) -> bytes:
    """Return the program for ``count`` sockets, as an array of ``struct sock_filter``.

    A short header (bit 0x80 clear, 0x40 set) whose connection id begins with a number below ``count`` goes to that
    socket; everything else, and what is too short to tell, to the first.
    """
    steps = (
        (_LOAD_BYTE, 0, 0, 0),
        (_AND, 0, 0, 0xC0),
        (_JEQ, 0, 3, 0x40),
        (_LOAD_BYTE, 0, 0, 1),
        (_JGE, 1, 0, count),
        (_RETURN_A, 0, 0, 0),
        (_RETURN, 0, 0, 0),
    )
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def steer(sock: socket.socket, count: int) -> str:
    """Attach the program to the group of ``sock``; return why the kernel refuses, empty if it does not."""
    code = program(count)
    held = ctypes.create_string_buffer(code, len(code))
    try:
        sock.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, struct.pack("@HP", len(code) // 8, ctypes.addressof(held))
        )
    except OSError as error:
        return f"the kernel does not take the steering program: {error.strerror}"
    return ""


def bind_group(count: int, bind: Callable[[int, bool], socket.socket]) -> Group:
    """Bind ``count`` sockets to one address and port, and have the program choose among them; see :func:`bind_shared`.

    Raises
    ------
    SystemCallError
        When the address cannot be bound, or not several times. No socket is left open then.
    """
    sockets = bind_shared(count, bind)
    reason = steer(sockets[0], count) if count > 1 else ""
    return Group(sockets, not reason, reason)


def bind_shared(count: int, bind: Callable[[int, bool], socket.socket]) -> list[socket.socket]:
    """Bind ``count`` sockets to one address and port; the kernel's hash says which of them gets a datagram.

    Parameters
    ----------
    bind
        Binds a socket to a port (0 = the one that is wanted), with SO_REUSEPORT or without; what it raises comes
        through.

    Raises
    ------
    SystemCallError
        When the port cannot be shared. No socket is left open then.
    """
    sockets: list[socket.socket] = []
    try:
        # the first without the option: whoever has the port already, ourselves included, is found
        sockets.append(bind(0, False))  # noqa: FBT003 - a Callable has no names
        if count == 1:
            return sockets
        try:
            sockets[0].setsockopt(socket.SOL_SOCKET, SO_REUSEPORT, 1)
        except OSError as error:
            step = "use one worker (workers.count: 1)"
            raise SystemCallError("sharing a UDP port among workers", error.errno or 0, step) from None
        port = int(sockets[0].getsockname()[1])
        while len(sockets) < count:
            sockets.append(bind(port, True))  # noqa: FBT003 - as above
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def probe_sharing() -> str:
    """Return why several sockets cannot share a port here; empty if they can."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setsockopt(socket.SOL_SOCKET, SO_REUSEPORT, 1)
    except OSError as error:
        return f"the kernel has no SO_REUSEPORT: {error.strerror}"
    return ""


def probe_steering() -> str:
    """Return why this kernel does not steer datagrams to the sockets of a group; empty if it does."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setsockopt(socket.SOL_SOCKET, SO_REUSEPORT, 1)
            return steer(sock, 2)
    except OSError as error:
        return f"the kernel has no SO_REUSEPORT: {error.strerror}"
