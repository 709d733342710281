from __future__ import annotations

import base64
import random

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import fuzz_turns
from vantun.config_kinds import Endpoint
from vantun.control.http_proxy import LARGEST_HEAD, Forward, HttpRequest, Refuse, failure
from vantun.dataplane.ports import RefusalCode
from vantun.worker_messages import StreamReply

LOGIN = base64.b64encode("ünï:p:w".encode())


def ask(data: bytes, piece: int = 1 << 20, request: HttpRequest | None = None) -> Forward | Refuse | None:
    request = request or HttpRequest()
    for begin in range(0, len(data), piece):
        decision = request.receive(data[begin : begin + piece])
        if decision is not None:
            if isinstance(decision, Forward):
                return Forward(decision.target, decision.reply, decision.first + data[begin + piece :])
            return decision
    return None


def forwarded(data: bytes) -> tuple[Endpoint, bytes]:
    decision = ask(data)
    assert isinstance(decision, Forward), decision
    return decision.target, decision.first


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_connect(piece: int) -> None:
    decision = ask(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n\x16\x03\x01", piece)
    assert isinstance(decision, Forward)
    assert decision.target == Endpoint("example.org", 443)
    assert decision.first == b"\x16\x03\x01"
    assert decision.reply.accepted == b"HTTP/1.1 200 Connection established\r\n\r\n"


@pytest.mark.parametrize(
    ("target", "endpoint"),
    [
        (b"[2001:db8::1]:8443", Endpoint("2001:db8::1", 8443)),
        (b"192.0.2.1:1", Endpoint("192.0.2.1", 1)),
        (b"EXAMPLE.org.:443", Endpoint("EXAMPLE.org.", 443)),
    ],
)
def test_targets(target: bytes, endpoint: Endpoint) -> None:
    assert forwarded(b"CONNECT %b HTTP/1.0\r\n\r\n" % target)[0] == endpoint


@pytest.mark.parametrize("piece", [1, 13, 1000])
def test_a_plain_request_is_rewritten(piece: int) -> None:
    decision = ask(
        b"POST http://example.org:8080/a?b=c HTTP/1.1\r\nHost: other\r\nUser-Agent: x\r\n"
        b"Proxy-Connection: keep-alive\r\nConnection: keep-alive, X-Secret\r\n"
        b"X-Secret: 1\r\nX-Stays: 2\r\nTE: trailers\r\nUpgrade: h2c\r\n"
        b"Proxy-Authorization: Basic eDp5\r\nKeep-Alive: 5\r\nContent-Length: 4\r\n\r\nbody",
        piece,
    )
    assert isinstance(decision, Forward)
    assert decision.target == Endpoint("example.org", 8080)
    assert decision.first == (
        b"POST /a?b=c HTTP/1.1\r\nHost: example.org:8080\r\nUser-Agent: x\r\nX-Stays: 2\r\nContent-Length: 4\r\n"
        b"Connection: close\r\n\r\nbody"
    )
    assert decision.reply.accepted == b""


@pytest.mark.parametrize(
    ("line", "written"),
    [
        (b"GET http://a.test HTTP/1.1", b"GET / HTTP/1.1"),
        (b"GET HTTP://a.test?x=//y HTTP/1.1", b"GET /?x=//y HTTP/1.1"),
        (b"GET http://a.test/x#y HTTP/1.1", b"GET /x HTTP/1.1"),
        (b"GET http://a.test: HTTP/1.1", b"GET / HTTP/1.1"),
        (b"OPTIONS http://a.test HTTP/1.1", b"OPTIONS * HTTP/1.1"),
        (b"GET http://a.test/ HTTP/1.0", b"GET / HTTP/1.0"),
    ],
)
def test_request_lines(line: bytes, written: bytes) -> None:
    target, first = forwarded(line + b"\r\nHost: a.test\r\n\r\n")
    assert target == Endpoint("a.test", 80)
    assert first.startswith(written + b"\r\nHost: a.test")


def test_a_body_in_chunks_stays_one() -> None:
    head = b"PUT http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: Transfer-Encoding\r\n"
    _, first = forwarded(head + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
    assert b"\r\nTransfer-Encoding: chunked\r\n" in first
    assert first.endswith(b"\r\n\r\n1\r\nx\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    ("head", "code", "text"),
    [
        (b"GET / HTTP/1.1\r\nHost: a", 400, "this is a proxy, not a web site"),
        (b"CONNECT a HTTP/1.1\r\nHost: a", 400, "CONNECT needs a target like example.org:443"),
        (b"CONNECT :443 HTTP/1.1\r\nHost: a", 400, "it has no host"),
        (b"CONNECT a:0 HTTP/1.1\r\nHost: a", 400, "a port from 1 to 65535"),
        (b"CONNECT [fe80::1%25eth0]:1 HTTP/1.1\r\nHost: a", 400, "a zone means nothing"),
        (b"CONNECT u@a:1 HTTP/1.1\r\nHost: a", 400, "it contains a user name"),
        (b"CONNECT 127.1:1 HTTP/1.1\r\nHost: a", 400, "an address like"),
        (b"GET http://u:p@a/ HTTP/1.1\r\nHost: a", 400, "it contains a user name"),
        (b"GET http:/// HTTP/1.1\r\nHost: a", 400, "it has no host"),
        (b"GET https://a/ HTTP/1.1\r\nHost: a", 501, "https goes through a proxy by CONNECT"),
        (b"GET ftp://a/ HTTP/1.1\r\nHost: a", 501, "ftp goes"),
        (b"GET http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked", 400, "contradict"),
        (b"GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: b", 400, "no HTTP request that a proxy understands"),
        (b"GET http://a/ HTTP/1.1", 400, "Missing mandatory Host"),
        (b"\x16\x03\x01\x00\x10" + bytes(16), 400, "understands"),
    ],
)
def test_refusals(head: bytes, code: int, text: str) -> None:
    decision = ask(head + b"\r\n\r\n")
    assert isinstance(decision, Refuse)
    assert decision.answer.startswith(b"HTTP/1.1 %d " % code)
    assert text in decision.answer.decode()
    assert decision.reason


def test_an_answer_to_head_has_no_body() -> None:
    decision = ask(b"HEAD http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n")
    assert isinstance(decision, Refuse)
    assert decision.answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "fields",
    [
        (),
        (b"Basic " + base64.b64encode(b"x:p:w"),),
        (b"Basic " + base64.b64encode("ünï:p:".encode()),),
        (b"Basic",),
        (b"Basic ####",),
        (b"Bearer " + LOGIN,),
        (LOGIN,),
        (b"Basic " + LOGIN, b"Basic " + LOGIN),
    ],
)
def test_wrong_credentials(fields: tuple[bytes, ...]) -> None:
    lines = b"".join(b"Proxy-Authorization: %b\r\n" % value for value in fields)
    request = HttpRequest("ünï", "p:w", "at home")
    decision = ask(b"CONNECT a.test:1 HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n", request=request)
    assert isinstance(decision, Refuse)
    assert decision.answer.startswith(b"HTTP/1.1 407 ")
    assert b'\r\nProxy-Authenticate: Basic realm="at home", charset="UTF-8"\r\n' in decision.answer


@pytest.mark.parametrize("kind", [b"Basic", b"basic", b"BASIC "])
def test_right_credentials(kind: bytes) -> None:
    head = b"GET http://a.test/ HTTP/1.1\r\nHost: a\r\nProxy-Authorization: %b %b\r\n\r\n" % (kind, LOGIN)
    decision = ask(head, request=HttpRequest("ünï", "p:w"))
    assert isinstance(decision, Forward)
    assert LOGIN not in decision.first, "what was for the proxy does not reach the origin"


@pytest.mark.parametrize(
    ("code", "status"), [(1, 502), (2, 403), (3, 503), (4, 502), (5, 502), (6, 504), (0, 502), (99, 502)]
)
def test_answers_for_targets_that_were_not_reached(code: int, status: int) -> None:
    decision = ask(b"GET http://a.test/ HTTP/1.1\r\nHost: a\r\n\r\n")
    assert isinstance(decision, Forward)
    answer = decision.reply.refusal(code)
    assert answer == failure(code, Endpoint("a.test", 80))
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(answer)
    event = parser.next_event()
    assert isinstance(event, h11.Response)
    assert event.status_code == status
    assert b"a.test:80" in answer
    assert parser.next_event().__class__ is h11.Data
    assert StreamReply(b"", b"x").refusal(RefusalCode.GENERAL) == b"x"


def test_a_program_that_leaves() -> None:
    request = HttpRequest()
    assert request.receive(b"GET ht") is None
    decision = request.receive(b"")
    assert isinstance(decision, Refuse)
    with pytest.raises(ValueError, match="what follows belongs to the stream"):
        request.receive(b"x")
    assert isinstance(HttpRequest().receive(b""), Refuse)


@given(st.binary(max_size=400), st.integers(1, 50))
def test_any_bytes_in_any_split(data: bytes, piece: int) -> None:
    for head in (b"", b"CONNECT ", b"GET http://a.test/ HTTP/1.1\r\nHost: a\r\n"):
        one, cut = ask(head + data), ask(head + data, piece)
        assert type(one) is type(cut)
        if isinstance(one, Forward):
            assert one == cut


def test_what_never_ends_is_bounded() -> None:
    request = HttpRequest()
    taken = 0
    while (decision := request.receive(b"GET http://a.test/" + b"x" * 4096)) is None:
        taken += 4096
        assert taken <= LARGEST_HEAD
    assert isinstance(decision, Refuse)
    assert decision.answer.startswith(b"HTTP/1.1 431 ")


def test_a_hundred_thousand_heads() -> None:
    """Bytes of valid requests, exchanged here and there: a decision or none, and no other exception."""
    dice = random.Random(4)
    seeds = [
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\nProxy-Authorization: Basic dTpw\r\n\r\n\x16",
        b"POST http://[::1]:80/x HTTP/1.1\r\nHost: a\r\nConnection: x, te\r\nContent-Length: 3\r\n\r\nabc",
    ]
    seen: set[type[object]] = set()
    for turn in range(fuzz_turns()):
        data = bytearray(seeds[turn % 2])
        for _ in range(dice.randrange(4)):
            data[dice.randrange(len(data))] = dice.choice(b"\r\n :/@[]%\x00\xffa0,")
        decision = HttpRequest("u", "p").receive(bytes(data)) if turn % 3 else HttpRequest().receive(bytes(data))
        seen.add(type(decision))
        if isinstance(decision, Forward):
            assert decision.target.host
            assert len(decision.first) <= len(data) + 64
    assert seen == {Forward, Refuse, type(None)}
