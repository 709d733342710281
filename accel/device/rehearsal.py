"""Every kernel that lays out spans for a device once, with the types that it is called with: for the library."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accel.calls import aligned
from accel.device import spans
from accel.device.port import Bytes, Words
from accel.device.span_rows import admit_spans, find_runs
from accel.trials import SpanRow, span_job
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


def rehearse_spans() -> None:
    """Lay out and take back a span."""
    job = span_job([SpanRow((b"one", b"two"), 0, (0,), (1,))])
    lane = _Lane(aligned(1024), aligned(1024), aligned(1024).view(np.uint32))
    admit_spans(job, 1, np.full(4, 1024), *np.empty((2, 1), np.int64))
    find_runs(job, np.arange(1), 0, spans.NOTHING_PINNED, np.empty((1, 2), np.int64))
    laid = spans.lay_out(job, np.arange(1), lane, decode=True)
    spans.take_back(job, laid, lane.target, decode=True)
