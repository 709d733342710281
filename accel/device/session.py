"""Sessions of device engines: how jobs are parted over lanes, and how results come back.

A job is copied into a lane when it is begun, and its results are copied out by ``poll``: the device never sees the
job's own memory, so a job can be cancelled whatever the device does. Only of memory that is registered with it
(:meth:`DeviceSession.pin`) does it copy itself. A job larger than a lane goes in parts, over as many lanes as are free.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.device import packets, spans
from accel.device.choice import Choice, Measure, choose, wait
from accel.device.keys import RECORD, record
from accel.device.packet_rows import admit_packets
from accel.device.port import Device, Lane, PinningDevice
from accel.device.runs import NOTHING_PINNED
from accel.device.span_rows import HEADER, admit_spans
from accel.device.strips import Shape
from accel.engine import Job, KeySpec, Operation, SpanJob, Status
from accel.later import LateSession, LateTicket
from drivers.errors import DriverError
from drivers.lanes import Batch, Launch, Room

_Places = NDArray[np.int64]


class DeviceTicket(LateTicket):
    """A job that was accepted; ``parts`` are its rows that were not begun.

    Attributes
    ----------
    direct
        Whether the device may write to the job's own memory while parts of it run.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.parts: deque[_Places] = deque()
        self.direct = False

    @property
    def waiting(self) -> bool:
        """Whether a part of it was not begun yet."""
        return bool(self.parts)

    def forget(self) -> None:
        """Begin no further part."""
        self.parts.clear()


class _Running(NamedTuple):
    lane: Lane
    ticket: DeviceTicket
    laid: Any


