"""What the section ``accel`` means for the registry of engines, and where its measurements are kept."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from accel.child import command, try_in_child
from accel.fingerprint import fingerprint
from accel.planning import Goal
from accel.plugins import catalogue_with
from accel.profile import FILE, NoProfile, Profile, load_profile
from accel.registry import Preferences, Registry
from vantun.config_accel import AccelConfig
from vantun.control.volumes import volume_folder
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


def make_registry(config: AccelConfig, profile: Profile | NoProfile) -> Registry:
    """Return a registry that knows the plug-ins of a configuration."""
    return Registry(
        catalogue=catalogue_with(config.plugins),
        profile=profile,
        plugins=config.plugins,
        attempt=partial(try_in_child, module=MODULE),
    )


def calibration_command(config: AccelConfig, *options: str) -> list[str]:
    """Return the command line of a child process that measures every engine and writes the profile."""
    plugins = ",".join(config.plugins)
    return command("--plugins", plugins, "calibrate", *options, str(profile_file()), module=MODULE)


def profile_file() -> Path:
    """Return where the measurements of this user's machine are."""
    return volume_folder() / FILE


def known_profile(config: AccelConfig) -> Profile | NoProfile:
    """Return what is known of this machine by measurement."""
    if config.calibration == "off":
        return NoProfile("accel.calibration is off")
    return load_profile(profile_file(), fingerprint(more=config.plugins), time.time())
