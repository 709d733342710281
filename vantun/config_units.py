"""Quantities as people write them: rates (``100 mbps``), durations (``30s``), sizes (``128 MB``).

Every parser raises ValueError with a sentence that says what is allowed; every ``format_`` function is its inverse.
Numbers may have a fraction; the result is exact or refused, never rounded.
"""

from __future__ import annotations

import re

_QUANTITY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)")

_RATE = {"bps": 1, "kbps": 10**3, "mbps": 10**6, "gbps": 10**9, "tbps": 10**12}
_DURATION = {"us": 1, "ms": 10**3, "s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6}
_SIZE = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}


def _parse(text: str, units: dict[str, int], allowed: str) -> int:
    match = _QUANTITY.fullmatch(text.strip())
    folded = {unit.lower(): factor for unit, factor in units.items()}
    factor = folded.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(allowed)
    whole, _, part = match[1].partition(".")
    value, rest = divmod(int(whole + part) * factor, int("1" + "0" * len(part)))
    if rest:
        raise ValueError(f"{allowed}; {text.strip()!r} is not a whole number of the smallest unit")
    return value


def _format(value: int, units: dict[str, int], space: str) -> str:
    if value < 0:
        raise ValueError(f"a quantity cannot be negative: {value}")
    best = max((unit for unit in units if value and value % units[unit] == 0), key=lambda unit: units[unit], default="")
    unit = best or next(iter(units))
    return f"{value // units[unit]}{space}{unit}"


def parse_rate(text: str) -> int:
    """Return bits per second of e.g. ``100 mbps``; units bps, kbps, mbps, gbps, tbps (decimal), in any case."""
    rate = _parse(text, _RATE, "a rate like '100 mbps' (units: bps, kbps, mbps, gbps, tbps)")
    if not 1000 <= rate <= 10**12:
        raise ValueError("a rate from '1 kbps' to '1 tbps'")
    return rate


def format_rate(rate: int) -> str:
    """Write bits per second in the largest unit that is exact."""
    return _format(rate, _RATE, " ")


def parse_duration(text: str) -> float:
    """Return seconds of e.g. ``30s``, ``150ms``; units us, ms, s, m, h; whole microseconds."""
    return _parse(text, _DURATION, "a duration like '30s' or '150ms' (units: us, ms, s, m, h)") / 10**6


def format_duration(seconds: float) -> str:
    """Write seconds, rounded to microseconds, in the largest unit that is exact."""
    return _format(round(seconds * 10**6), _DURATION, "")


def parse_size(text: str) -> int:
    """Return bytes of e.g. ``128 MB``; units B, kB, MB, GB, TB (decimal) and KiB, MiB, GiB, TiB (binary)."""
    return _parse(text, _SIZE, "a size like '128 MB' (units: B, kB, MB, GB, TB, KiB, MiB, GiB, TiB)")


def format_size(size: int) -> str:
    """Write bytes in the largest unit that is exact."""
    return _format(size, _SIZE, " ")
