"""Stage: what the AEAD vouched for goes through the replay window into the span store."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vantun.dataplane.context import Context
from vantun.session.floors import note_received
from vantun.session.ingest import Arrivals, accept_arrivals


class AcceptStage:
    """Reads opened packets; rows that are not kept go back to the pool."""

    def __init__(self, context: Context, arrivals: Arrivals) -> None:
        self._tables = context.tables
        self._floors = context.floors
        self._arrivals = arrivals
        self._clock = context.clock("accept")

    def run(self, count: int, address: NDArray[np.uint8], now: float) -> None:
        """Take the first ``count`` packets of the arrivals; ``address`` holds where they came from."""
        self._clock.start()
        accept_arrivals(self._tables.root, self._arrivals, address, count, now)
        note_received(self._tables.root, self._floors, self._arrivals.lane, count)
        self._clock.stop(count)
