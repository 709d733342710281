"""A row of the catalogue whose device is behind a service: nothing of a foreign library is loaded for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from accel.catalogue import A_SERVICE, Kind, Row
from accel.engine import Engine
from accel.sight import Sighting


def behind(row: Row, place: str) -> Row:
    """Return ``row`` as it is by the service at ``place``."""

    def look(_: Path) -> Sighting:
        return Sighting(present=True, seen=(f"a service at {place}",))

    return replace(row, look=look, through=A_SERVICE, make={kind: _make(row, kind, place) for kind in row.make})


def _make(row: Row, kind: Kind, place: str) -> Callable[[], Engine]:
    def make() -> Engine:
        from accel.service.client import ServiceEngine  # half a megabyte that few machines use

        return ServiceEngine(row.name, frozenset(kind.operations), place, row.provenance, row.maturity)

    return make
