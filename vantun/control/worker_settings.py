"""What a configuration file means for the data worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vantun.config import ClientConfig, ServerConfig

if TYPE_CHECKING:
    from vantun.dataplane.config import DataplaneConfig


_LEAST_MEMORY = 16 << 20
"""Bytes of a worker's packet buffers, however many share what is allowed."""


def worker_settings(config: ServerConfig | ClientConfig, workers: int = 1) -> DataplaneConfig:
    """Return the settings of each of the ``workers`` that serve ``config``; they share its memory."""
    # numba, behind these, takes a second; a port that is taken is found before.
    from drivers.arena import row_stride
    from vantun.dataplane.config import DataplaneConfig, rows_for
    from vantun.session.limits import MAX_ROWS, PACKET_START, Limits

    stride = row_stride(PACKET_START + DataplaneConfig.max_mtu + 16)
    memory = config.memory if workers == 1 else max(config.memory // workers, _LEAST_MEMORY)
    rows = min(rows_for(memory, stride), MAX_ROWS)
    return DataplaneConfig(
        limits=Limits(rows=rows),
        fec=config.fec.enabled,
        residual_loss=config.fec.residual_loss,
        overhead=config.fec.overhead,
    )
