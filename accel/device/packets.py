"""Packets of an AEAD job as a device takes them: laid out, and taken back, by one call of compiled code each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.calls import address_of
from accel.device.packet_rows import CHUNK, HASH, STATE, VERDICT, find_packet_runs, lay_packets, take_packets
from accel.device.port import Bytes, Lane
from accel.device.runs import MOST_RUNS, NOTHING_PINNED
from accel.device.span_rows import DESCRIPTOR, HEADER
from accel.device.spans import padded, runs_of
from accel.engine import HEADER_LENGTH, TAG_LENGTH, Job, OpenJob, SealJob
from drivers.lanes import Batch, Launch, Run

_Places = NDArray[np.int64]


class PacketBatch(NamedTuple):
    """Packets that lie in a lane.

    Attributes
    ----------
    batch
        For the lane.
    rows
        Rows of the job.
    verdicts
        Bytes of the lane's target before the verdicts.
    direct
        Whether the device reads and writes the job's own memory, which is registered with it.
    """

    batch: Batch
    rows: _Places
    verdicts: int
    direct: bool = False


def columns_of(job: Job) -> tuple[SealJob, int]:
    """Return the columns of a job as the one type that kernels are compiled for, and how much longer a packet gets."""
    if isinstance(job, SealJob):
        return job, TAG_LENGTH
    assert isinstance(job, OpenJob)
    return SealJob(*job), -TAG_LENGTH


def needs(job: Job, rows: _Places) -> NDArray[np.int64]:
    """Return [rows, 4] what each takes of a lane, in the order of Room; a lane also needs HEADER words of work."""
    columns, growth = columns_of(job)
    payload = columns.length[rows].astype(np.int64) + min(growth, 0) - HEADER_LENGTH
    source, target = (16 + padded(payload + tag) for tag in ((0, TAG_LENGTH) if growth > 0 else (TAG_LENGTH, 0)))
    chunks = (payload + (TAG_LENGTH + CHUNK - 1)) // CHUNK
    return np.stack((source, target + VERDICT, np.full(len(rows), DESCRIPTOR), STATE + HASH * chunks), 1)


def lay_out(job: Job, rows: _Places, lane: Lane, pinned: NDArray[np.int64] = NOTHING_PINNED) -> PacketBatch:
    """Copy rows of a job into a lane that has room for them.

    Packets that lie in ``pinned`` memory as they would in the lane, in few runs, are left to the device.
    """
    columns, growth = columns_of(job)
    runs = _runs(columns, rows, growth, pinned) if len(pinned) else None
    direct = runs is not None
    source, verdicts, chunks = lay_packets(columns, rows, growth, int(not direct), (lane.source, lane.work))
    verb = "seal" if growth > 0 else "open"
    items = {"heads": len(rows), "chunks": chunks, "tags": len(rows)}
    launches = tuple(Launch(f"{verb}_{part}", count) for part, count in items.items())
    inward, outward = runs or ((), ())
    if direct:
        outward = (*outward, Run(address_of(lane.target) + verdicts, VERDICT * len(rows)))
    batch = Batch(launches, source, verdicts + VERDICT * len(rows), HEADER + DESCRIPTOR * len(rows), inward, outward)
    return PacketBatch(batch, rows, verdicts, direct)


def _runs(
    job: SealJob, rows: _Places, growth: int, pinned: NDArray[np.int64]
) -> tuple[tuple[Run, ...], tuple[Run, ...]] | None:
    """Return the runs of memory that packets are, and will be; None when the device cannot take them directly."""
    found = []
    for grown in (0, growth):
        runs = np.empty((MOST_RUNS, 2), np.int64)
        count = find_packet_runs(job, rows, grown, pinned, runs)
        if count <= 0:
            return None
        found.append(runs_of(runs, count))
    return found[0], found[1]


def take_back(job: Job, packets: PacketBatch, target: Bytes) -> None:
    """Copy what a lane has computed to where the job wants it; targets of what could not be done are zeroed."""
    columns, growth = columns_of(job)
    verdicts = target[packets.verdicts :][: VERDICT * len(packets.rows)].view(np.int64)
    take_packets(columns, packets.rows, growth, int(not packets.direct), (target, verdicts))
