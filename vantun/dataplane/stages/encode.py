"""Stage: the parity rows that blocks want are computed, once per batch, for all sessions."""

from __future__ import annotations

from vantun.dataplane.context import Context
from vantun.dataplane.stages.decode import SpanJobs
from vantun.session.coding import collect_wanted, make_spans

_SPANS = 256
_UNITS = 8192


class EncodeStage:
    """Computes parity into fresh rows of the pool."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._clock = context.clock("encode")
        self._spans = make_spans(_SPANS, _UNITS)
        self._jobs = SpanJobs(context, self._spans)

    def run(self, now: float) -> None:
        """Compute every row that is wanted."""
        self._clock.start()
        count, _, parity = collect_wanted(self._context.tables.root, self._spans, now)
        if count:
            self._context.engines.encode.run(self._jobs.of(count))
            self._clock.stop(parity)
