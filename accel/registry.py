"""Which engine serves: declared -> probed -> opened -> self-tested -> calibrated -> serving.

Absence, and a failed self-test, are values with a reason and a next step. Only a self-tested engine can be chosen. An
engine of a foreign library is tried in a child process before this one loads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from accel.calibration import shapes_of
from accel.catalogue import Kind, Row
from accel.engine import Engine, Operation, Provenance
from accel.gates import LAST, ROOT, Gates, kind_of
from accel.life import State
from accel.planning import Goal, Ladder, plan
from accel.preference import Preference, Wish, parse
from accel.profile import Finding, Measured
from accel.report import SHOWN, EngineReport, OperationReport, explain_row
from accel.rung import Step
from accel.selftest import Verdict
from drivers.errors import DriverError

_NOT_TRIED = Finding(passed=True, reason="")
_MAIN = 64
"""Rows of the batch whose engine stands for all where one name has to do."""


@dataclass(frozen=True)
class Preferences:
    """What the section ``accel`` of a configuration says, as it is written there; see :mod:`accel.preference`."""

    fec: str = ""
    aead: str = ""
    allow_emulated: bool = False
    goal: Goal = Goal.THROUGHPUT
    plugins: tuple[str, ...] = ()

    def of(self, kind: Kind) -> str:
        """Return the list for one kind of engine."""
        return self.fec if kind is Kind.FEC else self.aead


@dataclass(frozen=True)
class Choice:
    """Who serves an operation.

    Attributes
    ----------
    engine
        The engine for large batches of large rows.
    reason
        Why this one.
    degraded
        Whether it stands in for one that was wanted, by name or by rank, and cannot serve.
    spares
        Software engines that do what it does not do, best first; none with ``only:``.
    plan
        Weight of a row -> ladder by batch size: names and reasons.
    ladders
        The same, as :meth:`accel.serving.Serving.adopt` takes it.
    """

    engine: Engine
    reason: str
    degraded: bool = False
    spares: tuple[Engine, ...] = ()
    plan: Mapping[int, Ladder] = field(default_factory=dict)
    ladders: Mapping[int, tuple[Step, ...]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Every engine that serves some batch, without repetition."""
        return list(dict.fromkeys(pick.engine for ladder in self.plan.values() for _, pick in ladder))


@dataclass(frozen=True)
class Survey:
    """Every row, what was chosen, and what stands against choosing (one message for each kind of engine at most)."""

    reports: tuple[EngineReport, ...]
    chosen: dict[Operation, Choice] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def degraded(self) -> bool:
        """Whether an operation has no engine, or not the one that was wanted."""
        return bool(self.problems) or any(choice.degraded for choice in self.chosen.values())


