"""Stage: blocks with holes and enough shards are rebuilt, checked by CRC, and their records delivered."""

from __future__ import annotations

import numpy as np

from accel.engine import SpanJob, Status
from vantun.dataplane.context import Context
from vantun.dataplane.sizes import UNITS
from vantun.session.coding import (
    Spans,
    accept_rebuilt,
    check_rebuilt,
    collect_holes,
    discard_rebuilt,
    make_spans,
)
from vantun.session.tables import DECODES


class SpanJobs:
    """The job over the first spans of ``spans``, by how many: engines know the jobs that they have seen before."""

    def __init__(self, context: Context, spans: Spans) -> None:
        self._memory = context.tables.memory
        self._spans = spans
        self._jobs: dict[int, SpanJob] = {}

    def of(self, count: int) -> SpanJob:
        """Return the job over the first ``count`` spans."""
        return self._jobs.get(count) or self._add(count)

    def _add(self, count: int) -> SpanJob:
        spans = self._spans
        job = self._jobs[count] = SpanJob(
            memory=self._memory,
            data=spans.data,
            parity=spans.parity,
            row=spans.row,
            lost=spans.lost,
            data_start=spans.data_start[:count],
            parity_start=spans.parity_start[:count],
            k=spans.k[:count],
            m=spans.m[:count],
            column=spans.column[:count],
            length=spans.length[:count],
            status=spans.status[:count],
        )
        return job


class DecodeStage:
    """Rebuilds lost shards, once per received batch."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._clock = context.clock("decode")
        self._spans = make_spans(DECODES, UNITS)
        self._jobs = SpanJobs(context, self._spans)

    def run(self, now: float) -> None:
        """Rebuild what the accept stage queued."""
        t = self._context.tables
        if t.pool[0]["decodes"] == 0:
            return
        self._clock.start()
        spans = self._spans
        count, _, parity = collect_holes(t.root, spans)
        if count:
            self._context.engines.decode.run(self._jobs.of(count))
        asked = False
        for span in range(count):
            sound = self._sound(span)
            if not sound and not asked:
                asked, sound = True, self._mended(span, count)
            if sound:
                accept_rebuilt(t.root, spans, span, now)
            else:
                discard_rebuilt(t.root, spans, span)
        self._clock.stop(parity)

    def _sound(self, span: int) -> bool:
        return self._spans.status[span] == Status.DONE and bool(
            check_rebuilt(self._context.tables.root, self._spans, span)
        )

    def _mended(self, span: int, count: int) -> bool:
        """Ask software who is to blame, engine or peer; an engine's mistakes are mended in this span and all behind."""
        rest = np.arange(span, count)
        return self._context.engines.decode.dispute(self._jobs.of(count), rest) and self._sound(span)
