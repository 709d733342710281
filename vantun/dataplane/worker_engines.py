"""The engines of a worker, as the configuration wants them."""

from __future__ import annotations

from collections.abc import Mapping

from accel.engine import Operation
from accel.registry import Choice, Preferences, choose
from accel.serving import Serving
from vantun.config import AccelConfig
from vantun.dataplane.context import Engines


def choose_engines(config: AccelConfig) -> dict[Operation, Choice]:
    """Return a self-tested engine for each operation. Raises DriverError."""
    return choose(Preferences(fec=config.fec, aead=config.aead, allow_emulated=config.allow_emulated))


def open_engines(chosen: Mapping[Operation, Choice]) -> Engines:
    """Return what was chosen, with new sessions, and who stands in for it. Raises DriverError."""

    def serving(operation: Operation) -> Serving:
        choice = chosen[operation]
        return Serving(choice.engine, choice.engine.open(operation), choice.spares)

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