class Registry(Gates):
    """Chooses among the engines of one machine."""

    def choose(self, preferences: Preferences) -> dict[Operation, Choice]:
        """Return who serves every operation; each engine has passed its self-test in this process.

        Raises
        ------
        DriverError
            When the preferences cannot be read, or leave an operation without an engine.
        """
        return {
            operation: choice
            for kind in Kind
            for operation, choice in self._choose(kind, preferences, self.verdict).items()
        }

    def survey(self, preferences: Preferences) -> Survey:
        """Return every row and what would be chosen; never raises, and loads no foreign library."""
        chosen: dict[Operation, Choice] = {}
        problems = []
        self.emulated = preferences.allow_emulated
        self.try_all()
        for kind in Kind:
            try:
                chosen |= self._choose(kind, preferences, self.glance)
            except DriverError as error:
                problems.append(str(error))
        reports = tuple(self._report(row, chosen) for row in self.rows.values())
        return Survey(reports, chosen, tuple(problems))

    def planned(self, preferences: Preferences) -> dict[str, frozenset[Operation]]:
        """Return engine -> operations that it is to serve by wishes and measurements; nothing is made or tested.

        Raises DriverError when the preferences cannot be read.
        """
        found: dict[str, set[Operation]] = {}
        for kind in Kind:
            names, preference = self._preference(kind, preferences)
            for operation in kind.operations:
                usable = [
                    wish.name
                    for wish in self._candidates(kind, names, preference)
                    if not self._gone(self.rows[wish.name], operation)
                    and (preferences.allow_emulated or not self.rows[wish.name].emulated)
                    and self._tried.get((wish.name, operation), _NOT_TRIED).passed
                ]
                cells = self.profile.of(operation) if self.profile is not None else []
                ladders = plan(operation, usable, preference, cells, preferences.goal) if usable else {}
                for name in (pick.engine for ladder in ladders.values() for _, pick in ladder):
                    found.setdefault(name, set()).add(operation)
        return {name: frozenset(operations) for name, operations in found.items()}

    # --- choosing

    def _preference(self, kind: Kind, preferences: Preferences) -> tuple[list[str], Preference]:
        """Return the engines of a kind by rank, and what was said of them. Raises DriverError."""
        key = f"accel.{kind.value}"
        names = [
            row.name for row in sorted(self.rows.values(), key=lambda row: _lateness(row, kind)) if kind in row.kinds
        ]
        preference = parse(preferences.of(kind), names, key)
        return names, self._with_emulators(preference) if preferences.allow_emulated else preference

    def _choose(
        self, kind: Kind, preferences: Preferences, ask: Callable[[str, Operation], Verdict]
    ) -> dict[Operation, Choice]:
        names, preference = self._preference(kind, preferences)
        candidates = self._candidates(kind, names, preference)
        chosen: dict[Operation, Choice] = {}
        for operation in kind.operations:
            cells = self.profile.of(operation) if self.profile is not None else []
            obstacles: dict[str, str] = {}
            while True:
                usable = [wish.name for wish in candidates if wish.name not in obstacles]
                if not usable:
                    why = (
                        "; ".join(f"{name}: {text}" for name, text in obstacles.items()) or "every engine is forbidden"
                    )
                    step = "`vantun accel probe --verbose` says what each engine needs"
                    what = f"accel.{kind.value}: no engine can do {operation.value}"
                    raise DriverError(f"{what} ({why}); name another one, {step}")
                planned = plan(operation, usable, preference, cells, preferences.goal)
                wanted = dict.fromkeys(pick.engine for ladder in planned.values() for _, pick in ladder)
                found = {name: self._obstacle(name, operation, preferences, ask) for name in wanted}
                if not any(found.values()):
                    break
                obstacles |= {name: text for name, text in found.items() if text}
            optional = {wish.name for wish in candidates if wish.optional}
            chosen[operation] = self._choice(
                operation, planned, obstacles, degraded=bool(obstacles.keys() - optional), spares=(preference, ask)
            )
        return chosen

    def _candidates(self, kind: Kind, names: list[str], preference: Preference) -> list[Wish]:
        """Return the engines to try, in order; by themselves come those that this version has, and no emulator."""
        rest = [
            Wish(name, optional=self.rows[name].provenance is Provenance.SILICON)  # most machines have no such device
            for name in names
            if not preference.only
            and preference.wish(name) is None
            and name not in preference.forbidden
            and kind in self.rows[name].make
            and not self.rows[name].emulated
        ]
        return [*preference.wishes, *rest]

    def _with_emulators(self, preference: Preference) -> Preference:
        """Return a preference in which the emulator of an engine that is named comes right behind it."""
        wishes = []
        for wish in preference.wishes:
            wishes.append(wish)
            emulator = self.rows[wish.name].emulator
            if emulator and preference.wish(emulator) is None and emulator not in preference.forbidden:
                wishes.append(replace(wish, name=emulator))
        return replace(preference, wishes=tuple(wishes))

    def _obstacle(
        self, name: str, operation: Operation, preferences: Preferences, ask: Callable[[str, Operation], Verdict]
    ) -> str:
        """Say why an engine cannot serve; empty when it can."""
        row = self.rows[name]
        if row.emulated and not preferences.allow_emulated:
            return f"is no real device ({row.provenance.value}); set accel.allow_emulated to use it all the same"
        verdict = ask(name, operation)
        return "" if verdict.passed else verdict.reason

    def _choice(
        self,
        operation: Operation,
        planned: Mapping[int, Ladder],
        obstacles: Mapping[str, str],
        *,
        degraded: bool,
        spares: tuple[Preference, Callable[[str, Operation], Verdict]],
    ) -> Choice:
        full = next(shape.octets for shape in shapes_of(operation) if str(shape) == _FULL[kind_of(operation)])
        shown = planned[max(weight for weight in planned if weight <= full)]
        main = [pick for start, pick in shown if start <= _MAIN][-1]
        reason = main.reason
        if obstacles:
            reason = f"{reason}; passed over: {'; '.join(f'{name}: {text}' for name, text in obstacles.items())}"
        ladders = {
            size: tuple(
                Step(start, self.made(pick.engine, operation), self._expect(pick.engine, operation))
                for start, pick in ladder
            )
            for size, ladder in planned.items()
        }
        engine = self.made(main.engine, operation)
        return Choice(engine, reason, degraded, self._spares(engine, operation, *spares), planned, ladders)

    def _expect(self, name: str, operation: Operation) -> Measured | None:
        cells = self.profile.of(operation, name) if self.profile is not None else []
        return Measured(cells, cpu=self.rows[name].provenance is Provenance.CPU) if cells else None

    def _spares(
        self,
        engine: Engine,
        operation: Operation,
        preference: Preference,
        ask: Callable[[str, Operation], Verdict],
    ) -> tuple[Engine, ...]:
        """Return who stands in: the first of VANTUN's own CPU engines that is another one, and the reference.

        None of a foreign library: it would be loaded, in each process, for the case of a case.
        """
        kind = kind_of(operation)
        found: list[Engine] = []
        for row in self.rows.values():
            if (
                preference.only
                or row.foreign
                or row.name in (engine.name, *preference.forbidden)
                or kind not in row.make
            ):
                continue
            last = row.name == LAST
            if row.provenance is Provenance.CPU and (last or not found) and ask(row.name, operation).passed:
                found.append(self.made(row.name, operation))
        return tuple(found)

    # --- reports

    def _report(self, row: Row, chosen: Mapping[Operation, Choice]) -> EngineReport:
        sight = self.sight(row)
        operations = [operation for kind in row.make for operation in kind.operations]
        asked = self.emulated or not (row.emulated and sight.present)
        verdicts = {operation: self.glance(row.name, operation) for operation in operations if asked}
        usable = tuple(operation for operation, verdict in verdicts.items() if verdict.passed)
        reason, next_step = explain_row(row, sight, verdicts)
        every = [operation for kind in row.kinds for operation in kind.operations]
        reports = [self._operation(row, operation, verdicts.get(operation), chosen, reason) for operation in every]
        return EngineReport(
            name=row.name,
            kinds=row.kinds,
            present=sight.present,
            usable=usable,
            selected=tuple(operation for operation, choice in chosen.items() if row.name in choice.names),
            provenance=row.provenance,
            maturity=row.maturity,
            through=row.through,
            reason=reason,
            next_step=next_step,
            seen=sight.seen,
            missing=sight.missing,
            operations=tuple(reports),
        )

    def _operation(
        self,
        row: Row,
        operation: Operation,
        verdict: Verdict | None,
        chosen: Mapping[Operation, Choice],
        reason: str,
    ) -> OperationReport:
        cells = self.profile.of(operation, row.name) if self.profile is not None else []
        full = {cell.batch: cell for cell in cells if cell.shape == _FULL[kind_of(operation)] and cell.batch in SHOWN}
        selected = _spans_of(row.name, chosen[operation].plan) if operation in chosen else ""
        if verdict is None or not self.sight(row).present:
            state = State.PROBED if self.sight(row).present else State.DECLARED
            return OperationReport(operation, state, "", reason)
        if not verdict.passed:
            return OperationReport(operation, State.PROBED, "FAIL", verdict.reason)
        state = State.SERVING if selected else State.CALIBRATED if full else State.SELF_TESTED
        return OperationReport(operation, state, "PASS", verdict.reason, full, selected, verdict.kernels)


