"""The keys of a serving operation, held by every engine that may serve it."""

from __future__ import annotations

from collections.abc import Callable

from accel.engine import EngineSession, KeySpec, Operation
from accel.life import Cause
from accel.rung import Failure, Rung


class Keys:
    """The session of a serving operation: whatever is installed here, every engine that may serve holds."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.specs: dict[int, KeySpec] = {}
        self.rungs: list[Rung] = []
        self.on_failure: Callable[[Rung, Failure], None] = lambda _rung, _failure: None

    def install_key(self, slot: int, spec: KeySpec) -> None:
        """Make ``slot`` usable by jobs run from now on (AEAD operations only)."""
        for rung in self.rungs:
            self._tell(rung, lambda session: session.install_key(slot, spec))
        self.specs[slot] = spec

    def remove_key(self, slot: int) -> None:
        """Forget and wipe the key in ``slot``; unknown slots are ignored."""
        self.specs.pop(slot, None)
        for rung in self.rungs:
            self._tell(rung, lambda session: session.remove_key(slot))

    def close(self) -> None:
        """Release every engine and wipe every key."""
        self.specs.clear()
        for rung in self.rungs:
            self._tell(rung, lambda session: session.close())
            rung.late.clear()

    def _tell(self, rung: Rung, what: Callable[[EngineSession], None]) -> None:
        """Do something with a session; a device that cannot is out of service, and gets every key when it is back."""
        if rung.trusted:
            what(rung.session)
            return
        try:
            what(rung.session)
        except Exception as error:  # a sick engine's keys are no reason for an outage
            for _ in range(2):  # suspect is not enough: it lacks a key
                self.on_failure(rung, Failure(Cause.FAULT, f"keys: {type(error).__name__}: {error}"))
