"""What is known of a machine's engines without one of them, and so without numpy: for processes that use none."""

from __future__ import annotations

import time
from pathlib import Path

from accel.catalogue import CATALOGUE
from accel.child import command
from accel.engine import Operation
from accel.fingerprint import fingerprint
from accel.profile import FILE, NoProfile, Profile, load_profile
from accel.service.devices import SERVED
from vantun.config_accel import AccelConfig
from vantun.control.volumes import volume_folder
from vantun.engine_child import MODULE
from vantun.one_thread import one_thread

_ROOT = Path("/")


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


def wanted_services(config: AccelConfig) -> dict[str, frozenset[Operation]]:
    """Return engine -> operations, of the engines that are to serve here and can be behind a service.

    Raises DriverError when the preferences cannot be read.
    """
    here = (row for row in CATALOGUE if row.name in SERVED and (config.allow_emulated or not row.emulated))
    if not any(row.look(_ROOT).present for row in here):
        return {}
    with one_thread():
        from vantun.accel_choice import planned_services  # with numpy

    return planned_services(config)
