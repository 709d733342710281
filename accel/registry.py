"""Which engine serves: declared -> probed -> opened -> self-tested -> serving.

Absence, and a failed self-test, are values with a reason and a next step. Only a self-tested engine can be chosen, and
the choice is made once, when a worker starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from accel.catalogue import CATALOGUE, Kind, Row
from accel.engine import Engine, Maturity, Operation, Provenance
from accel.preference import Preference, Wish, parse
from accel.selftest import Verdict, self_test
from accel.sight import Sighting
from drivers.errors import DriverError

ROOT = Path("/")
_LAST = "reference"
"""The engine that can do everything, everywhere."""


@dataclass(frozen=True)
class Preferences:
    """What the section ``accel`` of a configuration says, as it is written there; see :mod:`accel.preference`."""

    fec: str = ""
    aead: str = ""
    allow_emulated: bool = False

    def of(self, kind: Kind) -> str:
        """Return the list for one kind of engine."""
        return self.fec if kind is Kind.FEC else self.aead


@dataclass(frozen=True)
class Choice:
    """The engine that serves an operation.

    Attributes
    ----------
    reason
        Why this one.
    degraded
        Whether it stands in for one that was wanted, by name or by rank, and cannot serve.
    spares
        Software engines that do what it does not do, best first; none with ``only:``.
    """

    engine: Engine
    reason: str
    degraded: bool = False
    spares: tuple[Engine, ...] = ()


@dataclass(frozen=True)
class EngineReport:
    """A row of ``vantun accel probe``.

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
        }


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


