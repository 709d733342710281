"""From measurements and wishes to who serves: for every weight of a row (accel/weight.py) and size of batch.

Every shape that was measured decides for the rows that are nearest to it in weight, by their ratio.

A wish decides without measurement: of those that begin at or below a batch size, the one that begins last, then the one
named first. Else the best by the goal, where whoever is within 15 % of it and ranks higher is preferred; without any
measurement the first by rank.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from accel.calibration import Shape, shapes_of
from accel.engine import Operation
from accel.preference import Preference
from accel.profile import Cell

MARGIN = 1.15
"""How much better the best must be than an engine of higher rank."""


class Goal(Enum):
    """Which measurement decides."""

    THROUGHPUT = "throughput"
    """Wall time of a batch."""
    CPU = "cpu"
    """CPU time of a batch."""
    LATENCY = "latency"
    """99th percentile of a batch's wall time."""

    def of(self, cell: Cell) -> float:
        """Return the measurement, nanoseconds; less is better."""
        return {Goal.THROUGHPUT: cell.wall_ns, Goal.CPU: cell.cpu_ns, Goal.LATENCY: cell.p99_ns}[self]


@dataclass(frozen=True)
class Pick:
    """The engine for one batch size.

    Attributes
    ----------
    cells
        What was measured of every candidate that decided; empty when nothing did.
    """

    engine: str
    reason: str
    cells: tuple[Cell, ...] = ()


Ladder = tuple[tuple[int, Pick], ...]
"""(from how many rows on, pick), ascending, the first from 0."""


def plan(
    operation: Operation, candidates: Sequence[str], preference: Preference, cells: Sequence[Cell], goal: Goal
) -> dict[int, Ladder]:
    """Return weight of a row -> ladder; the first weight is 0 and holds for everything below the next.

    ``candidates`` are the usable engines by rank, those that were named by name among them; at least one.
    """
    sizes: dict[int, Ladder] = {}
    starts = {wish.from_batch for wish in preference.wishes if wish.from_batch > 1 and wish.name in candidates}
    for begin, shape in territories(operation):
        measured = [cell for cell in cells if cell.shape == str(shape) and cell.engine in candidates]
        steps: list[tuple[int, Pick]] = []
        for batch in sorted({0, *starts, *(cell.batch for cell in measured if cell.batch > 1)}):
            pick = choose_for(candidates, preference, measured, goal, max(batch, 1))
            if not steps or steps[-1][1].engine != pick.engine:
                steps.append((batch, pick))
        sizes[begin] = tuple(steps)
    ladders = iter(sizes.items())
    kept = dict([next(ladders)])
    for size, ladder in ladders:
        last = max(kept)
        if names(ladder) != names(kept[last]):
            kept[size] = ladder
        elif not kept[last][0][1].cells:
            kept[last] = ladder  # the same engines, for a better reason
    return kept


def territories(operation: Operation) -> list[tuple[int, Shape]]:
    """Return the shapes that decide, lightest first, each behind the weight from which on it is the nearest."""
    shapes = sorted(shapes_of(operation), key=lambda shape: shape.octets)
    between = [math.isqrt(a.octets * b.octets) + 1 for a, b in itertools.pairwise(shapes)]
    return list(zip([0, *between], shapes, strict=True))


def names(ladder: Ladder) -> list[tuple[int, str]]:
    """Return who serves from how many rows on."""
    return [(start, pick.engine) for start, pick in ladder]


def choose_for(
    candidates: Sequence[str], preference: Preference, measured: Sequence[Cell], goal: Goal, batch: int
) -> Pick:
    """Return the engine for one batch size; ``measured`` are cells of one shape."""
    wishes = [wish for wish in preference.wishes if wish.name in candidates and max(wish.from_batch, 1) <= batch]
    if wishes:
        wish = max(wishes, key=lambda wish: max(wish.from_batch, 1))
        since = f" from {wish.from_batch} rows on" if wish.from_batch > 1 else ""
        return Pick(wish.name, f"named in the configuration{since}", _at(measured, batch, candidates))
    pinned = {wish.name for wish in preference.wishes if wish.from_batch > batch}
    free = [name for name in candidates if name not in pinned] or list(candidates)
    cells = {cell.engine: cell for cell in _at(measured, batch, free)}
    if not cells:
        return Pick(free[0], "first by rank; nothing was measured")
    best = min(cells.values(), key=goal.of)
    chosen = next(name for name in free if name in cells and goal.of(cells[name]) <= MARGIN * goal.of(best))
    if len(cells) == 1:
        reason = "the only one that was measured"
    elif chosen == best.engine:
        reason = f"measured best for {goal.value}"
    else:
        reason = f"ranks higher, and within 15 % of {best.engine}, which measured best for {goal.value}"
    return Pick(chosen, reason, tuple(cells.values()))


def _at(measured: Sequence[Cell], batch: int, some: Sequence[str]) -> tuple[Cell, ...]:
    """Return the cells of the largest measured batch that is not larger, or of the smallest, for each engine."""
    found: dict[str, Cell] = {}
    for cell in sorted(measured, key=lambda cell: cell.batch):
        if cell.engine in some and (cell.batch <= batch or cell.engine not in found):
            found[cell.engine] = cell
    return tuple(found[name] for name in some if name in found)
