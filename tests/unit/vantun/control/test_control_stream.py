"""What a client with right credentials can say on the control stream, byte by byte."""

from __future__ import annotations

from dataclasses import replace

import pytest

from accel.engine import Suite
from tests.unit.vantun.control.quic_pair import server_config
from tests.unit.vantun.control.visitor import Visitor, request
from vantun.config import ServerConfig
from vantun.control.authentication import authorization
from vantun.control.key_exchange import ClientExchange
from vantun.control.messages import (
    MAX_MESSAGE,
    ControlMessage,
    Goodbye,
    Hello,
    MessageReader,
    Refuse,
    RefuseCode,
    Welcome,
    encode,
)
from vantun.control.path_events import MessageReceived, PathDown, PathUp, SessionEnded
from vantun.control.server_path import MESSAGE_ERROR
from vantun.control.server_paths import ServerPaths
from vantun.control.session_messages import (
    ListenAnswer,
    ListenCode,
    ListenRequest,
    Transport,
    TunAnswer,
    TunCode,
)
from vantun.control.sessions import SESSION_LINGER

KEYS = ClientExchange()
HELLO = Hello(0, b"", 0, KEYS.x25519, KEYS.ml_kem, (Suite.AES_128_GCM,), b"clientid", "dsl", 0)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ServerConfig:
    return server_config(tmp_path_factory.mktemp("control"))


@pytest.fixture
def server(config: ServerConfig) -> ServerPaths:
    return ServerPaths(config)


class Client(Visitor):
    """A visitor with right credentials, on whose control stream a test writes what it likes."""

    def __init__(self, server: ServerPaths, port: int = 50000, now: float = 10.0) -> None:
        super().__init__(server, ("192.0.2.9", port), now)
        self.run()
        fields = [(b":protocol", b"vantun"), (b"authorization", authorization("alice:s3cret"))]
        self.stream = self.http.request(request(b"CONNECT", b"/", fields))
        self.run()
        assert self.status == {self.stream: b"200"}

    def say(self, data: bytes) -> list[tuple[int, ControlMessage]]:
        """Send ``data``; return all messages that have come back so far."""
        self.http.send(self.stream, data)
        self.run()
        return MessageReader().feed(self.bodies.get(self.stream, b""))


def test_a_repeated_hello_gets_the_same_welcome_and_no_second_lane(server: ServerPaths) -> None:
    client = Client(server)
    client.say(encode(7, HELLO))
    answers = client.say(encode(7, HELLO))
    assert len(answers) == 2
    assert answers[0] == answers[1]
    assert isinstance(answers[0][1], Welcome)
    assert answers[0][0] == 7
    assert len([event for event in client.events if isinstance(event, PathUp)]) == 1


def test_one_connection_has_one_lane(server: ServerPaths) -> None:
    client = Client(server)
    client.say(encode(1, HELLO))
    answer = client.say(encode(2, replace(HELLO, path=1)))[-1][1]
    assert isinstance(answer, Refuse)
    assert answer.code is RefuseCode.PATH_USED
    for number in range(3, 6):
        client.say(encode(number, HELLO))
    client.run(1.0)
    assert client.ended is not None, "asking again and again is no use"


def test_a_hello_in_pieces(server: ServerPaths) -> None:
    client = Client(server)
    whole = encode(1, HELLO)
    for start in range(0, len(whole), 300):
        assert not client.events
        answers = client.say(whole[start : start + 300])
    assert len(answers) == 1
    assert isinstance(client.events[0], PathUp)


def test_half_a_hello(server: ServerPaths) -> None:
    client = Client(server)
    client.say(encode(1, HELLO)[:700])
    client.quic.send_stream_data(client.stream, b"", end_stream=True)
    client.run(1.0)
    assert client.ended is not None
    assert not client.events


