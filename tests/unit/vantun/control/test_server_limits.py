"""What strangers, and clients who dawdle, can make a server keep."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.vantun.control.quic_pair import SERVER, server_config
from tests.unit.vantun.control.visitor import Fields, Visitor, request
from vantun.config import ServerConfig
from vantun.control.admission import Limits, source_of
from vantun.control.authentication import authorization
from vantun.control.quic import IDLE_TIMEOUT, GuardedConnection, quic_configuration
from vantun.control.server_path import HANDSHAKE_TIME, TUNNEL_TIME
from vantun.control.server_paths import ServerPaths

TUNNEL: Fields = [(b":protocol", b"vantun"), (b"authorization", authorization("alice:s3cret"))]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ServerConfig:
    return server_config(tmp_path_factory.mktemp("limits"))


@pytest.fixture
def server(config: ServerConfig) -> ServerPaths:
    return ServerPaths(config)


def first_packet(server: ServerPaths, source: str, now: float = 1.0) -> None:
    quic = GuardedConnection(configuration=quic_configuration(is_client=True))
    quic.connect(SERVER, now)
    for data, _ in quic.datagrams_to_send(now):
        server.receive(data, 0, (source, 1000), now)


def test_a_handshake_that_goes_on_for_ever_is_forgotten_without_a_word(server: ServerPaths) -> None:
    # its first packet again and again, which keeps an idle timer from running out
    silent = Visitor(server, ("192.0.2.20", 1))
    first = next(data for data, _ in silent.quic.datagrams_to_send(10.0))
    now = 10.0
    while now < 10.0 + HANDSHAKE_TIME - 0.5:
        server.receive(first, 0, ("192.0.2.20", 1), now)
        server.run_timers(now)
        server.transmit(now)
        now += 0.5
    assert server.half_open == 1
    server.run_timers(10.0 + HANDSHAKE_TIME)
    assert server.half_open == 0
    assert not server.transmit(now), "it is gone, not closed"


def test_right_credentials_without_a_hello_are_not_kept(server: ServerPaths) -> None:
    visitor = Visitor(server).run()
    visitor.http.request(request(b"CONNECT", b"/", TUNNEL))
    visitor.run(TUNNEL_TIME - 1.0)
    assert list(visitor.status.values()) == [b"200"]
    assert not visitor.over
    visitor.run(3.0)
    assert visitor.ended is not None
    assert "no lane" in visitor.ended.reason_phrase
    assert len(server) == 0


def test_a_visitor_may_stay_until_he_is_idle(server: ServerPaths) -> None:
    visitor = Visitor(server).run()
    visitor.http.request(request(b"GET"))
    visitor.run(IDLE_TIMEOUT - 1.0)
    assert len(server) == 1
    visitor.run(2.0)
    assert len(server) == 0


def test_connections_of_one_source_are_counted_and_given_back(
    config: ServerConfig,
) -> None:
    server = ServerPaths(config, limits=Limits(per_source=3))
    visitors = [Visitor(server, ("2001:db8::1", 1000 + i)).run(0.05) for i in range(3)]
    assert all(visitor.ready for visitor in visitors)
    assert not Visitor(server, ("2001:db8::2", 1)).run(0.05).ready, "the same network"
    assert Visitor(server, ("2001:db8:0:1::1", 1)).run(0.05).ready
    visitors[0].http.close()
    visitors[0].run(1.0)
    assert Visitor(server, ("2001:db8::2", 2), visitors[0].now).run(0.05).ready


def test_connections_at_all(config: ServerConfig) -> None:
    server = ServerPaths(config, limits=Limits(connections=3))
    for i in range(5):
        first_packet(server, f"198.51.100.{i}")
    assert len(server) == 3


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("?", "?"),
    ],
)
def test_sources(host: str, counted: str) -> None:
    assert source_of(host) == counted


def test_no_data_connection_id_is_one_of_quic(config: ServerConfig) -> None:
    made: Iterator[bytes] = iter([])
    server = ServerPaths(config, make_cid=lambda _worker: next(made))
    Visitor(server).run()
    taken = next(cid for cid in server._by_cid)
    made = iter([taken, b"fresh cid"])
    assert server._new_data_cid() == b"fresh cid"


def test_timers_are_found_without_asking_every_connection(server: ServerPaths) -> None:
    visitors = [Visitor(server, ("192.0.2.9", 1000 + i)).run(0.1) for i in range(20)]
    assert server.timer() is not None
    end = visitors[-1].now + 100.0
    now = visitors[-1].now
    runs = 0
    while (due := server.timer()) is not None and due < end:
        now = max(now, due)
        server.run_timers(now)
        server.transmit(now)
        runs += 1
        assert runs < 2000
    assert len(server) == 0
    assert server.timer() is None