class Registry:
    """The engines of one machine; each is looked for, made and tested once, when first asked for."""

    def __init__(self, sysroot: Path = ROOT, catalogue: Sequence[Row] = CATALOGUE) -> None:
        self._sysroot = sysroot
        self._rows = {row.name: row for row in catalogue}
        self._sightings: dict[str, Sighting] = {}
        self._engines: dict[tuple[str, Kind], Engine | str] = {}
        self._verdicts: dict[tuple[str, Operation], Verdict] = {}

    def choose(self, preferences: Preferences) -> dict[Operation, Choice]:
        """Return the engine of every operation.

        Raises
        ------
        DriverError
            When the preferences cannot be read, or leave an operation without an engine.
        """
        return {operation: choice for kind in Kind for operation, choice in self._choose(kind, preferences).items()}

    def survey(self, preferences: Preferences) -> Survey:
        """Return every row and what would be chosen; never raises."""
        chosen: dict[Operation, Choice] = {}
        problems = []
        for kind in Kind:
            try:
                chosen |= self._choose(kind, preferences)
            except DriverError as error:
                problems.append(str(error))
        reports = tuple(self._report(row, chosen) for row in self._rows.values())
        return Survey(reports, chosen, tuple(problems))

    def _choose(self, kind: Kind, preferences: Preferences) -> dict[Operation, Choice]:
        key = f"accel.{kind.value}"
        names = [row.name for row in self._rows.values() if kind in row.kinds]
        preference = parse(preferences.of(kind), names, key)
        candidates = self._candidates(kind, names, preference)
        chosen: dict[Operation, Choice] = {}
        for operation in kind.operations:
            passed_over: list[str] = []
            degraded = False
            for wish in candidates:
                obstacle = self._obstacle(wish, operation, preference, allow_emulated=preferences.allow_emulated)
                if not obstacle:
                    choice = self._choice(wish, kind, preference, passed_over, degraded=degraded)
                    chosen[operation] = replace(choice, spares=self._spares(choice.engine, operation, preference))
                    break
                passed_over.append(f"{wish.name}: {obstacle}")
                degraded |= not wish.optional
            else:
                why = "; ".join(passed_over) or "every engine is forbidden"
                step = "`vantun accel probe --verbose` says what each engine needs"
                raise DriverError(f"{key}: no engine can do {operation.value} ({why}); name another one, {step}")
        return chosen

    def _candidates(self, kind: Kind, names: list[str], preference: Preference) -> list[Wish]:
        """Return the engines to try, in order; by themselves come those that this version has, and no emulator."""
        rest = [
            Wish(name)
            for name in names
            if not preference.only
            and preference.wish(name) is None
            and name not in preference.forbidden
            and kind in self._rows[name].make
            and not self._rows[name].emulated
        ]
        return [*preference.wishes, *rest]

    def _obstacle(self, wish: Wish, operation: Operation, preference: Preference, *, allow_emulated: bool) -> str:
        """Say why an engine cannot serve; empty when it can."""
        row = self._rows[wish.name]
        if row.emulated and not allow_emulated:
            return f"is no real device ({row.provenance.value}); set accel.allow_emulated to use it all the same"
        if wish.from_batch > 1:
            # The seam of calibration: without measurements a batch is never split among engines.
            return f"is wanted from {wish.from_batch} rows on, but this version chooses one engine for every batch"
        verdict = self.verdict(wish.name, operation)
        return "" if verdict.passed else verdict.reason

    def _choice(
        self, wish: Wish, kind: Kind, preference: Preference, passed_over: list[str], *, degraded: bool
    ) -> Choice:
        engine = self._engine(wish.name, kind)
        assert not isinstance(engine, str), "an engine that passed its self-test was made"
        reason = "named in the configuration" if preference.wish(wish.name) else "first by rank; nothing was measured"
        if passed_over:
            reason = f"{reason}; passed over: {'; '.join(passed_over)}"
        return Choice(engine, reason, degraded)

    def _spares(self, engine: Engine, operation: Operation, preference: Preference) -> tuple[Engine, ...]:
        """Return who stands in: the first CPU engine by rank that is another one and usable, and the reference."""
        kind = next(kind for kind in Kind if operation in kind.operations)
        found: list[Engine] = []
        for row in self._rows.values():
            if preference.only or row.name in (engine.name, *preference.forbidden) or kind not in row.make:
                continue
            last = row.name == _LAST
            if row.provenance is Provenance.CPU and (last or not found) and self.verdict(row.name, operation).passed:
                other = self._engine(row.name, kind)
                assert not isinstance(other, str), "an engine that passed its self-test was made"
                found.append(other)
        return tuple(found)

    def _sight(self, row: Row) -> Sighting:
        if row.name not in self._sightings:
            self._sightings[row.name] = row.look(self._sysroot)
        return self._sightings[row.name]

    def _engine(self, name: str, kind: Kind) -> Engine | str:
        """Return the engine, or why it cannot be made."""
        if (name, kind) not in self._engines:
            try:
                self._engines[name, kind] = self._rows[name].make[kind]()
            except (ImportError, OSError, DriverError) as error:
                self._engines[name, kind] = f"it cannot be loaded: {type(error).__name__}: {error}"
        return self._engines[name, kind]

    def verdict(self, name: str, operation: Operation) -> Verdict:
        """Return whether the engine ``name`` may serve an operation; it is opened and tested for that."""
        if (name, operation) not in self._verdicts:
            self._verdicts[name, operation] = self._test(self._rows[name], operation)
        return self._verdicts[name, operation]

    def _test(self, row: Row, operation: Operation) -> Verdict:
        kind = next(kind for kind in Kind if operation in kind.operations)
        if kind not in row.make:
            return Verdict(passed=False, reason="this version of VANTUN has no such engine")
        sight = self._sight(row)
        if not sight.present:
            return Verdict(passed=False, reason=f"not found: {', '.join(sight.missing)}")
        engine = self._engine(row.name, kind)
        if isinstance(engine, str):
            return Verdict(passed=False, reason=engine)
        return self_test(engine, operation)

    def _report(self, row: Row, chosen: dict[Operation, Choice]) -> EngineReport:
        sight = self._sight(row)
        operations = [operation for kind in row.make for operation in kind.operations]
        verdicts = {operation: self.verdict(row.name, operation) for operation in operations}
        usable = tuple(operation for operation, verdict in verdicts.items() if verdict.passed)
        selected = tuple(operation for operation, choice in chosen.items() if choice.engine.name == row.name)
        reason, next_step = _explain(row, sight, verdicts)
        return EngineReport(
            name=row.name,
            kinds=row.kinds,
            present=sight.present,
            usable=usable,
            selected=selected,
            provenance=row.provenance,
            maturity=row.maturity,
            through=row.through,
            reason=reason,
            next_step=next_step,
            seen=sight.seen,
            missing=sight.missing,
        )


def _explain(row: Row, sight: Sighting, verdicts: dict[Operation, Verdict]) -> tuple[str, str]:
    """Return why an engine is usable or not, and the next step of somebody who wants it."""
    if not row.make:
        found = f"seen: {sight.seen[0]}" if sight.present else f"not found: {sight.missing[0]}"
        step = "a later version brings it" if sight.present else f"a later version brings it; it will need {row.needs}"
        return f"no engine in this version ({found})", step
    failed = [verdict.reason for verdict in verdicts.values() if not verdict.passed]
    if failed:
        step = f"it needs {row.needs}" if not sight.present else "please report it, with the output of this command"
        return "; ".join(dict.fromkeys(failed)), step
    absent = [kind.value for kind in row.kinds if kind not in row.make]
    if absent:
        return f"self-test passed; no {' or '.join(absent)} in this version", "nothing to do"
    return "self-test passed", "nothing to do"


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
