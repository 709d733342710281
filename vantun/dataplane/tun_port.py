"""The TUN device of a worker, and the TUN flows of its sessions: one device for all of them.

The device is watched edge-triggered: what waits in it when a flow has no room, or before there is a flow, stays there,
and is fetched when the flow says so, not when the kernel repeats itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from drivers.errors import DriverError
from drivers.linux.tun import TunDevice, TunOffload
from vantun.dataplane.fast_kernels import TUN_ROUNDS
from vantun.dataplane.handover import Handover
from vantun.dataplane.pipeline import Dataplane
from vantun.dataplane.poller import EDGE, ERR, IN, Poller
from vantun.dataplane.ports import RefusalCode
from vantun.dataplane.tun_away import TunAway, bucket_page
from vantun.dataplane.tun_pump import EMPTY, MORE, WAIT, put_handed, read_tun, write_tun
from vantun.dataplane.tun_sessions import TunSessions
from vantun.dataplane.tun_tables import TunTables
from vantun.errors import ProtocolError, ResourceError
from vantun.tun_messages import (
    FLOW_TARGET,
    AddTun,
    AttachTun,
    CountTun,
    OpenTun,
    SetPacketRules,
    SetTunRoutes,
    TunCommand,
    TunFlow,
    TunLost,
    TunReport,
)


class TunFlowPort:
    """One session's TUN flow, as :class:`vantun.dataplane.ports.PacketPort`."""

    def __init__(self, owner: TunPorts, session: int, slot: int) -> None:
        self.handle = -1
        self.session = session
        self.slot = slot
        self.replaced = False
        self._owner = owner

    def fill(self, now: float) -> None:
        """See PacketPort."""
        self._owner.fill(self, now)

    def drain(self, flow_index: int, now: float) -> int:
        """See PacketPort."""
        return self._owner.drain(self, flow_index, now)

    def accepted(self) -> None:
        """See Port."""
        self._owner.carries(self)

    def refused(self, code: int) -> None:
        """See Port."""
        self._owner.ended(self, code)

    def reset(self) -> None:
        """See Port."""
        self._owner.ended(self, 0)

    def close(self) -> None:
        """See Port."""
        self._owner.ended(self, 0)


