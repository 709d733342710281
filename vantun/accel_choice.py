"""What the section ``accel`` means for the registry of engines, and where its measurements are kept."""

from __future__ import annotations

import time
from pathlib import Path

from accel.fingerprint import fingerprint
from accel.planning import Goal
from accel.profile import FILE, NoProfile, Profile, load_profile
from accel.registry import Preferences
from vantun.config_accel import AccelConfig
from vantun.control.volumes import volume_folder


def preferences(config: AccelConfig) -> Preferences:
    """Return what the registry goes by."""
    return Preferences(
        fec=config.fec,
        aead=config.aead,
        allow_emulated=config.allow_emulated,
        goal=Goal(config.goal),
        plugins=config.plugins,
    )


def profile_file() -> Path:
    """Return where the measurements of this user's machine are."""
    return volume_folder() / FILE


def known_profile(config: AccelConfig) -> Profile | NoProfile:
    """Return what is known of this machine by measurement."""
    if config.calibration == "off":
        return NoProfile("accel.calibration is off")
    return load_profile(profile_file(), fingerprint(more=config.plugins), time.time())
