"""What the section ``accel`` means for the registry of engines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

from accel.catalogue import A_SERVICE, Row
from accel.child import try_in_child
from accel.engine import Operation
from accel.planning import Goal
from accel.plugins import catalogue_with
from accel.profile import NoProfile, Profile
from accel.registry import Preferences, Registry
from accel.service.devices import SERVED
from accel.service.offer import behind
from vantun.accel_known import known_profile
from vantun.config_accel import AccelConfig
from vantun.engine_child import MODULE


def preferences(config: AccelConfig) -> Preferences:
    """Return what the registry goes by."""
    return Preferences(
        fec=config.fec,
        aead=config.aead,
        allow_emulated=config.allow_emulated,
        goal=Goal(config.goal),
        plugins=config.plugins,
    )


def make_registry(
    config: AccelConfig, profile: Profile | NoProfile, services: Mapping[str, str] | None = None
) -> Registry:
    """Return a registry that knows the plug-ins of a configuration, and by name which engines are behind a service."""
    return Registry(
        catalogue=[_reached(row, config, (services or {}).get(row.name)) for row in catalogue_with(config.plugins)],
        profile=profile,
        plugins=config.plugins,
        attempt=partial(try_in_child, module=MODULE),
    )


def rows_of(config: AccelConfig, services: Mapping[str, str], names: Iterable[str]) -> list[Row]:
    """Return the rows of some engines as they are with ``services``."""
    rows = {row.name: row for row in catalogue_with(config.plugins)}
    return [_reached(rows[name], config, services.get(name)) for name in names if name in rows]


def _reached(row: Row, config: AccelConfig, place: str | None) -> Row:
    """Return a row that says, and does, how its device is reached."""
    if place is not None:
        return behind(row, place)
    if row.name in SERVED and config.service != "off":
        return replace(row, through=f"{row.through}, by {A_SERVICE}")
    return row


def planned_services(config: AccelConfig) -> dict[str, frozenset[Operation]]:
    """Return engine -> operations, of the engines that are to serve here and can be behind a service.

    Raises DriverError when the preferences cannot be read.
    """
    registry = make_registry(config, known_profile(config))
    return {name: done for name, done in registry.planned(preferences(config)).items() if name in SERVED}
