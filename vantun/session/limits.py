"""How large the tables of a worker may be: plain numbers, for processes that have no kernels, too."""

from __future__ import annotations

from dataclasses import dataclass

MAX_SESSIONS = 1024
"""A power of two."""
MAX_LANES = 1536
"""All tables together must stay below 2 GiB, the largest record that numpy has."""
MAX_FLOWS = 32768
MAX_USERS = 1024
"""Users whose rates and bytes are counted apart."""
MAX_ROWS = 1 << 18
"""Rows of the pool: with 1600-byte rows, 419 MB."""
FLOOR_BYTES = 64
"""Of a lane's or a session's floors, in the page that outlives workers: a cache line, as those of other lanes are
written by other workers."""
LANE_FLOORS = 2 * MAX_LANES
"""Places for lanes: more than a worker has, since control may hold some that the worker is about to refuse."""
SESSION_FLOORS = 2 * MAX_SESSIONS
SLICES = 16
"""Lanes of a path at most, each at a worker of its own."""
SHARE_PLACES = 1024
"""Paths of an appliance that may have a limit to be shared; those beyond divide it in equal parts."""
SHARE_BYTES = 24
"""Of a lane's share in the limit of its path."""
MAX_STRIDE = 1600
"""Bytes of the largest row."""
SHORT = 8
"""Rows are short when fewer than one in so many is free."""
PACKET_START = 43
"""Where a packet starts in a row: its header and shard header stand right before the unit, which is aligned."""


@dataclass(frozen=True)
class Limits:
    """How much of the tables a worker uses; each bounds what a peer can make it hold."""

    sessions: int = 1000
    flows: int = 32768
    rows: int = 65536
    """Rows of the pool: plaintext shards in both directions."""
    flows_per_session: int = 2048

    def __post_init__(self) -> None:
        """Refuse what the tables have no room for."""
        for name, most in (("sessions", MAX_SESSIONS), ("flows", MAX_FLOWS), ("rows", MAX_ROWS)):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"limits.{name} is {getattr(self, name)}; the tables have room for 1 to {most}")
