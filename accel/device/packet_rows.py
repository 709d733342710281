"""What is done with each packet of a batch for a device, compiled: who can be done, where it lies, what became of it.

A packet lies in a lane as packets.h says: behind three bytes, so that its payload begins at a multiple of 16, as one
piece. Behind all targets there is a verdict on each. Sealing and opening differ by how much longer a packet gets;
kernels take both as a :class:`SealJob`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from accel.device.parts import add_to_part, is_larger
from accel.device.runs import append_run, are_pinned
from accel.engine import HEADER_LENGTH, SHORTEST_OPEN, SHORTEST_SEAL, TAG_LENGTH, SealJob, Status
from accel.kernels.memory import PACKET_PAD, copy_bytes, packet_room, zero_bytes
from drivers.kernel import kernel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VERDICT = 16
"""Bytes of a verdict."""
_HEADER, _DESCRIPTOR, _UNIT, _ITEMS = 24, 8, 16, 5
STATE, HASH = 16, 8
"""Words of scratch for each packet, and for each chunk."""
CHUNK = 128
"""Bytes of key stream of an item."""
_GOOD = 1
"""Second word, of 64 bits, of a verdict on a packet that was done."""
_PHASE = 0x04
_PENDING, _DONE, _REJECTED, _FAULT = int(Status.PENDING), int(Status.DONE), int(Status.REJECTED), int(Status.FAULT)


@kernel
def admit_packets(
    job: SealJob,
    growth: int,
    known: NDArray[np.bool_],
    room: NDArray[np.int64],
    rows: NDArray[np.int64],
    ends: NDArray[np.int64],
) -> tuple[int, int]:
    """Have every packet that can be done be PENDING, and give the others their statuses; part them over lanes.

    ``known`` says which slots have keys. What cannot be done is REJECTED and its target zeroed; what is larger than a
    lane, which has ``room`` for bytes of source and target, words of work and of scratch, is a FAULT. ``rows`` receives
    the pending ones, ``ends`` how many there are at the end of each part. Returns how many rows, and parts, there are.
    """
    count = parts = 0
    used = (0, 0, 0, 0)
    for i in range(len(job.status)):
        length = int(job.length[i])
        verdict = _verdict(job, i, growth, known)
        if verdict == _REJECTED:
            zero_bytes(job.target.ctypes.data + job.target_offset[i], length + growth)
        else:
            more = STATE + HASH * _chunks(_payload(length, growth))
            need = packet_room(length), packet_room(length + growth) + VERDICT, _DESCRIPTOR, more
            if is_larger(need, room):
                verdict = _FAULT
            else:
                used, parts = add_to_part(need, used, room, ends, count, parts)
                rows[count] = i
                count += 1
        job.status[i] = verdict
    if count:
        ends[parts] = count
        parts += 1
    return count, parts


@kernel
def _verdict(job: SealJob, i: int, growth: int, known: NDArray[np.bool_]) -> int:
    """Return PENDING for a packet that is long enough and has keys: to be sealed, in the phase that its header names.

    Which phase a packet has that is to be opened, only the device finds out.
    """
    slot = int(job.slot[i])
    if job.length[i] < (SHORTEST_SEAL if growth > 0 else SHORTEST_OPEN) or not _is_known(known, slot):
        return _REJECTED
    if growth > 0 and job.source[job.source_offset[i]] & _PHASE and not _is_known(known, slot + 1):
        return _REJECTED
    return _PENDING


@kernel
def _is_known(known: NDArray[np.bool_], slot: int) -> bool:
    return 0 <= slot < len(known) and bool(known[slot])


@kernel
def _payload(length: int, growth: int) -> int:
    """Return the bytes of a packet's payload."""
    return length - HEADER_LENGTH + min(growth, 0)


@kernel
def _chunks(payload: int) -> int:
    """Return how many chunks a payload has: with AES-GCM, which needs a block more."""
    return (payload + TAG_LENGTH + CHUNK - 1) // CHUNK


@kernel
def lay_packets(
    job: SealJob,
    places: NDArray[np.int64],
    growth: int,
    copying: int,
    lane: tuple[NDArray[np.uint8], NDArray[np.uint32]],
) -> tuple[int, int, int]:
    """Copy packets into a lane, source and work, unless a device does that itself, and describe them.

    Returns bytes of source, bytes of target before the verdicts, and chunks.
    """
    source, work = lane
    for word in range(_HEADER):
        work[word] = 0
    begin = target = chunks = 0
    for i in range(len(places)):
        row = places[i]
        length = int(job.length[row])
        payload, at = _payload(length, growth), _HEADER + _DESCRIPTOR * i
        number = int(job.number[row]) + (1 if growth < 0 else 0)
        work[at], work[at + 1], work[at + 2] = chunks, begin // _UNIT, target // _UNIT
        work[at + 3], work[at + 4] = payload, job.slot[row]
        work[at + 5], work[at + 6] = number & 0xFFFFFFFF, number >> 32
        if copying != 0:
            home = job.source.ctypes.data + job.source_offset[row]
            copy_bytes(source.ctypes.data + begin + PACKET_PAD, home, length)
        begin, target = begin + packet_room(length), target + packet_room(length + growth)
        chunks += _chunks(payload)
    work[0], work[1] = len(places), target // _UNIT
    work[_ITEMS], work[_ITEMS + 1], work[_ITEMS + 2] = len(places), chunks, len(places)
    return begin, target, chunks


@kernel
def take_packets(
    job: SealJob,
    places: NDArray[np.int64],
    growth: int,
    copying: int,
    lane: tuple[NDArray[np.uint8], NDArray[np.int64]],
) -> None:
    """Copy packets that are DONE to the job's targets, unless they are there, and zero those of the others.

    ``lane`` is its target, and the verdicts in it. Of what was opened, the numbers are written, too.
    """
    target, verdicts = lane
    place = target.ctypes.data + PACKET_PAD
    for i in range(len(places)):
        row = places[i]
        grown = int(job.length[row]) + growth
        home = job.target.ctypes.data + job.target_offset[row]
        if verdicts[2 * i + 1] == _GOOD:
            if copying != 0:
                copy_bytes(home, place, grown)
            if growth < 0:
                job.number[row] = verdicts[2 * i]
            job.status[row] = _DONE
        else:
            zero_bytes(home, grown)
            job.status[row] = _REJECTED
        place += packet_room(grown)


@kernel
def find_packet_runs(
    job: SealJob, places: NDArray[np.int64], growth: int, pinned: NDArray[np.int64], runs: NDArray[np.int64]
) -> int:
    """Find the runs of memory that packets are, or with a ``growth`` will be, with what lies between them in a lane.

    ``runs`` and what is returned are as those of :func:`accel.device.span_rows.find_runs`.
    """
    memory = job.target.ctypes.data if growth != 0 else job.source.ctypes.data
    count = 0
    for i in range(len(places)):
        row = places[i]
        home = memory + (job.target_offset[row] if growth != 0 else job.source_offset[row]) - PACKET_PAD
        count = append_run(runs, count, home, packet_room(int(job.length[row]) + growth))
    return are_pinned(runs, count, pinned)
