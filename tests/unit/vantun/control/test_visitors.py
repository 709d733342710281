"""A visitor cannot tell a server from a web site by its answers: HTTP/3 in memory."""

from __future__ import annotations

import ssl

import pytest

from tests.unit.vantun.control.quic_pair import SERVER, server_config
from vantun.config import MasqueradeConfig, ServerConfig
from vantun.control.admission import Limits
from vantun.control.authentication import Authenticator, authorization
from vantun.control.quic import (
    DataReceived,
    GuardedConnection,
    HandshakeCompleted,
    HeadersReceived,
    HttpConnection,
    quic_configuration,
)
from vantun.control.server_paths import ServerPaths
from vantun.control.site import Site
from vantun.control.web import Request

Fields = list[tuple[bytes, bytes]]
CONNECT: Fields = [(b":protocol", b"vantun"), (b":scheme", b"https")]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ServerConfig:
    return server_config(tmp_path_factory.mktemp("site"))


def visit(server: ServerPaths, requests: list[Fields], port: int = 50000) -> list[tuple[dict[bytes, bytes], bytes]]:
    """Send requests on one connection; return (fields, body) of each answer."""
    settings = quic_configuration(is_client=True)
    settings.verify_mode = ssl.CERT_NONE
    quic = GuardedConnection(configuration=settings)
    http, me, now = HttpConnection(quic), ("192.0.2.9", port), 10.0
    quic.connect(SERVER, now)
    streams: list[int] = []
    fields: dict[int, dict[bytes, bytes]] = {}
    bodies: dict[int, bytes] = {}
    for _ in range(20):
        now += 0.01
        for data, _peer in http.transmit(now):
            server.receive(data, 0, me, now)
        for _socket, data, peer in server.transmit(now):
            if peer == me:
                http.receive(data, SERVER, now)
        for event in http.events():
            if isinstance(event, HandshakeCompleted):
                streams = [http.request(request) for request in requests]
            elif isinstance(event, HeadersReceived):
                fields[event.stream_id] = dict(event.headers)
            elif isinstance(event, DataReceived):
                bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
    assert streams, "no handshake"
    return [(fields[stream], bodies.get(stream, b"")) for stream in streams]


def request(method: bytes, path: bytes = b"/", more: Fields | None = None) -> Fields:
    head = [(b":method", method), (b":authority", b"gw.example"), (b":path", path)]
    return [*head, *(more or [(b":scheme", b"https")])]


def test_a_plain_site(config: ServerConfig) -> None:
    found, missing, refused = visit(
        ServerPaths(config), [request(b"GET"), request(b"GET", b"/nothing"), request(b"POST")]
    )
    assert (found[0][b":status"], missing[0][b":status"], refused[0][b":status"]) == (b"200", b"404", b"405")
    assert b"It works" in found[1]
    for fields, body in (found, missing, refused):
        assert int(fields[b"content-length"]) == len(body) > 0
        assert fields[b"date"].endswith(b"GMT")


def test_wrong_credentials_get_the_answer_of_no_credentials(config: ServerConfig) -> None:
    wrong = [*CONNECT, (b"authorization", authorization("alice:wrong"))]
    nobody, known, garbage = visit(
        ServerPaths(config),
        [
            request(b"CONNECT", b"/", CONNECT),
            request(b"CONNECT", b"/", wrong),
            request(b"CONNECT", b"/", [*CONNECT, (b"authorization", b"Basic \xff%")]),
        ],
    )
    assert nobody[0][b":status"] == b"405"
    for fields, body in (known, garbage):
        assert {**fields, b"date": b""} == {**nobody[0], b"date": b""}
        assert body == nobody[1]


def test_a_configured_answer() -> None:
    settings = {"Content-Type": "text/plain", "Server": "caddy", "Connection": "close"}
    site = Site(MasqueradeConfig("hello", settings, 203, "string"))
    for method in (b"GET", b"CONNECT"):
        answer = site.answer_now(Request(method, b"gw.example", b"/any"))
        assert answer.status == 203
        assert [value for name, value in answer.headers if name == b"content-type"] == [b"text/plain"]
        assert [value for name, value in answer.headers if name == b"server"] == [b"caddy"]
        assert b"connection" not in dict(answer.headers)
        assert answer.body == b"hello"
    assert site.answer_now(Request(b"HEAD", b"gw.example", b"/")).body == b""


def test_a_flood_of_first_packets_is_bounded(config: ServerConfig) -> None:
    server = ServerPaths(config)
    settings = quic_configuration(is_client=True)
    sent = 0
    for i in range(Limits().unproven + 40):
        quic = GuardedConnection(configuration=settings)
        quic.connect(SERVER, 1.0)
        for data, _ in quic.datagrams_to_send(1.0):
            server.receive(data, 0, (f"198.51.100.{i}", 1000 + i), 1.0)
            sent += len(data)
    assert len(server) == Limits().unproven, "the others were told to prove their address"
    answered = sum(len(data) for _, data, _ in server.transmit(1.0))
    assert answered <= 3 * sent
    # whoever answers the Retry is served all the same
    assert visit(server, [request(b"GET")])[0][0][b":status"] == b"200"


def test_credentials() -> None:
    from vantun.config import AuthConfig

    users = Authenticator(AuthConfig("userpass", users={"alice": "a:b", "bob": ""}))
    assert users.user(authorization("alice:a:b")) == "alice"
    for wrong in ("alice:a", "alice", "carol:a:b", "", ":"):
        assert users.user(authorization(wrong)) is None, wrong
    assert users.user(b"Bearer " + authorization("alice:a:b")[6:]) is None
    assert users.user(b"") is None
    one = Authenticator(AuthConfig("password", password="pässwörd"))
    assert one.user(authorization("pässwörd")) == ""
    assert one.user(authorization("password")) is None