_FULL = {Kind.FEC: "(10,4) 1200 B", Kind.AEAD: "1350 B"}
"""The shape whose figures are shown."""


def _spans_of(name: str, planned: Mapping[int, Ladder]) -> str:
    """Say for which batches an engine serves, of the largest rows, else of smaller ones."""
    for size in sorted(planned, reverse=True):
        ladder = planned[size]
        ends = [start for start, _ in ladder[1:]]
        spans = []
        for (start, pick), end in zip(ladder, [*ends, 0], strict=True):
            if pick.engine == name:
                spans.append("all" if not start and not end else f"{max(start, 1)}-{end - 1}" if end else f"{start}+")
        if spans:
            small = size != max(planned)
            return ", ".join(spans) + (f" (rows below {min(s for s in planned if s > size)} B)" if small else "")
    return ""


def choose(preferences: Preferences, sysroot: Path = ROOT) -> dict[Operation, Choice]:
    """Return the engine of every operation; each has passed its self-test against the reference.

    Raises
    ------
    DriverError
        When the preferences cannot be read, or leave an operation without an engine: what, why, and the next step.
    """
    return Registry(sysroot).choose(preferences)


def survey(preferences: Preferences, sysroot: Path = ROOT) -> Survey:
    """Return every row, what would be chosen, and what stands against it; never raises."""
    return Registry(sysroot).survey(preferences)


def probe_all(preferences: Preferences, sysroot: Path = ROOT) -> list[EngineReport]:
    """Return every row; never raises."""
    return list(survey(preferences, sysroot).reports)


def _lateness(row: Row, kind: Kind) -> int:
    """Return 0 for an engine that ranks where it stands, 1 for one behind those, 2 for the reference."""
    return 2 if row.name == LAST else int(row.late(kind))
