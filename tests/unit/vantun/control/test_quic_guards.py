"""The traps of aioquic (research: unbounded windows and buffers, inner names), each one sprung."""

from __future__ import annotations

from dataclasses import replace

import pytest
from aioquic.buffer import encode_uint_var

from tests.unit.vantun.control.quic_pair import server_config
from tests.unit.vantun.control.visitor import Visitor, request
from vantun.config import MasqueradeConfig, ServerConfig
from vantun.control.quic import (
    H3_EXCESSIVE_LOAD,
    MAX_DATA,
    MAX_STREAM_DATA,
    check_library,
)
from vantun.control.server_path import ServerPath
from vantun.control.server_paths import ServerPaths
from vantun.errors import InstallError

HEADERS_FRAME = b"\x01"
UPLOAD = request(b"POST")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ServerConfig:
    return server_config(tmp_path_factory.mktemp("guards"))


@pytest.fixture
def server(config: ServerConfig) -> ServerPaths:
    return ServerPaths(config)


@pytest.fixture
def visitor(server: ServerPaths) -> Visitor:
    visitor = Visitor(server).run()
    assert visitor.ready
    return visitor


def far_end(server: ServerPaths) -> ServerPath:
    return next(iter(server._paths))


@pytest.mark.parametrize("found", ["1.7.1", "1.6.9", "1.8.0", "2.0", "1.10.2", "0.9.25", "garbage"])
def test_a_release_that_was_not_looked_at_is_refused(found: str) -> None:
    with pytest.raises(InstallError, match=r"aioquic .*pip install"):
        check_library(found)


@pytest.mark.parametrize("found", ["1.7.2", "1.7.9", "1.7.10.post1"])
def test_a_release_that_was_looked_at(found: str) -> None:
    check_library(found)


def test_a_missing_inner_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("aioquic.quic.connection.QuicConnection._write_stream_limits")
    with pytest.raises(InstallError, match="it lacks _write_stream_limits"):
        check_library()


def test_what_the_handshake_needed_is_given_back(server: ServerPaths, visitor: Visitor) -> None:
    for quic in (far_end(server).http.quic, visitor.quic):
        assert [buffer.capacity for buffer in quic._crypto_buffers.values()] == [0, 0, 0]


def test_windows_slide_and_stay_as_wide(server: ServerPaths, visitor: Visitor) -> None:
    stream = visitor.http.request(UPLOAD)
    for _ in range(40):
        visitor.http._h3.send_data(stream, bytes(50_000), end_stream=False)  # type: ignore[union-attr]
        visitor.run(0.3)
    quic = far_end(server).http.quic
    assert quic._local_max_data.used > 4 * MAX_DATA, "what is read makes room for more"
    assert quic._local_max_data.value - quic._local_max_data.used <= MAX_DATA
    receiving = quic._streams[stream]
    assert receiving.max_stream_data_local - receiving.receiver._buffer_start <= MAX_STREAM_DATA
    assert visitor.ended is None


def test_what_waits_behind_a_gap_does_not_widen_the_window(server: ServerPaths, visitor: Visitor) -> None:
    sending = [visitor.quic.get_next_available_stream_id() + 4 * i for i in range(8)]
    for stream in sending:
        visitor.quic.send_stream_data(stream, bytes(2 * MAX_STREAM_DATA))
        # the first bytes never leave: as if they had been acknowledged already
        visitor.quic._streams[stream].sender._pending.subtract(0, 1)
    visitor.run(3.0)
    quic = far_end(server).http.quic
    kept = sum(len(entry.receiver._buffer) for entry in quic._streams.values())
    assert kept > MAX_DATA // 2, "the attack has worked as far as it can"
    assert kept <= MAX_DATA + 4096
    assert quic._local_max_data.value <= 2 * MAX_DATA


def test_an_endless_header_frame_ends_its_connection(server: ServerPaths, visitor: Visitor) -> None:
    for _ in range(6):
        stream = visitor.quic.get_next_available_stream_id()
        visitor.quic.send_stream_data(stream, HEADERS_FRAME + encode_uint_var(1 << 30) + bytes(20_000))
    visitor.run(2.0)
    assert visitor.ended is not None
    assert visitor.ended.error_code == H3_EXCESSIVE_LOAD


def test_a_visitor_who_asks_and_takes_nothing_loses_his_connection(config: ServerConfig) -> None:
    server = ServerPaths(replace(config, masquerade=MasqueradeConfig("x" * 10_000, type="string")))
    visitor = Visitor(server).run()
    far_end(server).http.quic._remote_max_data = 0  # as if the visitor had never allowed any
    for _ in range(40):
        visitor.http.request(request(b"GET"))
    visitor.run(2.0)
    assert visitor.ended is not None
    assert visitor.ended.error_code == H3_EXCESSIVE_LOAD
    assert not server._paths


def test_a_fault_in_aioquic_costs_one_connection(
    server: ServerPaths, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*_arguments: object) -> None:
        raise ZeroDivisionError("a fault")

    other = Visitor(server, ("192.0.2.10", 1)).run()
    faulty = far_end(server)
    monkeypatch.setattr(faulty.http.quic, "receive_datagram", fault)
    visitor.http.request(request(b"GET"))
    visitor.run(1.0)
    assert "ZeroDivisionError" in faulty.http.broken
    assert visitor.ended is not None
    other.http.request(request(b"GET"))
    other.run()
    assert list(other.status.values()) == [b"200"]


def test_trailers_are_no_second_request(server: ServerPaths, visitor: Visitor) -> None:
    stream = visitor.http.request(UPLOAD)
    visitor.run(0.05)
    visitor.http._h3.send_headers(stream, [(b"x-last", b"1")], end_stream=True)  # type: ignore[union-attr]
    visitor.run()
    assert visitor.status == {stream: b"405"}
    assert not far_end(server).http.broken
