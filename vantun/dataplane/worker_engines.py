"""The engines of a worker, as the configuration wants them."""

from __future__ import annotations

from collections.abc import Mapping

from accel.engine import Engine, Operation
from accel.registry import Preferences, choose
from vantun.config import AccelConfig
from vantun.dataplane.context import Engines, Serving


def choose_engines(config: AccelConfig) -> dict[Operation, Engine]:
    """Return a self-tested engine for each operation. Raises DriverError."""
    chosen = choose(Preferences(fec=config.fec, aead=config.aead, allow_emulated=config.allow_emulated))
    return {operation: choice.engine for operation, choice in chosen.items()}


def open_engines(engines: Mapping[Operation, Engine]) -> Engines:
    """Return ``engines`` with a new session each. Raises DriverError."""

    def serving(operation: Operation) -> Serving:
        return Serving(engines[operation], engines[operation].open(operation))

    return Engines(
        encode=serving(Operation.FEC_ENCODE),
        decode=serving(Operation.FEC_DECODE),
        seal=serving(Operation.AEAD_SEAL),
        open=serving(Operation.AEAD_OPEN),
    )


def close_engines(engines: Engines) -> None:
    """Close the sessions of ``engines``, and wipe their keys."""
    for serving in (engines.encode, engines.decode, engines.seal, engines.open):
        serving.session.close()
