"""What CUDA and OpenCL engines have in common: opening, polling, and what is said of a device that has failed."""

from __future__ import annotations

from collections.abc import Sequence

from accel.device.choice import Choice, Measure, device_seconds
from accel.device.port import OpenDevice
from accel.device.program import AEAD, FEC, KERNELS, program
from accel.device.session import DeviceSession, DeviceTicket, PacketSession, SpanSession
from accel.device.strips import Shape
from accel.engine import EngineSession, Health, Maturity, Operation, Provenance, Ticket
from accel.later import LateEngine
from drivers.errors import DriverError
from drivers.lanes import Room

ROOM = Room(source=4 << 20, target=4 << 20, work=1 << 18, scratch=1 << 20)
"""A lane: 3,000 packets, or 300 spans of (10, 4), of 1,400 bytes."""
LANES = 3
"""Batches on their way: one is copied in, one computed, one copied out."""
_SPANS = frozenset({Operation.FEC_ENCODE, Operation.FEC_DECODE})


class DeviceEngine(LateEngine[DeviceSession]):
    """An engine whose device has memory of its own.

    Parameters
    ----------
    name, operations
        As in :class:`accel.engine.Engine`.
    open_device
        Opens the device; called for every session.
    provenance, maturity
        Of the device that is meant.
    room, lanes
        Of a session.

    Attributes
    ----------
    shapes
        Spans that are tried with kernels of their own when the first session for them is opened.
    measure
        Times that trial.
    choices
        What came of it, for encoding, then for decoding; empty before.
    """

    def __init__(
        self,
        name: str,
        operations: frozenset[Operation],
        open_device: OpenDevice,
        provenance: Provenance,
        maturity: Maturity,
        *,
        room: Room = ROOM,
        lanes: int = LANES,
    ) -> None:
        super().__init__(name, operations, provenance, maturity)
        self.shapes: Sequence[Shape] = ()
        self.measure: Measure = device_seconds
        self.choices: tuple[Choice, ...] = ()
        self._open_device = open_device
        self._room = room
        self._lanes = lanes

    def open(self, operation: Operation) -> EngineSession:
        """Open the device for an operation: compile the kernels, reserve the lanes, see which kernels are faster."""
        self._refuse_others(operation)
        text = FEC if operation in _SPANS else AEAD
        device = self._open_device(program(text), KERNELS[text])
        kind = SpanSession if operation in _SPANS else PacketSession
        try:
            session = kind(operation, device, self._room, self._lanes)
            session.rehearse(KERNELS[text])
            if isinstance(session, SpanSession):
                self._specialise(session)
        except DriverError:
            device.close()
            raise
        return self._hold(session)

    def _specialise(self, session: SpanSession) -> None:
        repair = session.operation is Operation.FEC_DECODE
        known = [each for each in self.choices if each.repair is repair]
        others = [each for each in self.choices if each.repair is not repair]
        session.specialise(self.shapes, self.measure, known)
        self.choices = (*others, *session.choices) if repair else (*session.choices, *others)

    def cancel(self, ticket: Ticket) -> bool:
        """Return whether the device writes to the ticket's memory no more: it has a copy, or all of it has ended."""
        assert isinstance(ticket, DeviceTicket)
        super().cancel(ticket)
        return not (ticket.direct and ticket.running)

    def health(self) -> Health:
        """Return that it is well: a device that fails says so by raising, and whether it is back, only a test tells."""
        return Health(usable=True)
