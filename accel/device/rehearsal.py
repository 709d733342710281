"""Every kernel that lays out batches for a device once, with the types that it is called with: for the library."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accel.calls import aligned
from accel.device import packets, spans
from accel.device.packet_rows import admit_packets, find_packet_runs
from accel.device.port import Bytes, Words
from accel.device.runs import NOTHING_PINNED
from accel.device.span_rows import admit_spans, find_runs
from accel.device.strips import common_shapes
from accel.engine import HEADER_LENGTH
from accel.trials import SealRow, SpanRow, seal_job, span_job
from drivers.lanes import Batch


@dataclass
class _Lane:
    """A lane without a device."""

    source: Bytes
    target: Bytes
    work: Words

    def begin(self, batch: Batch) -> None:
        """Compute nothing."""

    def done(self) -> bool:
        """Return that it is."""
        return True

    def close(self) -> None:
        """Nothing is held."""


def rehearse_device() -> None:
    """Lay out and take back a span, and a packet."""
    job = span_job([SpanRow((b"one", b"two"), 0, (0,), (1,))])
    lane = _Lane(aligned(1024), aligned(1024), aligned(1024).view(np.uint32))
    admit_spans(job, 1, np.full(4, 1024), *np.empty((2, 1), np.int64))
    find_runs(job, np.arange(1), 0, NOTHING_PINNED, np.empty((1, 2), np.int64))
    for shapes in ((), common_shapes()):
        laid = spans.lay_out(job, np.arange(1), lane, decode=not shapes, shapes=shapes)
        spans.take_back(job, laid, lane.target, decode=not shapes)
    sealing = seal_job([SealRow(0, 0, bytes(HEADER_LENGTH + 9))])
    columns, growth = packets.columns_of(sealing)
    admit_packets(columns, growth, np.ones(2, np.bool_), np.full(4, 1024), *np.empty((2, 1), np.int64))
    find_packet_runs(columns, np.arange(1), growth, NOTHING_PINNED, np.empty((1, 2), np.int64))
    packets.take_back(sealing, packets.lay_out(sealing, np.arange(1), lane), lane.target)