class DeviceSession(LateSession[DeviceTicket]):
    """An opened device for one operation; ``lanes`` batches may be on their way at a time."""

    def __init__(self, operation: Operation, device: Device, room: Room, lanes: int) -> None:
        super().__init__(operation)
        self._failed = False
        self._device = device
        self._room = np.array(room_words(room), np.int64)
        self._free = [device.lane(room) for _ in range(lanes)]
        self._running: list[_Running] = []
        self._pinned = NOTHING_PINNED

    @abstractmethod
    def admit(self, job: Job) -> list[_Places]:
        """Return the rows to compute, in parts that a lane has room for; give all rows their statuses.

        What nobody can compute is REJECTED; what is larger than a lane is a FAULT: software does it.
        """

    @abstractmethod
    def lay_out(self, job: Job, rows: _Places, lane: Lane) -> Any:
        """Copy rows into a lane; the result has ``batch``."""

    @abstractmethod
    def take_back(self, job: Job, laid: Any, lane: Lane) -> None:
        """Copy the results out of a lane, with their statuses."""

    def rehearse(self, kernels: Sequence[str]) -> None:
        """Launch every kernel without work: many drivers compile at the first launch, and no packet should wait for it.

        Raises DriverError when the device fails, or takes more than :data:`accel.device.choice.REHEARSAL` seconds.
        """
        lane = self._free[0]
        lane.work[:HEADER] = 0
        lane.begin(Batch(tuple(Launch(kernel, 1) for kernel in kernels), 0, 0, HEADER))
        wait(lane, f"launch {', '.join(kernels)}")

    def refuse(self, job: Job) -> None:
        """Reject every row: a session that was closed has no keys."""
        self.admit(job)
        job.status[:] = Status.REJECTED

    @property
    def pins(self) -> bool:
        """Whether the device can copy from and to memory of a job directly."""
        return isinstance(self._device, PinningDevice)

    def pin(self, address: int, size: int) -> str:
        """Register whole pages of jobs' memory with the device; return why not, "" = done.

        What lies there is padded to multiples of 16, and the padding is nobody's. It stays where it is until
        :meth:`unpin`.
        """
        assert isinstance(self._device, PinningDevice)
        reason = self._device.pin(address, size)
        if not reason:
            self._pinned = np.append(self._pinned, [(address, size)], 0)
        return reason

    def unpin(self, address: int) -> None:
        """Take pages back that were registered; nothing of them may be on its way. Raises DriverError."""
        kept = self._pinned[:, 0] != address
        if not kept.all():
            assert isinstance(self._device, PinningDevice)
            self._pinned = self._pinned[kept]
            self._device.unpin(address)

    @property
    def alive(self) -> bool:
        """Whether the device has not failed, and the session was not closed."""
        return not self._failed and not self.closed

    @property
    def full(self) -> bool:
        """Whether every lane is busy."""
        return not self._free

    def begin(self, job: Job) -> DeviceTicket:
        """Accept a job; raises DriverError when the device has failed."""
        if not self.alive:
            raise DriverError(f"{self.operation.value}: this device has failed, or was closed; open it again")
        ticket = DeviceTicket(job)
        ticket.parts.extend(self.admit(job))
        self._open.append(ticket)
        try:
            self._advance()
        except DriverError:
            self._failed = True
            raise
        self._settle()
        return ticket

    def poll(self) -> int:
        """Take back what is complete, and begin what waits; return how many tickets were finished.

        Raises DriverError when the device fails, once: the session is not alive any more, and its tickets stay undone.
        """
        try:
            return self._take_turns()
        except DriverError:
            self._failed = True
            raise

    def _take_turns(self) -> int:
        for running in list(self._running):
            if running.lane.done():
                self._running.remove(running)
                self._free.append(running.lane)
                running.ticket.running -= 1
                if not running.ticket.cancelled:
                    self.take_back(running.ticket.job, running.laid, running.lane)
        self._advance()
        return self._settle()

    def close(self) -> None:
        """Wipe the keys and give everything back. May be called twice."""
        if self.closed:
            return
        self.closed = True
        lanes = (*self._free, *(running.lane for running in self._running))
        for close in (*(lane.close for lane in lanes), self._device.close):
            try:
                close()
            except DriverError:
                if not self._failed:  # one that has failed may not answer; what it held ends with its context
                    raise

    def _advance(self) -> None:
        for ticket in self._open:
            while ticket.parts and self._free:
                rows = ticket.parts.popleft()
                lane = self._free.pop()
                ticket.running += 1
                laid = self.lay_out(ticket.job, rows, lane)
                self._running.append(_Running(lane, ticket, laid))
                batch: Batch = laid.batch
                ticket.direct = ticket.direct or bool(batch.outward)
                lane.begin(batch)


def room_words(room: Room) -> tuple[int, int, int, int]:
    """Return what is left of a lane for rows."""
    return room.source, room.target, room.work - HEADER, room.scratch


def _parts(rows: _Places, ends: _Places, count: int) -> list[_Places]:
    """Return ``rows`` in ``count`` parts, which end where ``ends`` says."""
    starts = [0, *ends[:count].tolist()]
    return [rows[begin:end] for begin, end in pairwise(starts)]


