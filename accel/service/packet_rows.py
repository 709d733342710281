"""What is done with each packet of a submission, compiled: the client packs and unpacks, the service looks and lays.

Packets lie behind each other in a slot's ``source``, and what becomes of them in its ``target``, each three bytes
behind a multiple of 16: as in a lane of a device, which then copies them itself. Sealing and opening differ by how much
longer a packet gets; kernels take both as a :class:`SealJob`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from accel.device.packet_rows import VERDICT
from accel.engine import SealJob, Status
from accel.kernels.memory import PACKET_PAD, copy_bytes, packet_room, zero_bytes
from accel.service.columns import place_of_key
from drivers.kernel import kernel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from accel.service.columns import Own, PacketColumns, Slot

_PENDING, _DONE, _REJECTED, _FAULT = int(Status.PENDING), int(Status.DONE), int(Status.REJECTED), int(Status.FAULT)
GOOD, BAD_LENGTH, MUCH = range(3)
"""What :func:`look_at_packets` finds."""

# --- at the client


@kernel
def choose_packets(job: SealJob, growth: int, shortest: int, room: int) -> int:
    """Have every packet that is worth asking for be PENDING, and give the others their statuses; return how many are.

    One that is shorter than ``shortest`` is REJECTED and its target zeroed; what a slot with ``room`` bytes does not
    hold is a FAULT: software does it.
    """
    pending = 0
    for i in range(len(job.status)):
        length = int(job.length[i])
        if length < shortest:
            job.status[i] = _REJECTED
            zero_bytes(job.target.ctypes.data + job.target_offset[i], length + growth)
        elif packet_room(length + max(growth, 0)) > room:
            job.status[i] = _FAULT
        else:
            job.status[i] = _PENDING
            pending += 1
    return pending


@kernel
def pack_packets(job: SealJob, growth: int, begin: int, slot: Slot, rows: NDArray[np.int64]) -> tuple[int, int, int]:
    """Copy pending packets from ``begin`` on into a slot until it is full; ``rows`` receives which.

    Returns how many, 0, and where to go on.
    """
    place = target = count = 0
    i = begin
    while i < len(job.status) and count < len(slot.status):
        if job.status[i] == _PENDING:
            length = int(job.length[i])
            size, grown = packet_room(length), packet_room(length + growth)
            if place + size > len(slot.source) or target + grown > len(slot.target):
                break
            slot.words[0, count], slot.words[1, count], slot.number[count] = length, job.slot[i], job.number[i]
            there = slot.source.ctypes.data + place + PACKET_PAD
            copy_bytes(there, job.source.ctypes.data + job.source_offset[i], length)
            rows[count] = i
            place, target, count = place + size, target + grown, count + 1
        i += 1
    return count, 0, i


@kernel
def unpack_packets(job: SealJob, growth: int, slot: Slot, rows: NDArray[np.int64], count: int) -> None:
    """Copy packets that are DONE from a slot to the job's targets, zero those of REJECTED ones; give their statuses.

    Of packets that were opened also the full numbers: those that get shorter.
    """
    place = slot.target.ctypes.data + PACKET_PAD
    for n in range(count):
        i = rows[n]
        grown, home = int(job.length[i]) + growth, job.target.ctypes.data + job.target_offset[i]
        verdict = slot.status[n]
        if verdict == _DONE:
            copy_bytes(home, place, grown)
            if growth < 0:
                job.number[i] = slot.number[n]
        elif verdict == _REJECTED:
            zero_bytes(home, grown)
        job.status[i] = verdict
        place += packet_room(grown)


# --- at the service


@kernel
def look_at_packets(own: Own, count: int, growth: int, shortest: int, room: int) -> tuple[int, int, int]:
    """Bound a submission of which ``own`` is a copy that no client can change.

    Returns what is wrong with it, which value that is, and the bytes that it takes of a lane, in the larger direction.
    """
    source = target = 0
    for i in range(count):
        length = int(own.words[0, i])
        if length < shortest or length > room:
            return BAD_LENGTH, length, 0
        source, target = source + packet_room(length), target + packet_room(length + growth)
    if max(source, target) > room:
        return MUCH, max(source, target), 0
    return GOOD, 0, max(source, target + VERDICT * count)


@kernel
def lay_packets(
    own: Own, count: int, growth: int, pages: NDArray[np.int32], tray: PacketColumns, at: tuple[int, int, int]
) -> None:
    """Append a submission that was looked at to a job of the device.

    ``at`` are the rows that the job has, and where in its memory the slot's source and target are. ``pages`` is where
    the client's keys are (:class:`accel.service.keys.ClientKeys`).
    """
    row, source, target = at
    for i in range(count):
        length = int(own.words[0, i])
        tray.length[row + i], tray.number[row + i] = length, own.number[i]
        tray.slot[row + i] = place_of_key(pages, own.words[1, i])
        tray.source_offset[row + i], tray.target_offset[row + i] = source + PACKET_PAD, target + PACKET_PAD
        tray.status[row + i] = _PENDING
        source, target = source + packet_room(length), target + packet_room(length + growth)
