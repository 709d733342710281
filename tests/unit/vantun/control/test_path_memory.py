"""What idle paths take in the control process of a server, as Python counts it."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

from tests.unit.vantun.control.quic_pair import Pair, client_config, server_config
from vantun.lab.link import LinkProfile

PATHS = 4
MOST = 85_000
"""Bytes; 61,000 when this was written, 117,000 while each kept the buffers of its handshake."""


def test_an_idle_path_at_a_server(tmp_path: Path) -> None:
    pair = Pair(server_config(tmp_path), client_config(tmp_path), LinkProfile())
    pair.connect(1)
    pair.run(3.0)  # what the first one loads is everybody's
    gc.collect()
    tracemalloc.start(30)
    try:
        for number in range(2, 2 + PATHS):
            pair.connect(number)
        pair.run(5.0)
        gc.collect()
        ours = tracemalloc.take_snapshot().filter_traces(
            [tracemalloc.Filter(True, "*/server_path*.py", all_frames=True)]
        )
    finally:
        tracemalloc.stop()
    taken = sum(trace.size for trace in ours.traces)
    assert len(pair.server._paths) == 1 + PATHS
    assert 10_000 < taken / PATHS < MOST
