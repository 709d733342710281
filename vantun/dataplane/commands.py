"""What a worker does for each command of the control process."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence

import cbor2

from drivers.errors import DriverError
from vantun.dataplane.control_socket import ControlSocket
from vantun.dataplane.events import LaneRefused
from vantun.dataplane.flow_ports import FlowPorts
from vantun.dataplane.pipeline import Dataplane
from vantun.dataplane.ports import RefusalCode
from vantun.dataplane.tun_port import TunPorts
from vantun.dataplane.udp_ports import UdpPorts
from vantun.dataplane.worker_sockets import WorkerSockets
from vantun.errors import ProtocolError, ResourceError
from vantun.tun_messages import TunCommand
from vantun.udp_messages import AttachUdp, CloseUdp, JudgeUdp, MoveUdp, NotePorts, OpenUdp, UdpTarget, UdpVerdict
from vantun.worker_messages import (
    AddLane,
    AddPeer,
    AddSocket,
    AskSnapshot,
    AttachFlow,
    CloseLane,
    EndSession,
    JoinMesh,
    LimitUsers,
    Message,
    OpenFlow,
    Ping,
    Pong,
    Quarantine,
    RefuseFlow,
    RemoveSocket,
    Retune,
    SnapshotTaken,
    Stop,
)

_NETWORK = (socket.AF_INET, socket.AF_INET6)
_MESH = (socket.AF_UNIX,)


class Commands:
    """Serves commands.

    Attributes
    ----------
    stopping
        Whether the worker was asked to end.
    retune
        Serves by another profile of the engines.
    """

    def __init__(
        self,
        plane: Dataplane,
        ports: FlowPorts,
        sockets: WorkerSockets,
        tun: TunPorts,
        udp: UdpPorts,
        clock: Callable[[], float],
    ) -> None:
        self.stopping = False
        self.retune: Callable[[bool, Mapping[str, Sequence[str]]], None] = lambda _clear, _services: None
        self._plane = plane
        self._ports = ports
        self._udp = udp
        self._sockets = sockets
        self._tun = tun
        self._clock = clock
        self._rates: dict[str, tuple[float, float]] = {}

    def serve(
        self, message: Message, descriptors: list[int], control: ControlSocket, snapshot: Callable[[], object]
    ) -> None:
        """Do what ``message`` asks; raises ProtocolError when it is no command, or lacks its descriptor."""
        now = self._clock()
        if isinstance(message, TunCommand):
            self._tun.serve(message, descriptors)
            return
        match message:
            case AddSocket(number):
                self._sockets.add(number, _take(descriptors, socket.SOCK_DGRAM))
            case RemoveSocket(number):
                self._sockets.remove(number)
            case JoinMesh(worker):
                self._sockets.handover.join(worker, _take(descriptors, socket.SOCK_DGRAM, _MESH))
            case AddPeer(worker):
                self._sockets.handover.connect(worker, _take(descriptors, socket.SOCK_DGRAM, _MESH))
            case AddLane(lane):
                try:
                    self._plane.add_lane(lane, now)
                except (ResourceError, ValueError, DriverError) as error:
                    control.post(LaneRefused(lane.session, lane.path, str(error)))
            case CloseLane(session, path):
                self._plane.close_lane(session, path, now)
            case EndSession(session):
                self._plane.end_session(session, now)
                self._tun.end_session(session)
            case OpenFlow(session, target, reply, first):
                self._ports.open(session, target, _take(descriptors, socket.SOCK_STREAM), reply, first)
            case AttachFlow(handle):
                if descriptors:
                    self._ports.attach(handle, _take(descriptors, socket.SOCK_STREAM))
                else:  # the limit on open files: the kernel has closed it on the way
                    self._plane.refuse_flow(handle, RefusalCode.GENERAL, now)
            case RefuseFlow(handle, code):
                self._plane.refuse_flow(handle, code, now)
            case OpenUdp() | AttachUdp():
                self._udp.serve(message, _take(descriptors, socket.SOCK_DGRAM) if descriptors else None)
            case MoveUdp() | CloseUdp() | UdpTarget() | JudgeUdp() | UdpVerdict():
                self._udp.serve(message, None)
            case NotePorts(worker):
                self._udp.judge.ports.share(worker, descriptors)
            case LimitUsers(rates, more):
                self._rates.update({rate.user: (rate.sending, rate.receiving) for rate in rates})
                if not more:
                    self._plane.limit_users(self._rates, now)
                    self._rates = {}
            case AskSnapshot(number):
                control.post(SnapshotTaken(number), _in_memory(cbor2.dumps(snapshot())))
            case Quarantine(operation, engine, reason):
                for serving in self._plane.context.engines:
                    if serving.operation.value == operation:
                        serving.quarantine(engine, reason)
            case Retune(clear, services):
                self.retune(clear, services)
            case Ping(number):
                control.post(Pong(number))
            case Stop():
                self.stopping = True
            case _:
                raise ProtocolError(f"{type(message).__name__} is no command to a worker; restart the appliance")


def _take(
    descriptors: list[int], kind: socket.SocketKind, families: tuple[socket.AddressFamily, ...] = _NETWORK
) -> socket.socket:
    """Return the socket that came with a command."""
    if not descriptors:
        raise ProtocolError(f"a {kind.name} socket was lost on its way; raise the limit on open files (ulimit -n)")
    try:
        sock = socket.socket(fileno=os.dup(descriptors[0]))
    except OSError as error:
        raise ProtocolError(f"a descriptor is no socket, or cannot be kept: {error.strerror}; report this") from None
    if sock.type != kind or sock.family not in families:
        sock.close()
        raise ProtocolError(f"a {kind.name} socket was announced, another came; report this")
    return sock


def _in_memory(data: bytes) -> int:
    """Return the descriptor of a memfd that holds ``data``."""
    descriptor = os.memfd_create("vantun-snapshot", os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    return descriptor
