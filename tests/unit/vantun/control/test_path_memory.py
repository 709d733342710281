"""What idle paths take in the control process of a server, as Python counts it."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import AlertDescription, Epoch

from tests.unit.vantun.control.quic_pair import CLIENT, SERVER, Pair, client_config, server_config
from vantun.control.path_events import PathDown
from vantun.lab.link import LinkProfile

PATHS = 4
MOST = 53_000
"""Bytes; 46,000 when this was written, 61,000 while each kept dead packet spaces and TLS, 117,000 with its buffers."""


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


def test_what_comes_late_for_a_slim_connection_is_dropped(tmp_path: Path) -> None:
    pair = Pair(server_config(tmp_path), client_config(tmp_path), LinkProfile())
    path = pair.connect(1)
    pair.run(3.0)
    http = next(iter(pair.server._paths)).http
    path._http.ping(pair.now)
    pair.run(1.0)
    before = [quic._loss.bytes_in_flight for quic in (http.quic, path._quic)]
    for to_server, data in list(pair.seen):
        if to_server:
            pair.inject(data, (CLIENT[0], CLIENT[1] + 1))
        else:
            path.receive(data, 1, SERVER, pair.now)
    pair.run(1.0)
    assert [quic._loss.bytes_in_flight for quic in (http.quic, path._quic)] == before
    assert (http.broken, path._http.broken) == ("", "")
    assert len(pair.server) == 1


def test_tls_after_the_handshake_closes_a_slim_connection(tmp_path: Path) -> None:
    pair = Pair(server_config(tmp_path), client_config(tmp_path), LinkProfile())
    path = pair.connect(1)
    pair.run(3.0)
    path._quic._crypto_streams[Epoch.ONE_RTT].sender.write(b"\x18\x00\x00\x01\x00")  # KeyUpdate, which QUIC has not
    path._http.ping(pair.now)
    pair.run(1.0)
    assert [event for event in pair.events[1] if isinstance(event, PathDown)]
    closed = path._quic._close_event
    assert closed is not None
    assert closed.error_code == QuicErrorCode.CRYPTO_ERROR + AlertDescription.unexpected_message
