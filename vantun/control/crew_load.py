"""How busy each worker is, as far as the control process knows without asking: for the choice of a slice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

BYTES_WEIGHT = 8.0
"""Connections that a worker counts for in addition if it alone moves all the bytes: an idle one costs little."""
BUSY = 8 << 20
"""Bytes between two looks below which the workers have nothing to speak of to do: probes alone decide nothing."""


class CrewLoad:
    """Open connections at the last snapshot, those begun since, and each worker's share of the bytes between two."""

    def __init__(self, workers: int) -> None:
        self._flows = [0] * workers
        self._begun = [0] * workers
        self._bytes: list[int | None] = [None] * workers
        self._moved = [0] * workers

    def begin(self, worker: int) -> None:
        """Note that a connection begins there."""
        self._begun[worker] += 1

    def look(self, worker: int, snapshot: Mapping[str, object]) -> None:
        """Learn what a worker says of itself."""
        flows, lanes = snapshot.get("flows"), snapshot.get("lanes")
        self._flows[worker] = _number(flows, "open") if isinstance(flows, Mapping) else 0
        self._begun[worker] = 0
        rows = [row for row in lanes if isinstance(row, Mapping)] if isinstance(lanes, list) else []
        total = sum(_number(row, "sent_bytes") + _number(row, "received_bytes") for row in rows)
        last = self._bytes[worker]
        self._bytes[worker] = total
        self._moved[worker] = max(total - last, 0) if last is not None else 0

    def forget(self, worker: int) -> None:
        """Begin anew with a worker that was replaced."""
        self._flows[worker] = self._begun[worker] = self._moved[worker] = 0
        self._bytes[worker] = None

    def scores(self) -> tuple[float, ...]:
        """Return the load of each worker, in connections."""
        moved = max(sum(self._moved), BUSY)
        return tuple(
            flows + begun + BYTES_WEIGHT * share / moved
            for flows, begun, share in zip(self._flows, self._begun, self._moved, strict=True)
        )

    def least(self, workers: Iterable[int]) -> int:
        """Return the one of ``workers`` that has least to do."""
        scores = self.scores()
        return min(workers, key=lambda worker: (scores[worker], worker))


def _number(row: Mapping[str, object], name: str) -> int:
    value = row.get(name)
    return int(value) if isinstance(value, int | float) else 0
