"""The key ``mtu``: how long the packets of a path may become."""

from __future__ import annotations

from vantun.config_kinds import Kind
from vantun.config_yaml import Key

BASE_MTU = 1200
"""UDP payload bytes that every path has to take (RFC 9000, section 14)."""
MAX_MTU = 1472
"""UDP payload of an Ethernet frame with IPv4, 1452 with IPv6; the rows of a worker have room for it."""


def parse_mtu(text: str) -> int:
    """Return the largest UDP payload that may be searched for; ``auto`` is the most there is."""
    if text == "auto":
        return MAX_MTU
    if not text.isascii() or not text.isdigit() or not BASE_MTU <= int(text) <= MAX_MTU:
        raise ValueError
    return int(text)


MTU = Kind(f"auto, or UDP payload bytes from {BASE_MTU} to {MAX_MTU}", parse_mtu)
_TEXT = (
    f"The longest packet that is tried, in bytes of UDP payload. Every path begins with {BASE_MTU}; longer ones are "
    f"used once the path has been seen to carry them. `{BASE_MTU}` turns the search off."
)
MTU_KEYS = (Key("mtu", MTU, _TEXT, "auto", "auto"),)
PATH_MTU_KEYS = (Key("mtu", MTU, "The same for this path. Without it the `mtu` above.", "1392"),)