@pytest.mark.parametrize(
    "data",
    [
        (MAX_MESSAGE + 1).to_bytes(4, "big"),
        b"\xff\xff\xff\xff",
        b"\0\0\0\0",
        b"\0\0\0\x01\xa0",
        b"\0\0\0\x05\xd8\x1c\x81\xd8\x1d",
        encode(1, Refuse(RefuseCode.NO_ROOM, "")),
        encode(1, HELLO).replace(b"dsl", b"\x1b[A"),
        encode(1, replace(HELLO, x25519=bytes(32))),
        encode(1, ListenRequest(1, Transport.TCP, "", 80)),
        encode(1, TunAnswer(TunCode.GRANTED, "", (), (), (), 0, 0)),
    ],
    ids=[
        "long",
        "longest",
        "empty",
        "no-fields",
        "tags",
        "of-a-server",
        "terminal",
        "no-key",
        "before-hello",
        "answer",
    ],
)
def test_nonsense_ends_the_connection(server: ServerPaths, data: bytes) -> None:
    client = Client(server)
    assert not client.say(data)
    client.run(1.0)
    assert client.ended is not None
    assert client.ended.error_code == MESSAGE_ERROR
    assert not client.events
    assert len(server) == 0


def test_a_hello_without_keys_uses_up_no_token(server: ServerPaths) -> None:
    first = Client(server)
    welcome = first.say(encode(1, HELLO))[0][1]
    assert isinstance(welcome, Welcome)
    joining = replace(HELLO, session=welcome.session, token=welcome.tokens[0], path=1)
    Client(server, 50001, first.now).say(encode(1, replace(joining, x25519=bytes(32))))
    answer = Client(server, 50002, first.now).say(encode(1, joining))[0][1]
    assert isinstance(answer, Welcome)
    assert answer.session == welcome.session


def test_a_token_expires_with_its_session(server: ServerPaths) -> None:
    client = Client(server)
    welcome = client.say(encode(1, HELLO))[0][1]
    assert isinstance(welcome, Welcome)
    client.say(encode(0, Goodbye(0, "bye")))
    client.run(SESSION_LINGER + 2.0)
    assert [type(event) for event in client.events] == [PathUp, PathDown, SessionEnded]
    late = Client(server, 50001, client.now)
    joining = replace(HELLO, session=welcome.session, token=welcome.tokens[0], path=1)
    answer = late.say(encode(1, joining))[0][1]
    assert isinstance(answer, Refuse)
    assert answer.code is RefuseCode.UNKNOWN_SESSION


def test_a_control_stream_that_is_reset_ends_the_path(server: ServerPaths) -> None:
    client = Client(server)
    client.say(encode(1, HELLO))
    client.quic.reset_stream(client.stream, 0)
    client.run(1.0)
    assert isinstance(client.events[-1], PathDown)
    assert len(server) == 0


def test_a_request_is_told_once_and_answered_as_often_as_it_is_asked(server: ServerPaths) -> None:
    client = Client(server)
    request, answer = ListenRequest(3, Transport.TCP, "", 80), ListenAnswer(3, ListenCode.LISTENING, "", 80)
    client.say(encode(1, HELLO))
    client.say(encode(1, request))
    told = client.events[-1]
    assert isinstance(told, MessageReceived)
    assert (told.path, told.number, told.message) == (0, 1, request)
    client.say(encode(1, request))
    server.send(told.session, 1, answer)
    assert client.say(b"")[1:] == [(1, answer)]
    assert client.say(encode(1, request))[1:] == [(1, answer), (1, answer)]
    assert [type(event) for event in client.events] == [PathUp, MessageReceived]


def test_a_client_that_asks_without_end_loses_its_path(server: ServerPaths) -> None:
    client = Client(server)
    client.say(encode(1, HELLO))
    for number in range(70):
        client.say(encode(number, ListenRequest(3, Transport.TCP, "", 80)))
    client.run(1.0)
    assert client.ended is not None
    assert client.ended.error_code == MESSAGE_ERROR
