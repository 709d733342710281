"""What the verbs of ``vantun accel`` go by: a file, ``--accel``, and what was measured on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vantun.cli.accel_option import chosen
from vantun.config_accel import AccelConfig

if TYPE_CHECKING:
    from accel.profile import NoProfile, Profile
    from accel.registry import Registry


def config_of(file: Path | None, accel: str | None) -> AccelConfig:
    """Return the section ``accel`` of a server's or client's file, the defaults without one, less what was overridden.

    Raises ConfigError, click.UsageError.
    """
    if file is None:
        return chosen(AccelConfig(), accel)
    from vantun.config import load_client, load_server
    from vantun.config_schema import role_of

    return chosen((load_server(file) if role_of(file) == "server" else load_client(file)).accel, accel)


def registry_of(config: AccelConfig) -> tuple[Registry, Profile | NoProfile]:
    """Return the registry that an appliance with this configuration would have, and what it knows by measurement."""
    from dataclasses import replace

    from vantun.accel_choice import make_registry
    from vantun.accel_known import known_profile

    known = known_profile(replace(config, calibration="auto"))  # off means that nothing new is measured; show what is
    return make_registry(config, known), known
