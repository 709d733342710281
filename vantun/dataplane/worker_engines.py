"""The engines of a worker, as the configuration wants them and as they measured."""

from __future__ import annotations

from collections.abc import Mapping

from accel.engine import Operation
from accel.registry import Choice
from accel.serving import Serving
from drivers.errors import DriverError
from vantun.accel_choice import known_profile, make_registry, preferences
from vantun.config_accel import AccelConfig
from vantun.dataplane.context import Engines


class EngineRoom:
    """Chooses engines when the worker starts, and again when they were measured.

    Attributes
    ----------
    chosen
        Who serves each operation.
    problem
        Why the last change did not come about; empty when it did.
    """

    def __init__(self, config: AccelConfig) -> None:
        """Choose; raises DriverError."""
        self._config = config
        self._preferences = preferences(config)
        self._registry = make_registry(config, known_profile(config))
        self.problem = ""
        self.chosen = self._registry.choose(self._preferences)

    def names(self) -> dict[str, str]:
        """Return operation -> name of its engine."""
        return {operation.value: choice.engine.name for operation, choice in self.chosen.items()}

    def open(self) -> Engines:
        """Return new sessions of what was chosen. Raises DriverError."""
        return open_engines(self.chosen)

    def retune(self, engines: Engines, *, clear: bool) -> None:
        """Serve by the profile of now; what is under way, keys and packet numbers are not touched.

        An engine that does not open leaves its operation as it was.
        """
        self._registry.learn(known_profile(self._config))
        self.problem = ""
        try:
            self.chosen = self._registry.choose(self._preferences)
        except DriverError as error:
            self.problem = str(error)
        for serving in engines:
            try:
                serving.adopt(self.chosen[serving.operation].ladders)
            except DriverError as error:
                self.problem = str(error)
            if clear:
                serving.clear()


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
