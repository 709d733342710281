"""Every kernel of the ring once, with the types that it is called with: for the library that is built ahead of time."""

from __future__ import annotations

import numpy as np

from accel.engine import Job, Operation, Status
from accel.service.packing import packer
from accel.service.ring import HOW_MANY, PARITIES, SIZE, own_columns, ring_of, source_of
from accel.service.trays import look, tray_of
from accel.trials import OpenRow, SealRow, SpanRow, open_job, seal_job, span_job


def rehearse_ring() -> None:
    """Pack, look at, lay and unpack a job of each operation."""
    memory = np.zeros(SIZE, np.uint8)
    ring, own, rows, pages = ring_of(memory), own_columns(), np.zeros(1, np.int64), np.zeros(1 << 14, np.int32)
    spans = span_job([SpanRow((b"one", b"two"), 0, (0,), (1,))])
    jobs: dict[Operation, Job] = {
        Operation.FEC_ENCODE: spans,
        Operation.FEC_DECODE: spans,
        Operation.AEAD_SEAL: seal_job([SealRow(0, 0, bytes(40))]),
        Operation.AEAD_OPEN: open_job([OpenRow(0, 0, bytes(40))]),
    }
    for operation, job in jobs.items():
        packing, tray = packer(operation), tray_of(operation, memory)
        packing.choose(job)
        packed = packing.write(job, 0, ring.slots[0], rows)
        ring.client[0, HOW_MANY], ring.client[0, PARITIES] = packed.rows, packed.parities
        tray.add(own, look(ring, 0, operation, own), source_of(0), pages)
        ring.slots[0].status[: tray.rows] = Status.DONE
        packing.read(job, ring.slots[0], rows, packed.rows)
