"""Settings of one worker's data plane."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vantun.dataplane.sizes import SEALED
from vantun.session.limits import Limits

if TYPE_CHECKING:
    from vantun.session.tables import Tables


@dataclass(frozen=True)
class DataplaneConfig:
    """What a worker may hold, and how it repairs loss. Times in seconds, sizes in bytes."""

    limits: Limits = field(default_factory=Limits)
    max_mtu: int = 1472
    """Largest UDP payload of any path (1472: an Ethernet frame's worth of IPv4); sets the row size."""
    fec: bool = True
    max_rows: int = 127
    """Parity rows that a block may use before its shards go again."""
    residual_loss: float = 1e-3
    overhead: float = 0.0
    """Parity that every block of all classes but bulk gets at least, as a share of its data, whatever is lost."""
    rekey_after: int = 1 << 22
    """Packets per key phase: AES-GCM allows 2^23 (RFC 9001, section 6.6)."""
    silence: float = 0.15
    dead_after: float = 8.0
    keepalive: float = 5.0
    window_initial: int = 256 * 1024
    window_max: int = 16 * 1024 * 1024
    bulk_after: int = 48 * 1024
    packet_hold_min: float = 0.04
    packet_hold_max: float = 0.4
    """Bounds of the time that packets wait for missing ones: 1.5 round trips and 30 ms in between."""
    batch: int = SEALED
    """Packets per sealed batch."""

    def apply(self, tables: Tables) -> None:
        """Write the policy into ``tables``."""
        policy = tables.policy[0]
        policy["max_rows"] = self.max_rows if self.fec else 0
        policy["flows_per_session"] = self.limits.flows_per_session
        policy["residual"] = self.residual_loss
        policy["overhead"] = self.overhead
        policy["k_control"] = 8
        policy["k_interactive"] = 16
        policy["k_bulk"] = 64
        policy["k_packets"] = 64
        policy["budget_control"] = 0.002
        policy["budget_interactive"] = 0.004
        policy["budget_packets"] = 0.006
        policy["hold_min"] = self.packet_hold_min
        policy["hold_max"] = self.packet_hold_max
        policy["pieces_per_flow"] = max(self.limits.rows // 8, 1)
        policy["pieces_per_session"] = max(self.limits.rows // 4, 1)
        policy["rekey_after"] = self.rekey_after
        policy["silence"] = self.silence
        policy["dead_after"] = self.dead_after
        policy["keepalive"] = self.keepalive
        policy["window_initial"] = self.window_initial
        policy["window_max"] = self.window_max
        policy["bulk_after"] = self.bulk_after


def rows_for(memory: int, stride: int) -> int:
    """Return how many pool rows ``memory`` bytes give, at least 4096."""
    return min(max(memory // stride, 4096), 1 << 22)
