"""How many data workers there are, how an appliance survives the death of one, and how it ends."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vantun.config_kinds import BOOLEAN, Kind, choice
from vantun.config_said import Said
from vantun.config_units import parse_duration
from vantun.config_yaml import Key

DEFAULT_DRAIN = 5.0
_LONGEST_DRAIN = 3600.0


@dataclass(frozen=True)
class LifeConfig:
    """Times in seconds."""

    standby: bool = True
    """Keep the nursery of data workers."""
    workers: int = 0
    """Data workers; 0 = as many as this machine is good for."""
    pin: bool | None = None
    """Whether each worker keeps to one processor; None = if there are several."""
    drain: float = DEFAULT_DRAIN
    """How long open connections may go on after SIGTERM."""


DEFAULT_LIFE = LifeConfig()


def _parse_drain(text: str) -> float:
    seconds = parse_duration(text)
    if seconds > _LONGEST_DRAIN:
        raise ValueError("at most an hour; programs that need longer reconnect to the next appliance")
    return seconds


MOST_WORKERS = 64
MOST_AUTO = 16
"""Workers that `auto` starts at most: a session has so many slices."""


def _parse_count(text: str) -> int:
    if text == "auto":
        return 0
    if not re.fullmatch("[0-9]{1,3}", text) or not 1 <= int(text) <= MOST_WORKERS:
        raise ValueError
    return int(text)


def _parse_pin(text: str) -> bool | None:
    return {"auto": None, "on": True, "off": False}[choice("auto", "on", "off").parse(text)]  # type: ignore[index]


LIFE_KEYS = (
    Key(
        "workers.count",
        Kind(f"'auto', or a number from 1 to {MOST_WORKERS}", _parse_count),
        "How many data workers share the packets, each a process on a processor of its own. A connection is carried by "
        "one of them, so several pay where many connections, or much of a TUN, are carried at once. `auto`: half of "
        "the usable processors, since programs and the kernel's network stack need the others; at most 16. Each costs "
        "memory (`vantun status`). Short: `workers: 4`.",
        "auto",
        "auto",
        short=True,
    ),
    Key(
        "workers.pin",
        Kind("auto, on or off", _parse_pin),
        "Whether each data worker keeps to one processor. `auto`: if there are several workers.",
        "auto",
        "auto",
    ),
    Key(
        "workers.standby",
        BOOLEAN,
        "Whether a process waits, idle, in which the next data worker is forked at once when one dies. It costs about "
        "13 MB of memory; without it a new worker takes about a second to start, and shares no memory with others.",
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
    return LifeConfig(
        standby=said.get("workers.standby", True),
        workers=said.get("workers.count", 0),
        pin=said.get("workers.pin", None),
        drain=said.get("drain", DEFAULT_DRAIN),
    )
