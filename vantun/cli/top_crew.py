"""What `vantun top` makes of an appliance with several data workers, whose counters are sums."""

from __future__ import annotations

from collections.abc import Mapping

from vantun.cli.status_rows import Row, number, rows_of


def _crew(status: Row) -> dict[str, Row]:
    """Return the workers of an appliance that has several, by process id."""
    life = status.get("workers")
    each = rows_of(life, "each") if isinstance(life, Mapping) and number(status, "crew") > 1 else []
    return {str(worker.get("pid")): worker for worker in each}


def crew_changed(before: Row, after: Row) -> bool:
    """Tell whether one of several workers was lost or replaced: sums fall then, and say nothing of what happened."""
    same = before.get("pid") == after.get("pid")
    return same and _crew(before).keys() != _crew(after).keys()


def busiest(before: Row, after: Row, only: tuple[Row, Row]) -> tuple[Row, Row]:
    """Return the worker that has been busiest, as it is and was, since it is what limits; ``only`` if there is one."""
    known = _crew(before)
    pairs: list[tuple[Row, Row]] = [(row, known.get(pid, {})) for pid, row in _crew(after).items()]
    return max(pairs, key=lambda pair: number(pair[0], "cpu_s") - number(pair[1], "cpu_s"), default=only)