class SpanSession(DeviceSession):
    """FEC on a device.

    Attributes
    ----------
    choices
        What came of the shapes that have kernels of their own.
    """

    def __init__(self, operation: Operation, device: Device, room: Room, lanes: int) -> None:
        super().__init__(operation, device, room, lanes)
        self.choices: tuple[Choice, ...] = ()
        self._decode = operation is Operation.FEC_DECODE
        self._room_of_lane = room
        self._shapes: tuple[Shape, ...] = ()
        device.write_table(0, spans.field_table())

    def install_key(self, slot: int, spec: KeySpec) -> None:
        """Refuse: FEC has no keys."""
        raise TypeError(f"{self.operation.value} takes no keys, one was given for slot {slot} ({spec.suite.value})")

    def remove_key(self, slot: int) -> None:
        """Ignore ``slot``: there are no keys."""

    def specialise(self, shapes: Sequence[Shape], measure: Measure, known: Sequence[Choice]) -> None:
        """Let other kernels than the general one serve the shapes where they are faster here, by ``measure``.

        ``known`` are choices for the same shapes from another session on this device, or none. Rows compiled in are for
        encoding only: what is decoded has lost something else each time. Raises DriverError when the device fails.
        """
        shapes = [shape for shape in shapes if not (self._decode and shape.kernels)]
        lane, room = self._free[0], self._room_of_lane
        self.choices = tuple(
            choose(self._device, lane, room, shape, measure, before, repair=self._decode)
            for shape, before in zip(shapes, known or (None,) * len(shapes), strict=True)
        )
        pairs = zip(shapes, self.choices, strict=True)
        self._shapes = tuple(shape for shape, choice in pairs if not choice.reason)

    def admit(self, job: Job) -> list[_Places]:
        """Return the spans to compute, in parts; one call of compiled code for all."""
        assert isinstance(job, SpanJob)
        rows, ends = np.empty((2, len(job.status)), np.int64)
        _, found = admit_spans(job, int(self._decode), self._room, rows, ends)
        return _parts(rows, ends, found)

    def lay_out(self, job: Job, rows: _Places, lane: Lane) -> spans.SpanBatch:
        """Copy spans into a lane."""
        assert isinstance(job, SpanJob)
        return spans.lay_out(job, rows, lane, decode=self._decode, shapes=self._shapes, pinned=self._pinned)

    def take_back(self, job: Job, laid: spans.SpanBatch, lane: Lane) -> None:
        """Copy parity, or rebuilt units, to the job's memory."""
        assert isinstance(job, SpanJob)
        spans.take_back(job, laid, lane.target, decode=self._decode)


class PacketSession(DeviceSession):
    """AEAD on a device; its keys are a table there, of which no copy is kept here."""

    def __init__(self, operation: Operation, device: Device, room: Room, lanes: int) -> None:
        super().__init__(operation, device, room, lanes)
        self._known = np.zeros(0, np.bool_)
        self._grow(0)

    def install_key(self, slot: int, spec: KeySpec) -> None:
        """Write the keys of a slot to the device."""
        if slot < 0:
            raise ValueError(f"key slots are numbered from 0, this one is {slot}")
        self._grow(slot)
        words = record(spec)
        self._device.write_table(RECORD * slot, words)
        words[:] = 0
        self._known[slot] = True

    def remove_key(self, slot: int) -> None:
        """Wipe the keys of a slot."""
        if 0 <= slot < len(self._known) and self._known[slot]:
            self._known[slot] = False
            self._device.write_table(RECORD * slot, np.zeros(RECORD, np.uint32))

    def admit(self, job: Job) -> list[_Places]:
        """Return the packets to compute, in parts; the targets of those that nobody can compute are zeroed."""
        return self._admit(job, self._known)

    def refuse(self, job: Job) -> None:
        """Reject every row, and zero its target: a session that was closed has no keys."""
        self._admit(job, self._known[:0])

    def _admit(self, job: Job, known: NDArray[np.bool_]) -> list[_Places]:
        rows, ends = np.empty((2, len(job.status)), np.int64)
        _, found = admit_packets(*packets.columns_of(job), known, self._room, rows, ends)
        return _parts(rows, ends, found)

    def lay_out(self, job: Job, rows: _Places, lane: Lane) -> packets.PacketBatch:
        """Copy packets into a lane."""
        return packets.lay_out(job, rows, lane, self._pinned)

    def take_back(self, job: Job, laid: packets.PacketBatch, lane: Lane) -> None:
        """Copy packets to the job's targets."""
        packets.take_back(job, laid, lane.target)

    def _grow(self, slot: int) -> None:
        """Have room for ``slot`` and the one behind it, which a packet of the other key phase asks for."""
        held = len(self._known)
        if slot < held:
            return
        room = max(64, 2 * held, slot + 1)
        fresh = (room + 1) - (held + 1 if held else 0)
        self._device.write_table(RECORD * (room + 1 - fresh), np.zeros(RECORD * fresh, np.uint32))
        self._known = np.append(self._known, np.zeros(room - held, np.bool_))
