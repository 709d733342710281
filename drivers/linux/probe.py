"""What this kernel grants, found by use: what can be switched on may still not work (sandboxes, old kernels)."""

from __future__ import annotations

import platform
import select
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from drivers.arena import Arena, row_stride
from drivers.batch import ECT0, packet_batch
from drivers.errors import Capability, DriverError, Unavailable
from drivers.linux.address_table import AddressTable
from drivers.linux.libc import MessageCalls
from drivers.linux.udp import UdpOptions, UdpSocket

_PACKETS = 3
_LENGTH = 1200
_PATIENCE_MS = 1000


@dataclass(frozen=True)
class UdpProbe:
    """What :func:`probe_udp` found.

    Attributes
    ----------
    batches
        ``sendmmsg`` and ``recvmmsg``.
    gso
        One message for many packets when sending (UDP_SEGMENT).
    gro
        One message for many packets when receiving (UDP_GRO).
    ecn
        Congestion marks, set for each message and told of each that arrives.
    """

    batches: Capability | Unavailable
    gso: Capability | Unavailable
    gro: Capability | Unavailable
    ecn: Capability | Unavailable


def probe_udp(calls: MessageCalls | None = None) -> UdpProbe:
    """Send three packets to this machine over loopback, with and without offload, and see how they travelled.

    Changes nothing, needs no privilege, and takes about a millisecond once the kernels are compiled.

    Parameters
    ----------
    calls
        Stands before the kernel's message calls; None = the C library.
    """
    kernel = platform.release()

    def batches(sender: UdpSocket, receiver: UdpSocket) -> Capability | Unavailable:
        missing = {**receiver.counters.fallbacks, **sender.counters.fallbacks}
        if "sendmmsg" in missing or "recvmmsg" in missing:
            step = (
                "allow sendmmsg and recvmmsg in the sandbox's seccomp profile; one call per message is used meanwhile"
            )
            return Unavailable(f"the batched socket calls are refused: {missing}", step)
        return Capability("batched UDP", {"calls": sender.counters.send.calls, "kernel": kernel})

    def gso(sender: UdpSocket, receiver: UdpSocket) -> Capability | Unavailable:
        if sender.counters.gso_messages:
            return Capability("UDP segmentation offload", {"kernel": kernel})
        reason = f"Linux {kernel} does not segment UDP: {sender.counters.fallbacks.get('gso', 'not used')}"
        return Unavailable(reason, "use Linux 4.18 or newer, outside of a sandbox; packets leave one by one meanwhile")

    def gro(sender: UdpSocket, receiver: UdpSocket) -> Capability | Unavailable:
        if receiver.counters.gro_messages:
            return Capability("UDP receive offload", {"kernel": kernel})
        reason = (
            f"Linux {kernel} does not merge UDP: {receiver.counters.fallbacks.get('gro', 'packets came one by one')}"
        )
        return Unavailable(reason, "use Linux 5.0 or newer, outside of a sandbox; packets arrive one by one meanwhile")

    def ecn(sender: UdpSocket, receiver: UdpSocket) -> Capability | Unavailable:
        if sender.marks and receiver.reads_ecn and receiver.receive_batch().ecn[0] == ECT0:
            return Capability("ECN", {"kernel": kernel})
        missing = {**receiver.counters.fallbacks, **sender.counters.fallbacks}.get("ecn", "marks did not arrive")
        reason = f"Linux {kernel} does not carry congestion marks over loopback: {missing}"
        return Unavailable(
            reason, "look for a firewall rule that sets TOS or DSCP; paths are used without marks meanwhile"
        )

    plain = UdpOptions(gso=False, gro=False, calls=calls)
    offload = UdpOptions(calls=calls)
    return UdpProbe(batches=_try(plain, batches), gso=_try(offload, gso), gro=_try(offload, gro), ecn=_try(plain, ecn))


def _try(
    options: UdpOptions, verdict: Callable[[UdpSocket, UdpSocket], Capability | Unavailable]
) -> Capability | Unavailable:
    sockets: list[UdpSocket] = []
    try:
        sockets.extend(UdpSocket.bind("127.0.0.1", 0, options=options) for _ in range(2))
        sender, receiver = sockets
        if not _travels(sender, receiver):
            step = "allow UDP on the loopback interface (ip link set lo up; check the firewall)"
            return Unavailable("packets sent over loopback did not arrive, or arrived changed", step)
        return verdict(sender, receiver)
    except DriverError as error:
        return Unavailable(f"UDP on 127.0.0.1 does not work: {error}", "ip link set lo up; check the sandbox")
    finally:
        for each in sockets:
            each.close()


def _travels(sender: UdpSocket, receiver: UdpSocket) -> bool:
    table = AddressTable(1)
    with Arena(_PACKETS, row_stride(_LENGTH)) as arena:
        batch = packet_batch(arena.memory, _PACKETS, table.rows)
        batch.offset[:] = arena.stride * np.arange(_PACKETS)
        batch.length[:] = _LENGTH
        batch.peer[:] = table.row(*receiver.socket.getsockname()[:2])
        batch.ecn[:] = ECT0
        for index in range(_PACKETS):
            arena.row(index)[:] = index + 1
        if sender.send(batch, 0, _PACKETS) != _PACKETS:
            return False
        waiting = select.poll()
        waiting.register(receiver.fileno(), select.POLLIN)
        seen: list[int] = []
        received = receiver.receive_batch()
        while len(seen) < _PACKETS and waiting.poll(_PATIENCE_MS):
            for index in range(receiver.receive(received)):
                start, length = int(received.offset[index]), int(received.length[index])
                values = set(received.memory[start : start + length].tolist())
                seen.append(values.pop() if length == _LENGTH and len(values) == 1 else 0)
        return seen == [1, 2, 3]
