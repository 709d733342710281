"""The key ``speedTest`` of the server's file: whether users may measure the tunnel."""

from __future__ import annotations

from vantun.config_kinds import BOOLEAN
from vantun.config_yaml import Key

SPEED_KEYS = (
    Key(
        "speedTest",
        BOOLEAN,
        "Whether users may measure the tunnel with `vantun speedtest`, against this server itself. Rates of users "
        "hold, access rules are not asked; a session has 18 flows for it, the server 72, each of at most 75 s.",
        "true",
        "true",
    ),
)
