"""At which batch sizes each engine would serve on this machine, and by how much the others fall short.

An engine that is best only for batches larger than any that a worker submits never serves, and is told so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from accel.calibration import Shape
from accel.engine import Operation, Provenance
from accel.gates import LAST, kind_of
from accel.planning import Goal, Ladder, Pick, territories
from accel.profile import Cell
from accel.registry import Choice, Survey
from accel.report import EngineReport

NEVER, UNKNOWN = "never on this machine", "nothing was measured of it"
MostRows = Callable[[Shape], int]
"""How many rows, or spans, a worker submits at once at most."""
_MEASURES = {Goal.THROUGHPUT: "wall time", Goal.CPU: "CPU time", Goal.LATENCY: "99th percentile"}
_EXACT = 10.0
"""Ratios below it are told with two decimals."""


@dataclass(frozen=True)
class Range:
    """One engine, for rows of one shape or of all.

    Attributes
    ----------
    shape
        As it is measured; empty = none, for whatever stands against the engine holds for all.
    spans
        (first, last) rows of the batches that it would serve, ascending; empty = never.
    most
        Rows of the largest batch that a worker submits; 0 with an empty shape.
    reason, next_step
        Why never, and what would help; empty where there is nothing to say.
    """

    engine: str
    provenance: Provenance
    shape: str = ""
    spans: tuple[tuple[int, int], ...] = ()
    most: int = 0
    reason: str = ""
    next_step: str = ""

    @property
    def verdict(self) -> str:
        """Say for which batches."""
        if not self.spans:
            return self.reason if self.reason == UNKNOWN else f"{NEVER}: {self.reason}"
        return ", ".join(self._words(*span) for span in self.spans)

    def _words(self, first: int, last: int) -> str:
        if first == 1:
            return "all" if last == self.most else f"up to {last}"
        return f"from {first} on" if last == self.most else f"{first} to {last}"

    def document(self) -> dict[str, object]:
        """Return it as JSON."""
        return {
            "engine": self.engine,
            "provenance": self.provenance.value,
            "shape": self.shape,
            "largest_batch": self.most or None,
            "batches": [list(span) for span in self.spans],
            "verdict": self.verdict,
            "next_step": self.next_step,
        }


def ranges(found: Survey, operation: Operation, cells: Sequence[Cell], goal: Goal, most: MostRows) -> list[Range]:
    """Return where every engine that VANTUN knows for an operation would serve, in the order of the survey.

    ``found`` has a choice for the operation; ``cells`` are what was measured of it.
    """
    choice = found.chosen[operation]
    told = []
    for report in found.reports:
        if kind_of(operation) in report.kinds:
            obstacle = _obstacle(report, operation, choice)
            if obstacle:
                told.append(Range(report.name, report.provenance, reason=obstacle[0], next_step=obstacle[1]))
            else:
                told += [_range(report, shape, choice, cells, (goal, most(shape))) for shape in deciding(operation)]
    return told


def deciding(operation: Operation) -> list[Shape]:
    """Return the shapes that decide, lightest first; see :func:`accel.planning.plan`."""
    return [shape for _, shape in territories(operation)]


def _obstacle(report: EngineReport, operation: Operation, choice: Choice) -> tuple[str, str] | None:
    """Say what keeps an engine from serving rows of any size, and the next step."""
    each = next(each for each in report.operations if each.operation is operation)
    if each.self_test != "PASS":
        return each.reason, report.next_step
    if report.name == LAST and LAST not in choice.names:
        return "it stands in when every other engine has failed", ""
    return None


def _range(report: EngineReport, shape: Shape, choice: Choice, cells: Sequence[Cell], by: tuple[Goal, int]) -> Range:
    goal, most = by
    ladder = choice.plan[max(size for size in choice.plan if size <= shape.octets)]
    ends = [start - 1 for start, _ in ladder[1:]] + [most]
    steps = [
        (max(start, 1), min(end, most))
        for (start, pick), end in zip(ladder, ends, strict=True)
        if pick.engine == report.name
    ]
    spans = tuple(step for step in steps if step[0] <= most)
    reason = next_step = ""
    if steps and not spans:
        reason = f"from {steps[0][0]} rows on, and a worker submits {most} at most"
    elif not spans:
        measured = [cell for cell in cells if cell.shape == str(shape) and cell.batch <= most]
        reason, next_step = _shortfall(report.name, ladder, measured, goal)
    return Range(report.name, report.provenance, str(shape), spans, most, reason, next_step)


def _shortfall(name: str, ladder: Ladder, measured: Sequence[Cell], goal: Goal) -> tuple[str, str]:
    """Say why an engine serves no batch: by how much it is behind where it comes nearest; and the next step."""
    named = next((pick.engine for _, pick in ladder if pick.reason.startswith("named")), "")
    if named:
        return f"{named} is named in the configuration", ""
    mine = {cell.batch: cell for cell in measured if cell.engine == name}
    nearest: tuple[float, Cell, Pick] | None = None
    for batch, cell in mine.items():
        pick = [step for step in ladder if step[0] <= batch][-1][1]
        theirs = next((each for each in measured if each.engine == pick.engine and each.batch == batch), None)
        if theirs is not None and (nearest is None or goal.of(cell) / goal.of(theirs) < nearest[0]):
            nearest = goal.of(cell) / goal.of(theirs), cell, pick
    if nearest is None:
        return UNKNOWN, "`vantun accel probe --deep` measures now"
    ratio, cell, pick = nearest
    if ratio <= 1:
        return f"{pick.engine} ranks higher, and is at most {100 * (1 / ratio - 1):.0f} % behind", ""
    times = f"{ratio:.2f}" if ratio < _EXACT else f"{ratio:.0f}"
    return f"at best {times} times the {_MEASURES[goal]} of {pick.engine}, at {cell.batch}", ""
