"""Reading a status: whatever an older or newer appliance leaves out, or calls something else, counts as nothing."""

from __future__ import annotations

from collections.abc import Mapping

Row = Mapping[str, object]


def rows_of(status: Row, name: str) -> list[Row]:
    """Return the list of mappings called ``name``; anything else in its place counts as empty."""
    found = status.get(name)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def number(row: Row, name: str) -> float:
    """Return a number of ``row``; 0 for anything that is none."""
    value = row.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
