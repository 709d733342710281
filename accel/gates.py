"""The gates that an engine passes before it can be chosen: a look, a child process, the self-test. Each only once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from accel.catalogue import CATALOGUE, Kind, Row
from accel.child import Trial, try_in_child
from accel.engine import Engine, Operation
from accel.profile import Finding, NoProfile, Profile
from accel.reference.engine import ReferenceEngine
from accel.selftest import Verdict, self_test
from accel.sight import Sighting
from drivers.errors import DriverError

ROOT = Path("/")
LAST = "reference"
"""The engine that can do everything, everywhere."""


def kind_of(operation: Operation) -> Kind:
    """Return the kind of engine that does an operation."""
    return next(kind for kind in Kind if operation in kind.operations)


class Gates:
    """The engines of one machine; each is looked for, made and tested once, when first asked for.

    Attributes
    ----------
    rows
        Name -> row of the catalogue, by rank.
    profile
        What was measured before, if there is anything.
    emulated
        Whether emulators are tried, too.
    later
        Name -> why it is not tried yet, of engines whose devices somebody opens beside what goes on.
    """

    def __init__(
        self,
        sysroot: Path = ROOT,
        catalogue: Sequence[Row] = CATALOGUE,
        profile: Profile | NoProfile | None = None,
        *,
        isolated: bool = False,
        plugins: Sequence[str] = (),
        attempt: Callable[[Sequence[Trial], Sequence[str], float], Mapping[Trial, Finding]] = try_in_child,
    ) -> None:
        """Begin with nothing known; ``isolated`` = this is the child process, foreign libraries are loaded here."""
        self.rows = {row.name: row for row in catalogue}
        self.profile: Profile | None = None
        self.emulated = False
        self.later: dict[str, str] = {}
        self._sysroot = sysroot
        self._isolated = isolated
        self._plugins = tuple(plugins)
        self._attempt = attempt
        self._sightings: dict[str, Sighting] = {}
        self._engines: dict[tuple[str, Kind], Engine | str] = {}
        self._tried: dict[Trial, Finding] = {}
        self._verdicts: dict[Trial, Verdict] = {}
        self.learn(profile)

    def learn(self, profile: Profile | NoProfile | None) -> None:
        """Go by another profile from now on."""
        self.profile = profile if isinstance(profile, Profile) else None
        known = {operation.value: operation for operation in Operation}
        for name, verdicts in self.profile.tested.items() if self.profile is not None else ():
            for operation, tested in verdicts.items():
                if operation in known:
                    self._tried[name, known[operation]] = tested

    def change(self, rows: Iterable[Row]) -> None:
        """Have other rows in the place of those of the same names, and forget what is known of them."""
        for row in rows:
            self.rows[row.name] = row
            self._sightings.pop(row.name, None)
            for kind in Kind:
                self._engines.pop((row.name, kind), None)
            for operation in Operation:
                self._verdicts.pop((row.name, operation), None)

    def sight(self, row: Row) -> Sighting:
        """Return what a look at the machine finds of an engine."""
        if row.name not in self._sightings:
            self._sightings[row.name] = row.look(self._sysroot)
        return self._sightings[row.name]

    def _engine(self, name: str, kind: Kind) -> Engine | str:
        """Return the engine, or why it cannot be made."""
        if (name, kind) not in self._engines:
            try:
                self._engines[name, kind] = self.rows[name].make[kind]()
            except Exception as error:  # a library's or a plug-in's mistake is a reason
                self._engines[name, kind] = f"it cannot be loaded: {type(error).__name__}: {error}"
        return self._engines[name, kind]

    def made(self, name: str, operation: Operation) -> Engine:
        """Return an engine that can be made. Raises DriverError."""
        engine = self._engine(name, kind_of(operation))
        if isinstance(engine, str):
            raise DriverError(f"{name}: {engine}")
        return engine

    def verdict(self, name: str, operation: Operation) -> Verdict:
        """Return whether the engine ``name`` may serve an operation; it is opened and tested for that, here.

        One of a foreign library is tried in a child process first; those of ``later`` are not usable yet.
        """
        return Verdict(passed=False, reason=self.later[name]) if name in self.later else self.try_now(name, operation)

    def known(self, name: str, operation: Operation) -> bool:
        """Whether the engine was opened and tested in this process."""
        return (name, operation) in self._verdicts

    def try_now(self, name: str, operation: Operation) -> Verdict:
        """Return the same, also of those that are for later."""
        if (name, operation) not in self._verdicts:
            row = self.rows[name]
            gone = self._gone(row, operation)
            verdict = Verdict(passed=False, reason=gone)
            if not gone:
                first = row.foreign and not self._isolated
                verdict = self.glance(name, operation) if first else self._test(row, operation)
                if first and verdict.passed:
                    verdict = self._test(row, operation)
            self._verdicts[name, operation] = verdict
        return self._verdicts[name, operation]

    def glance(self, name: str, operation: Operation) -> Verdict:
        """Return what is known, or can be found out without loading a foreign library into this process."""
        row = self.rows[name]
        gone = self._gone(row, operation)
        if gone:
            return Verdict(passed=False, reason=gone)
        if (name, operation) not in self._verdicts and (name, operation) not in self._tried:
            if not row.foreign or self._isolated:
                return self.verdict(name, operation)
            trials = [(name, each) for each in kind_of(operation).operations]
            self._tried |= self._attempt(trials, self._plugins, row.patience)
        known = self._verdicts.get((name, operation)) or self._tried[name, operation]
        return Verdict(known.passed, known.reason, known.kernels)

    def try_all(self) -> None:
        """Have one child process try every foreign engine of which nothing is known."""
        trials = [
            (row.name, operation)
            for row in self.rows.values()
            for kind in row.make
            for operation in kind.operations
            if row.foreign and (row.name, operation) not in self._tried and not self._idle(row, operation)
        ]
        if trials and not self._isolated:
            patience = max(self.rows[name].patience for name, _ in trials)
            self._tried |= self._attempt(trials, self._plugins, patience)

    def _idle(self, row: Row, operation: Operation) -> bool:
        """Whether nobody asks for it: it is not there, or an emulator where none is allowed."""
        return bool(self._gone(row, operation)) or (row.emulated and not self.emulated)

    def _gone(self, row: Row, operation: Operation) -> str:
        """Say why there is nothing to test; empty when there is."""
        if kind_of(operation) not in row.make:
            return "this version of VANTUN has no such engine"
        sight = self.sight(row)
        return "" if sight.present else f"not found: {', '.join(sight.missing)}"

    def _test(self, row: Row, operation: Operation) -> Verdict:
        engine = self._engine(row.name, kind_of(operation))
        if isinstance(engine, ReferenceEngine):  # to compare it with itself would take half of a worker's start
            return Verdict(passed=True, reason="it is the definition")
        return Verdict(passed=False, reason=engine) if isinstance(engine, str) else self_test(engine, operation)

    def tested(self) -> dict[str, dict[str, Finding]]:
        """Return every verdict that there is to be had, for a profile."""
        self.try_all()
        found: dict[str, dict[str, Finding]] = {}
        for row in self.rows.values():
            for operation in (operation for kind in row.make for operation in kind.operations):
                if self.sight(row).present and not self._idle(row, operation):
                    verdict = self.glance(row.name, operation)
                    finding = Finding(verdict.passed, verdict.reason, verdict.kernels)
                    found.setdefault(row.name, {})[operation.value] = finding
        return found

    def passed(self, operation: Operation, *, spared: Iterable[str] = (LAST,)) -> list[Engine]:
        """Return the engines that have passed for an operation, by rank, to be measured; it loads them."""
        return [
            self.made(row.name, operation)
            for row in self.rows.values()
            if row.name not in spared and not self._idle(row, operation) and self.verdict(row.name, operation).passed
        ]
