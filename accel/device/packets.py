"""Packets of an AEAD job as a device takes them: rows at multiples of 16, and descriptors as packets.h reads them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.calls import address_of, copy_ranges, zero_ranges
from accel.device.port import Bytes, Lane
from accel.device.span_rows import HEADER, UNIT
from accel.device.spans import before, padded, write_columns, write_items
from accel.engine import HEADER_LENGTH, SHORTEST_OPEN, SHORTEST_SEAL, TAG_LENGTH, OpenJob, SealJob, Status
from drivers.lanes import Batch, Launch

_DESCRIPTOR = 8
_STATE, _HASH = 16, 8
"""Words of scratch for each packet, and for each chunk."""
_CHUNK = 128
"""Bytes of key stream of an item."""
_HEAD = UNIT - HEADER_LENGTH
"""Where the header begins in a row."""
_TAG, _PAYLOAD = 16, 32
_DONE = 1
_PHASE = 0x04

_Places = NDArray[np.int64]


class PacketBatch(NamedTuple):
    """Packets that lie in a lane.

    Attributes
    ----------
    batch
        For the lane.
    rows
        Rows of the job.
    place
        Of each row in the lane.
    payload
        Bytes of each row's payload.
    """

    batch: Batch
    rows: _Places
    place: _Places
    payload: _Places


def sealable(job: SealJob, known: NDArray[np.bool_]) -> _Places:
    """Return the rows that are long enough and have keys; ``known`` says of which slots."""
    rows = np.flatnonzero((job.length >= SHORTEST_SEAL) & _have_key(job.slot, known))
    phase = (job.source[job.source_offset[rows]] & _PHASE) != 0
    return rows[_have_key(job.slot[rows] + phase, known)]


def openable(job: OpenJob, known: NDArray[np.bool_]) -> _Places:
    """Return the rows that are long enough and have a key to remove header protection with."""
    return np.flatnonzero((job.length >= SHORTEST_OPEN) & _have_key(job.slot, known))


def _have_key(slot: NDArray[np.integer], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    inside = (slot >= 0) & (slot < len(known))
    return inside & known[np.where(inside, slot, 0)]


def payload_of(job: SealJob | OpenJob, rows: _Places) -> _Places:
    """Return the bytes of the payloads."""
    beside = HEADER_LENGTH if isinstance(job, SealJob) else HEADER_LENGTH + TAG_LENGTH
    return job.length[rows].astype(np.int64) - beside


def needs(job: SealJob | OpenJob, rows: _Places) -> NDArray[np.int64]:
    """Return [rows, 4] what each takes of a lane, in the order of Room; a lane also needs HEADER words of work."""
    payload = payload_of(job, rows)
    size = _PAYLOAD + padded(payload)
    same = np.full(len(rows), _DESCRIPTOR)
    return np.stack((size, size, same, _STATE + _HASH * _chunks(payload)), 1)


def _chunks(payload: _Places) -> _Places:
    """Return how many chunks a payload has: with AES-GCM, which needs a block more."""
    chunks: _Places = (payload + (TAG_LENGTH + _CHUNK - 1)) // _CHUNK
    return chunks


def lay_out(job: SealJob | OpenJob, rows: _Places, lane: Lane) -> PacketBatch:
    """Copy rows of a job into a lane that has room for them."""
    opening = isinstance(job, OpenJob)
    payload = payload_of(job, rows)
    size, chunks = _PAYLOAD + padded(payload), _chunks(payload)
    place = before(size)
    number = job.number[rows] + int(opening)
    lane.work[:HEADER] = 0
    lane.work[0] = len(rows)
    packets = lane.work[HEADER:][: _DESCRIPTOR * len(rows)].reshape(-1, _DESCRIPTOR)
    unit = place // UNIT
    columns = before(chunks), unit, unit, payload, job.slot[rows], number & 0xFFFFFFFF, number >> 32
    write_columns(packets, columns)
    source, target = address_of(job.source) + job.source_offset[rows], address_of(lane.source) + place
    header = np.full(len(rows), HEADER_LENGTH)
    to, from_, length = [target + _HEAD, target + _PAYLOAD], [source, source + HEADER_LENGTH], [header, payload]
    if opening:
        to.append(target + _TAG)
        from_.append(source + HEADER_LENGTH + payload)
        length.append(np.full(len(rows), TAG_LENGTH))
    copy_ranges(np.concatenate(to), np.concatenate(from_), np.concatenate(length))
    verb = "open" if opening else "seal"
    items = len(rows), int(chunks.sum()), len(rows)
    launches = tuple(Launch(f"{verb}_{part}", n) for part, n in zip(("heads", "chunks", "tags"), items, strict=True))
    write_items(lane.work, launches)
    total = int(size.sum())
    return PacketBatch(Batch(launches, total, total, HEADER + _DESCRIPTOR * len(rows)), rows, place, payload)


def take_back(job: SealJob | OpenJob, packets: PacketBatch, target: Bytes) -> None:
    """Copy what a lane has computed to where the job wants it; a row that was not opened stays as it is, REJECTED."""
    rows, place, payload = packets.rows, packets.place, packets.payload
    opening = isinstance(job, OpenJob)
    if opening:
        found = target[place[:, None] + np.arange(_TAG, _PAYLOAD)].view(np.int64)
        good = found[:, 1] == _DONE
        rows, place, payload = rows[good], place[good], payload[good]
        job.number[rows] = found[good, 0]
    to, from_ = address_of(job.target) + job.target_offset[rows], address_of(target) + place
    header = np.full(len(rows), HEADER_LENGTH)
    pieces = [(to, from_ + _HEAD, header), (to + HEADER_LENGTH, from_ + _PAYLOAD, payload)]
    if not opening:
        pieces.append((to + HEADER_LENGTH + payload, from_ + _TAG, np.full(len(rows), TAG_LENGTH)))
    copy_ranges(*(np.concatenate(column) for column in zip(*pieces, strict=True)))
    job.status[rows] = Status.DONE


def wipe(job: SealJob | OpenJob) -> None:
    """Zero every target and reject every row; rows that are done are written over it."""
    growth = TAG_LENGTH if isinstance(job, SealJob) else -TAG_LENGTH
    size = np.maximum(job.length.astype(np.int64) + growth, 0)
    zero_ranges(address_of(job.target) + job.target_offset, size)
    job.status[:] = Status.REJECTED
