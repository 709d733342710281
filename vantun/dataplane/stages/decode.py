"""Stage: blocks with holes and enough shards are rebuilt, checked by CRC, and their records delivered."""

from __future__ import annotations

from accel.engine import SpanJob
from vantun.dataplane.context import Context
from vantun.session.coding import (
    Spans,
    accept_rebuilt,
    check_rebuilt,
    collect_holes,
    discard_rebuilt,
    make_spans,
)
from vantun.session.tables import DECODES

_UNITS = 8192


def span_job(context: Context, spans: Spans, count: int, data: int, parity: int) -> SpanJob:
    """Return the job over the first ``count`` spans, ``data`` data units and ``parity`` parity units."""
    return SpanJob(
        memory=context.tables.memory,
        data=spans.data[:data],
        parity=spans.parity[:parity],
        row=spans.row[:parity],
        lost=spans.lost[:parity],
        data_start=spans.data_start[:count],
        parity_start=spans.parity_start[:count],
        k=spans.k[:count],
        m=spans.m[:count],
        column=spans.column[:count],
        length=spans.length[:count],
        status=spans.status[:count],
    )


class DecodeStage:
    """Rebuilds lost shards, once per received batch."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._clock = context.clock("decode")
        self._spans = make_spans(DECODES, _UNITS)

    def run(self, now: float) -> None:
        """Rebuild what the accept stage queued."""
        t = self._context.tables
        if t.pool[0]["decodes"] == 0:
            return
        self._clock.start()
        spans = self._spans
        count, data, parity = collect_holes(t.root, spans)
        if count:
            self._context.engines.decode.run(span_job(self._context, spans, count, data, parity))
        for span in range(count):
            if spans.status[span] == 1 and check_rebuilt(t.root, spans, span):
                accept_rebuilt(t.root, spans, span, now)
            else:
                discard_rebuilt(t.root, spans, span)
        self._clock.stop(parity)