class TunPorts:
    """Serves the commands about the TUN device, and moves its packets.

    Parameters
    ----------
    plane
        Whose flows they are.
    poller
        Watches the device.
    report
        Tells the control process.
    clock
        Seconds, as the data plane has them.
    """

    def __init__(
        self, plane: Dataplane, poller: Poller, report: Callable[[TunReport], None], clock: Callable[[], float]
    ) -> None:
        self._plane = plane
        self._poller = poller
        self._report = report
        self._clock = clock
        self._sessions = TunSessions()
        self._ports: dict[int, TunFlowPort] = {}
        """By session id."""
        self._device: TunDevice | None = None
        self._number = -1
        self._waiting = False
        """Whether packets may wait in the device: nobody says so again."""
        self._away = TunAway(plane, self._sessions, clock)

    def join(self, handover: Handover) -> None:
        """Hand packets of other workers' sessions over, and take those that they read."""
        self._away.join(handover)

    # --- commands

    def serve(self, message: TunCommand, descriptors: list[int]) -> None:
        """Do what ``message`` asks; raises ProtocolError when that cannot be."""
        match message:
            case AddTun():
                self._add(message, descriptors)
            case SetTunRoutes(session, addresses, prefixes, away, beside):
                try:
                    self._sessions.set_routes(session, addresses, prefixes, away, beside)
                except (ValueError, ResourceError) as error:
                    raise ProtocolError(f"routes of session {session:x}: {error}") from None
                if away >= 0:  # what waits in the device has a way now
                    self._waiting = True
                    self._wake()
            case SetPacketRules(rows):
                self._sessions.set_rules(rows)
            case CountTun(row):
                self._sessions.count_by(bucket_page(descriptors).array[row])
            case OpenTun(session):
                self._open(session)
            case AttachTun(handle):
                self._attach(handle)

    def end_session(self, session: int) -> None:
        """Forget the routes of a session; its flow has been reset, or will be."""
        self._sessions.set_routes(session, (), ())

    def _add(self, message: AddTun, descriptors: list[int]) -> None:
        if not descriptors:
            raise ProtocolError("a TUN device was lost on its way; raise the limit on open files (ulimit -n)")
        self._close_device()
        descriptor = -1
        try:
            descriptor = os.dup(descriptors[0])
            device = TunDevice.adopt(descriptor, TunOffload(message.offloads))
        except (OSError, DriverError) as error:
            if descriptor >= 0:
                os.close(descriptor)
            self._report(TunLost(message.number, str(error)))
            return
        self._device, self._number = device, message.number
        self._sessions.use_device(
            device.fileno(),
            message.offloads,
            client=message.client,
            client_to_client=message.client_to_client,
            plain=device.plain,
        )
        for port in self._ports.values():
            self._sessions.connect(port.slot, self._flow_of(port))
        self._poller.add(device.fileno(), IN | EDGE, self._ready)

    def _close_device(self) -> None:
        if self._device is not None:
            self._poller.remove(self._device.fileno())
            self._device.close()
        self._device, self._number, self._waiting = None, -1, False
        self._sessions.use_device(-1, 0, client=False, client_to_client=False)

    def close(self) -> None:
        """Close the device."""
        self._close_device()

    def _open(self, session: int) -> None:
        port = self._new_port(session)
        try:
            port.handle = self._plane.open_flow(session, FLOW_TARGET, port, self._clock())
        except (KeyError, ResourceError, ValueError):  # session gone, or no room
            self.ended(port, int(RefusalCode.GENERAL))

    def _attach(self, handle: int) -> None:
        flow = self._plane.flows.by_handle(handle)
        if flow is None:
            return
        if self._device is None:
            self._plane.refuse_flow(handle, RefusalCode.GENERAL, self._clock())
            return
        port = self._new_port(self._plane.sessions.session_id(flow.session))
        port.handle = handle
        self._plane.attach_flow(handle, port, self._clock())
        self.carries(port)

    def _new_port(self, session: int) -> TunFlowPort:
        """Return a port for a session, which has lost the one it had."""
        old = self._ports.get(session)
        if old is not None:
            old.replaced = True
            self._plane.broken(old.handle, self._clock())
        try:
            port = TunFlowPort(self, session, self._sessions.hold(session))
        except ResourceError as error:
            raise ProtocolError(f"the TUN flow of session {session:x}: {error}") from None
        self._ports[session] = port
        return port

    # --- flows

    def _flow_of(self, port: TunFlowPort) -> int:
        flow = self._plane.flows.by_handle(port.handle)
        return -1 if flow is None or not flow.accepted else flow.index

    def carries(self, port: TunFlowPort) -> None:
        """Have a flow carry packets: the far end has agreed."""
        flow = self._plane.flows.by_handle(port.handle)
        if flow is None or self._ports.get(port.session) is not port:
            return
        self._sessions.connect(port.slot, flow.index)
        self._waiting = True
        self._plane.readable(port.handle)
        self._report(TunFlow(port.session, open=True, code=0))

    def ended(self, port: TunFlowPort, code: int) -> None:
        """Forget a flow."""
        if self._ports.get(port.session) is not port:
            return
        del self._ports[port.session]
        self._sessions.disconnect(port.session)
        if not port.replaced:
            self._report(TunFlow(port.session, open=False, code=code))
        self._wake()

    # --- packets

    def _ready(self, events: int) -> None:
        if events & ERR:
            self._lose("the interface was deleted")
            return
        self._waiting = True
        self._wake()

    def _wake(self) -> None:
        """Have some flow's turn read the device: it reads for all of them."""
        if self._waiting and self._ports:
            self._plane.readable(next(iter(self._ports.values())).handle)
        elif self._waiting and self._device is not None and self._sessions.any_away:
            self._read_for_others()

    def _read_for_others(self) -> None:
        """Read the device although there is no flow here; what remains is told of again, as level-triggered."""
        assert self._device is not None
        status = self._read()
        if status == MORE:
            self._poller.change(self._device.fileno(), IN | EDGE)
        elif status == EMPTY:
            self._waiting = False
        elif status < 0:
            self._lose(os.strerror(-status))

    def fill(self, port: TunFlowPort, now: float) -> None:
        """Read the device, for the flow of ``port`` and every other."""
        status = self._read(now) if self._waiting and self._device is not None else EMPTY
        if status in (MORE, WAIT):
            self._plane.readable(port.handle)
        elif status == EMPTY:
            self._waiting = False
        else:
            self._lose(os.strerror(-status))

    def _read(self, now: float | None = None) -> int:
        """Read some batches of the device; return why no more (:func:`.tun_pump.read_tun`)."""
        now = self._clock() if now is None else now
        status = MORE
        for _ in range(TUN_ROUNDS):
            status, _ = read_tun(self._plane.context.tables.root, self._sessions.tables, now)
            self._away.pass_on(self._sessions.take_away())
            if status != MORE:
                break
        return status

    def drain(self, port: TunFlowPort, flow_index: int, now: float) -> int:
        """Write what a session has sent; return its bytes."""
        context, tables = self._plane.context, self._sessions.tables
        total = 0
        while True:
            status, size = write_tun(context.tables.root, tables, port.slot, flow_index, context.address, now)
            total += size
            if status == EMPTY:
                if total:
                    self._answered(port)
                return int(total)
            if status < 0 and self._device is not None:
                self._lose(os.strerror(-status))

    def _answered(self, port: TunFlowPort) -> None:
        """Read the device in this turn: the kernel itself may have answered what was just written to it.

        Waiting to be told so would cost an answer a turn: an echo, or the acknowledgement of a segment.
        """
        if not self._waiting:
            self._waiting = True
            self._plane.readable(port.handle)

    # --- compiled code in between

    def lend(self) -> tuple[TunTables, int] | None:
        """Have compiled code read and write the device: its tables and descriptor, which is -1 where nobody uses it.

        None = not now: other flows are ready, or flows have lost their device.
        """
        ready = self._plane.flows.ready
        if not self._ports:
            return None if ready else (self._sessions.tables, -1)
        if self._device is None or not all(isinstance(flow.packets, TunFlowPort) for flow in ready):
            return None
        for flow in ready:
            flow.queued = False
        ready.clear()
        return self._sessions.tables, self._device.fileno()

    @property
    def waiting(self) -> bool:
        """Whether packets may wait in the device."""
        return self._waiting

    def take_back(self, *, waiting: bool, error: int = 0) -> None:
        """Go on reading and writing; ``error`` is the errno by which compiled code has lost the device."""
        self._waiting = waiting
        self._away.pass_on(self._sessions.take_away())
        if error:
            self._lose(os.strerror(error))
        self._wake()

    def _lose(self, reason: str) -> None:
        """Give the device up; flows stay, for the one that takes its place."""
        if self._device is None:
            return
        number, name = self._number, self._device.name
        self._close_device()
        self._report(TunLost(number, f"the TUN device {name} cannot be used any more: {reason}"))

    def snapshot(self) -> dict[str, object]:
        """Return the device, its counters, and those of every session; ready for JSON."""
        device = self._device
        takes = device.takes if device is not None else TunOffload.NONE
        return {
            "device": device.name if device is not None else "",
            "takes": [each.name for each in TunOffload if each in takes and each],
            **self._away.snapshot(),
            **self._sessions.snapshot(),
        }


def warm_tun(plane: Dataplane) -> None:
    """Have the kernels compiled, or loaded, without a device."""
    sessions = TunSessions()
    sessions.set_routes(1, ("10.0.0.1",), ())
    read_tun(plane.context.tables.root, sessions.tables, 0.0)
    put_handed(plane.context.tables.root, sessions.tables, sessions.tables.staging, 0, 0, 0.0)
    write_tun(plane.context.tables.root, sessions.tables, 0, 0, plane.context.address, 0.0)
