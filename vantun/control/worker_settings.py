"""What a configuration file means for the data worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vantun.config import ClientConfig, ServerConfig

if TYPE_CHECKING:
    from vantun.dataplane.config import DataplaneConfig


def worker_settings(config: ServerConfig | ClientConfig) -> DataplaneConfig:
    """Return the settings of the worker that serves ``config``."""
    # numba, behind these, takes a second; a port that is taken is found before.
    from drivers.arena import row_stride
    from vantun.dataplane.config import DataplaneConfig, rows_for
    from vantun.session.limits import MAX_ROWS, PACKET_START, Limits

    stride = row_stride(PACKET_START + DataplaneConfig.max_mtu + 16)
    rows = min(rows_for(config.memory, stride), MAX_ROWS)
    return DataplaneConfig(
        limits=Limits(rows=rows),
        fec=config.fec.enabled,
        residual_loss=config.fec.residual_loss,
        overhead=config.fec.overhead,
    )
