"""Engines of third parties: entry points of the group ``vantun.accel.engines``, loaded only when the owner lists them.

Code that is given keys must be opted in (``accel.plugins``). A plug-in passes the same gates as every other engine: its
self-test in a child process, calibration, the watch. What cannot be loaded is a row with a reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from accel.catalogue import CATALOGUE, Kind, Row
from accel.engine import Engine, Maturity, Provenance
from accel.sight import Sighting

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "vantun.accel.engines"
API = 1
"""The contract that this version speaks: this module and :mod:`accel.engine`."""


class EngineFactory(Protocol):
    """What an entry point leads to: an object, or a class without arguments' instance, that makes one engine.

    Attributes
    ----------
    api
        The contract it was written for; 1.
    kinds
        What its engine computes.
    provenance, maturity
        What it says of itself, in every table.
    needs
        What a machine without the device would need; a sentence without a full stop.
    """

    api: int
    kinds: tuple[Kind, ...]
    provenance: Provenance
    maturity: Maturity
    needs: str

    def probe(self, sysroot: Path) -> Sighting:
        """Look for the device below ``sysroot``; load nothing, change nothing, never raise."""

    def make(self, kind: Kind) -> Engine:
        """Return the engine, whose name is the entry point's; open no device."""


def catalogue_with(plugins: Iterable[str]) -> tuple[Row, ...]:
    """Return the catalogue and a row for each plug-in, by the name of its distribution or entry point.

    A plug-in ranks behind every engine of VANTUN's own; measurement may put it in front.
    """
    wanted = list(dict.fromkeys(plugins))
    if not wanted:
        return CATALOGUE
    import difflib
    from importlib.metadata import entry_points

    rows = list(CATALOGUE)
    there = list(entry_points(group=GROUP))
    for name in wanted:
        found = [point for point in there if name in (point.name, point.dist.name if point.dist else "")]
        for point in found:
            if any(row.name == point.name for row in rows):
                rows.append(_broken(f"{point.name}-plugin", f"the name {point.name!r} is taken", "give it another"))
            else:
                rows.append(_row(point))
        if not found:
            near = difflib.get_close_matches(name, [point.name for point in there], n=1)
            step = f"did you mean {near[0]!r}?" if near else f"pip install it into the environment of VANTUN ({GROUP})"
            rows.append(_broken(name, f"no plug-in {name!r} is installed", step))
    return tuple(rows)


def _row(point: EntryPoint) -> Row:
    origin = f"plug-in {point.dist.name} {point.dist.version}" if point.dist else "plug-in"
    try:
        loaded = point.load()
        factory: EngineFactory = loaded() if isinstance(loaded, type) else loaded
        if factory.api != API:
            return _broken(point.name, f"it speaks API {factory.api}, this is {API}", f"another version of {origin}")
        return Row(
            name=point.name,
            kinds=tuple(Kind(kind) for kind in factory.kinds),
            provenance=Provenance(factory.provenance),
            maturity=Maturity(factory.maturity),
            through=origin,
            look=partial(_look, factory),
            needs=str(factory.needs),
            make={kind: partial(_make, factory, kind, point.name) for kind in factory.kinds},
        )
    except Exception as error:  # a plug-in that cannot be loaded is a row that says so
        reason = f"{origin} cannot be loaded: {type(error).__name__}: {error}"
        return _broken(point.name, reason, "ask whoever wrote it")


def _look(factory: EngineFactory, sysroot: Path) -> Sighting:
    try:
        return factory.probe(sysroot)
    except Exception as error:  # it should not; then its device counts as not seen
        return Sighting(present=False, missing=(f"{type(error).__name__}: {error}",))


def _make(factory: EngineFactory, kind: Kind, name: str) -> Engine:
    engine = factory.make(kind)
    engine.name = name
    return engine


def _broken(name: str, reason: str, step: str) -> Row:
    missing = Sighting(present=False, missing=(reason,))
    return Row(name, (Kind.FEC, Kind.AEAD), Provenance.CPU, Maturity.UNTESTED, "plug-in", lambda _: missing, step, {})
