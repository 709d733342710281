"""The section ``accel``: which engines compute parity and encryption, and what may be said instead when starting.

``--accel`` of the command line, else the environment's ``VANTUN_ACCEL``, wins over the file, key by key:
``off`` (the reference alone), or ``aead=qat,?openssl,fec=only:simd,goal=cpu``.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import Any

from vantun.config_kinds import BOOLEAN, ENGINES, Kind, choice, whole_number
from vantun.config_yaml import Key

ENVIRONMENT = "VANTUN_ACCEL"
GOALS = ("throughput", "cpu", "latency")
_IN_FILES_ONLY = ("accel.allow_emulated", "accel.gather_us")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ASSIGNMENT = re.compile(r"(?:^|,)\s*([a-z]+)=")


@dataclass(frozen=True)
class AccelConfig:
    """Engine preferences as written; an empty list = the one that measured best.

    Attributes
    ----------
    goal
        One of GOALS.
    plugins
        Plug-ins whose engines count, too.
    calibration, service
        ``auto`` or ``off``.
    gather_us
        Microseconds.
    """

    fec: str = ""
    aead: str = ""
    allow_emulated: bool = False
    goal: str = "throughput"
    plugins: tuple[str, ...] = ()
    calibration: str = "auto"
    service: str = "auto"
    gather_us: int = 200


DEFAULT_ACCEL = AccelConfig()


def parse_plugins(text: str) -> tuple[str, ...]:
    """Return names of plug-ins."""
    words = tuple(word.strip() for word in text.split(","))
    if not all(map(_NAME.fullmatch, words)):
        raise ValueError
    return words


PLUGINS = Kind("names of installed plug-ins separated by commas", parse_plugins)

ACCEL_KEYS = (
    Key(
        "accel.fec",
        ENGINES,
        "Engines for parity in order of preference: `name` prefers, `?name` allows, `!name` forbids, `name@128:` "
        "prefers from 128 rows in a batch on, `only:` before the list forbids every other one. Without it the engine "
        "that measured best on this machine.",
        "simd",
    ),
    Key("accel.aead", ENGINES, "Engines for encryption, as `accel.fec`.", "'?cryptography'"),
    Key(
        "accel.goal",
        choice(*GOALS),
        "What the best engine is best at: wall time, CPU time, or the 99th percentile of wall time. With `latency` "
        "workers watch their sockets for 150 us after traffic, before they sleep: that is CPU time, too.",
        "throughput",
        "throughput",
    ),
    Key(
        "accel.plugins",
        PLUGINS,
        "Plug-ins of others whose engines may serve, too, by distribution or entry point; they see the keys.",
        "vantun-example",
    ),
    Key(
        "accel.calibration",
        choice("auto", "off"),
        "Whether engines are measured in the background when nothing is known of this machine; else they rank as in "
        "`vantun accel probe`.",
        "auto",
        "auto",
    ),
    Key(
        "accel.service",
        choice("auto", "off"),
        "Whether a GPU is used by one process for all data workers, which gathers their batches; else each worker "
        "opens it for itself.",
        "auto",
        "auto",
    ),
    Key(
        "accel.gather_us",
        whole_number(0, 100_000),
        "Microseconds that a batch may wait at the GPU service for those of other workers, to be one launch with them.",
        "200",
        "200",
    ),
    Key(
        "accel.allow_emulated",
        BOOLEAN,
        "Whether an emulator or stand-in that is named in `accel` may serve.",
        "false",
        "false",
    ),
)


def override(config: AccelConfig, text: str | None = None) -> AccelConfig:
    """Return ``config`` with what ``text``, else the environment, says instead.

    Raises
    ------
    ValueError
        When that cannot be read: a sentence.
    """
    told = os.environ.get(ENVIRONMENT, "") if text is None else text
    told = told.strip()
    if not told:
        return config
    if told == "off":
        return replace(config, fec="only: reference", aead="only: reference", plugins=(), calibration="off")
    found = list(_ASSIGNMENT.finditer(told))
    if not found or found[0].start() != 0:
        raise ValueError(f"{told!r} is no choice of engines; write 'off', or like 'aead=qat,?openssl,fec=only:simd'")
    ends = [each.start() for each in found[1:]] + [len(told)]
    for each, end in zip(found, ends, strict=True):
        config = _assign(config, each[1], told[each.end() : end].strip())
    return config


def _assign(config: AccelConfig, key: str, value: str) -> AccelConfig:
    kinds = {
        each.name.removeprefix("accel."): each.kind
        for each in ACCEL_KEYS
        if isinstance(each.kind, Kind) and each.name not in _IN_FILES_ONLY
    }
    if key not in kinds:
        import difflib

        near = difflib.get_close_matches(key, kinds, n=1)
        step = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(kinds))}"
        raise ValueError(f"there is no {key!r} to choose; {step}")
    try:
        parsed: Any = kinds[key].parse(value) if value else ""
    except ValueError:
        raise ValueError(f"{key}={value}: not {kinds[key].allowed}") from None
    return replace(config, **{key: parsed})
