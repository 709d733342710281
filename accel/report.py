"""What ``vantun accel probe`` says of each engine, and of each of its operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from accel.catalogue import Kind, Row
from accel.engine import Maturity, Operation, Provenance
from accel.life import State
from accel.profile import Cell
from accel.selftest import Verdict
from accel.sight import Sighting

SHOWN = (1, 32, 256)
"""Batch sizes of the figures."""


@dataclass(frozen=True)
class OperationReport:
    """An engine and an operation.

    Attributes
    ----------
    state
        How far it has come on this machine.
    self_test
        ``"PASS"``, ``"FAIL"``, or empty when there was none to run.
    cells
        What was measured in the shape of full packets, by batch size; see SHOWN.
    selected
        What it is used for, e.g. ``"16 rows and more"``; empty when it is not.
    kernels
        What the engine has measured of its own kernels, in words, and which serve.
    """

    operation: Operation
    state: State
    self_test: str
    reason: str
    cells: Mapping[int, Cell] = field(default_factory=dict)
    selected: str = ""
    kernels: tuple[str, ...] = ()

    def document(self) -> dict[str, object]:
        """Return the row as JSON."""
        return {
            "operation": self.operation.value,
            "state": self.state.value,
            "self_test": self.self_test,
            "reason": self.reason,
            "selected_for": self.selected,
            "kernels": list(self.kernels),
            "shape": next((cell.shape for cell in self.cells.values()), ""),
            "batches": {
                str(batch): {"ns_per_packet": round(cell.ns_per_row, 1), "gb_per_s": round(cell.gigabytes, 3)}
                for batch, cell in self.cells.items()
            },
        }


@dataclass(frozen=True)
class EngineReport:
    """An engine.

    Attributes
    ----------
    kinds
        What the engine computes, or will.
    present
        Whether its device, or the library that stands for it, was seen.
    usable
        Operations that it has passed the self-test of.
    selected
        Operations that it serves under the preferences in force.
    reason, next_step
        Why it is usable or not; what to do if it is wanted.
    seen, missing
        What the look at the machine found, and what it did not.
    operations
        Each operation by itself.
    """

    name: str
    kinds: tuple[Kind, ...]
    present: bool
    usable: tuple[Operation, ...]
    selected: tuple[Operation, ...]
    provenance: Provenance
    maturity: Maturity
    through: str
    reason: str
    next_step: str
    seen: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    operations: tuple[OperationReport, ...] = ()

    def document(self) -> dict[str, object]:
        """Return the row as JSON."""
        return {
            "engine": self.name,
            "kinds": [kind.value for kind in self.kinds],
            "present": self.present,
            "usable": bool(self.usable),
            "operations": [operation.value for operation in self.usable],
            "selected": [operation.value for operation in self.selected],
            "provenance": self.provenance.value,
            "maturity": self.maturity.value,
            "through": self.through,
            "reason": self.reason,
            "next_step": self.next_step,
            "seen": list(self.seen),
            "missing": list(self.missing),
            "by_operation": [each.document() for each in self.operations],
        }


def explain_row(row: Row, sight: Sighting, verdicts: Mapping[Operation, Verdict]) -> tuple[str, str]:
    """Return why an engine is usable or not, and the next step of somebody who wants it."""
    if not row.make:
        if row.through == "plug-in":
            return sight.missing[0], row.needs
        found = f"seen: {sight.seen[0]}" if sight.present else f"not found: {sight.missing[0]}"
        step = "a later version brings it" if sight.present else f"a later version brings it; it will need {row.needs}"
        return f"no engine in this version ({found})", step
    if sight.present and not verdicts:
        return "an emulator, which is not tried", "to try it all the same, set accel.allow_emulated"
    failed = [verdict.reason for verdict in verdicts.values() if not verdict.passed]
    if failed:
        step = f"it needs {row.needs}" if sight.missing else "please report it, with the output of this command"
        return "; ".join(dict.fromkeys(failed)), step
    absent = [kind.value for kind in row.kinds if kind not in row.make]
    if absent:
        return f"self-test passed; no {' or '.join(absent)} in this version", "nothing to do"
    return "self-test passed", "nothing to do"
