"""The engines of a worker, as the configuration wants them and as they measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from accel.engine import Operation
from accel.registry import Choice
from accel.service.devices import SERVED
from accel.serving import Serving
from drivers.errors import DriverError
from vantun.accel_choice import make_registry, preferences, rows_of
from vantun.accel_known import known_profile
from vantun.config_accel import AccelConfig
from vantun.dataplane.context import Engines
from vantun.dataplane.opening import Opened, Opening, Watch

Services = Mapping[str, Sequence[str]]


class EngineRoom:
    """Chooses engines when the worker starts, and again when they were measured.

    Attributes
    ----------
    chosen
        Who serves each operation.
    problem
        Why the last change did not come about; empty when it did.
    opening
        Opens devices while software serves; None when there is nothing to open.
    """

    def __init__(self, config: AccelConfig, services: Services | None = None, number: int = 0) -> None:
        """Choose; raises DriverError.

        ``services`` is by engine the places of the services that have its devices, of which worker ``number`` uses one.
        """
        self._config = config
        self._number = number
        self._services = self._mine(services or {})
        self._preferences = preferences(config)
        self._registry = make_registry(config, known_profile(config), self._services)
        self.problem = ""
        self.opening: Opening | None = None
        self.chosen = self._choose()

    def _choose(self) -> dict[Operation, Choice]:
        """Choose, without devices that are still to be opened here unless nobody else may serve. Raises DriverError."""
        registry = self._registry
        if self.opening is None:
            registry.later = {name: f"{name} is being opened; software serves meanwhile" for name in self._unopened()}
        try:
            return registry.choose(self._preferences)
        except DriverError:
            if not registry.later or self.opening is not None:
                raise
            registry.later = {}
            return registry.choose(self._preferences)

    def _unopened(self) -> dict[str, list[Operation]]:
        """Return the engines that are to serve by devices which this process has not opened, with their operations."""
        found: dict[str, list[Operation]] = {}
        for name, operations in self._registry.planned(self._preferences).items():
            if name in SERVED and name not in self._services:
                new = [each for each in Operation if each in operations and not self._registry.known(name, each)]
                if new:
                    found[name] = new
        return found

    def attend(self, engines: Engines, watch: Watch) -> Callable[[bool, Services], None]:
        """Open beside what goes on what was put off; return what retunes, with ``clear`` and services."""

        def retune(clear: bool, services: Services) -> None:  # noqa: FBT001 - as the loop calls it
            self.retune(engines, clear=clear, services=services)
            self.open_beside(engines, watch)

        self.open_beside(engines, watch)
        return retune

    def open_beside(self, engines: Engines, watch: Watch) -> None:
        """Begin to open what was put off; ``watch`` has a function called when a descriptor becomes readable."""
        self._note(engines)
        if self._registry.later and self.opening is None:
            wanted = {name: each for name, each in self._unopened().items() if name in self._registry.later}
            self.opening = opening = Opening(self._registry, wanted)
            watch(opening.descriptor, lambda: self._opened(engines, watch))

    def _opened(self, engines: Engines, watch: Watch) -> None:
        """Serve by what was opened, as far as it is right."""
        opening, self.opening = self.opening, None
        if opening is None:
            return
        sessions = opening.finish()
        self._serve(engines, sessions)
        for session in (session for each in sessions.values() for session in each.values()):
            session.close()  # nobody wants it any more
        self.open_beside(engines, watch)

    def _note(self, engines: Engines) -> None:
        """Have the status say what is being opened."""
        for serving in engines:
            reason = self.chosen[serving.operation].reason
            serving.opening = next((why for why in self._registry.later.values() if why in reason), "")

    def names(self) -> dict[str, str]:
        """Return operation -> name of its engine."""
        return {operation.value: choice.engine.name for operation, choice in self.chosen.items()}

    def open(self) -> Engines:
        """Return new sessions of what was chosen. Raises DriverError."""
        return open_engines(self.chosen)

    def retune(self, engines: Engines, *, clear: bool, services: Services | None = None) -> None:
        """Serve by the profile and the services of now; what is under way, keys and packet numbers are not touched.

        An engine that does not open leaves its operation as it was.
        """
        before = self._services
        self._services = before | self._mine(services or {})  # one that is away comes back to its place
        changed = {name for name, _ in before.items() ^ self._services.items()}
        self._registry.change(rows_of(self._config, self._services, changed))
        self._registry.learn(known_profile(self._config))
        self._serve(engines, {})
        if clear:
            for serving in engines:
                serving.clear()

    def _serve(self, engines: Engines, opened: Opened) -> None:
        self.problem = ""
        try:
            self.chosen = self._choose()
        except DriverError as error:
            self.problem = str(error)
        for serving in engines:
            try:
                serving.adopt(self.chosen[serving.operation].ladders, opened.get(serving.operation))
            except DriverError as error:
                self.problem = str(error)
        self._note(engines)

    def _mine(self, services: Services) -> dict[str, str]:
        return {name: places[self._number % len(places)] for name, places in services.items() if places}


def choose_engines(config: AccelConfig) -> dict[Operation, Choice]:
    """Return a self-tested engine for each operation. Raises DriverError."""
    return EngineRoom(config).chosen


def open_engines(chosen: Mapping[Operation, Choice]) -> Engines:
    """Return what was chosen, with new sessions, and who stands in for it. Raises DriverError."""

    def serving(operation: Operation) -> Serving:
        choice = chosen[operation]
        served = Serving(choice.engine, choice.engine.open(operation), choice.spares)
        served.adopt(choice.ladders)
        return served

    return Engines(
        encode=serving(Operation.FEC_ENCODE),
        decode=serving(Operation.FEC_DECODE),
        seal=serving(Operation.AEAD_SEAL),
        open=serving(Operation.AEAD_OPEN),
    )


def close_engines(engines: Engines) -> None:
    """Close the sessions of ``engines``, and wipe their keys."""
    for serving in engines:
        serving.close()
