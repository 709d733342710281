"""How an appliance survives the death of its data worker, and how it ends: ``workers.standby`` and ``drain``."""

from __future__ import annotations

from dataclasses import dataclass

from vantun.config_kinds import BOOLEAN, Kind
from vantun.config_said import Said
from vantun.config_units import parse_duration
from vantun.config_yaml import Key

DEFAULT_DRAIN = 5.0
_LONGEST_DRAIN = 3600.0


@dataclass(frozen=True)
class LifeConfig:
    """Times in seconds."""

    standby: bool = True
    """Keep a second data worker ready."""
    drain: float = DEFAULT_DRAIN
    """How long open connections may go on after SIGTERM."""


DEFAULT_LIFE = LifeConfig()


def _parse_drain(text: str) -> float:
    seconds = parse_duration(text)
    if seconds > _LONGEST_DRAIN:
        raise ValueError("at most an hour; programs that need longer reconnect to the next appliance")
    return seconds


LIFE_KEYS = (
    Key(
        "workers.standby",
        BOOLEAN,
        "Whether a second data worker waits, idle, to take over at once when the first one dies. It costs about 180 MB "
        "of memory; without it a new one takes about two seconds to start.",
        "true",
        "true",
    ),
    Key(
        "drain",
        Kind("a duration of at most an hour, like '5s'", _parse_drain),
        "How long open connections may go on after SIGTERM, while new ones are refused. A second signal ends at once.",
        "5s",
        "5s",
    ),
)


def life_config(said: Said) -> LifeConfig:
    """Return what the file says, or the defaults."""
    return LifeConfig(said.get("workers.standby", True), said.get("drain", DEFAULT_DRAIN))
