from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import fuzz_turns
from vantun.config_kinds import Endpoint, parse_endpoint
from vantun.control.socks5 import LARGEST_STEP, Action, Associate, Connect, Handshake, Hangup, Send, reply

GREETING = b"\x05\x01\x00"
CREDENTIALS = b"\x05\x01\x02\x01\x05alice\x06s3cret"


def converse(handshake: Handshake, data: bytes, piece: int = LARGEST_STEP) -> tuple[list[Action], bytes]:
    """Feed ``data`` as a reader of at most ``piece`` bytes would; return the actions and what was not read."""
    actions: list[Action] = []
    while handshake.wanted and data:
        size = min(handshake.wanted, piece)
        actions += handshake.receive(data[:size])
        data = data[size:]
    return actions, data


def request(address: bytes, port: int = 443, command: int = 1) -> bytes:
    return bytes((5, command, 0)) + address + port.to_bytes(2, "big")


def domain(name: bytes) -> bytes:
    return bytes((3, len(name))) + name


@pytest.mark.parametrize(
    ("address", "host"),
    [
        (b"\x01\xc0\x00\x02\x01", "192.0.2.1"),
        (b"\x04" + bytes(15) + b"\x01", "::1"),
        (domain(b"example.org"), "example.org"),
        (domain(b"192.0.2.1"), "192.0.2.1"),
        (domain(b"[2001:db8::1]"), "2001:db8::1"),
    ],
)
@pytest.mark.parametrize("piece", [1, 2, 3, LARGEST_STEP])
def test_connect(address: bytes, host: str, piece: int) -> None:
    handshake = Handshake()
    actions, rest = converse(handshake, GREETING + request(address) + b"GET /", piece)
    assert actions == [Send(b"\x05\x00"), Connect(Endpoint(host, 443))]
    assert rest == b"GET /", "what the program sent behind its request belongs to the stream"
    assert handshake.wanted == 0


def test_user_and_password() -> None:
    actions, _ = converse(Handshake("alice", "s3cret"), CREDENTIALS + request(domain(b"a.test")))
    assert actions == [Send(b"\x05\x02"), Send(b"\x01\x00"), Connect(Endpoint("a.test", 443))]


@pytest.mark.parametrize("address", [b"\x01" + bytes(4), b"\x04" + bytes(16), domain(b""), domain(b"not a name")])
def test_udp_associate(address: bytes) -> None:
    actions, rest = converse(Handshake(), GREETING + request(address, 53, command=3) + b"x")
    assert (actions, rest) == ([Send(b"\x05\x00"), Associate(53)], b"x")


def test_replies() -> None:
    assert reply(0, "192.0.2.1", 258) == b"\x05\x00\x00\x01\xc0\x00\x02\x01\x01\x02"
    assert reply(0, "::1", 1) == b"\x05\x00\x00\x04" + bytes(15) + b"\x01\x00\x01"


@pytest.mark.parametrize(
    "wrong",
    [b"\x05alice\x05s3cre", b"\x05alicf\x06s3cret", b"\x00\x06s3cret", b"\x05alice\x00", b"\x06alice:\x05s3cret"[:13]],
)
def test_wrong_credentials(wrong: bytes) -> None:
    actions, _ = converse(Handshake("alice", "s3cret"), b"\x05\x01\x02\x01" + wrong)
    assert actions == [Send(b"\x05\x02"), Send(b"\x01\x01"), Hangup("wrong user name or password")]


@pytest.mark.parametrize(
    ("username", "greeting", "answer"),
    [
        ("", b"\x05\x01\x02", b"\x05\xff"),
        ("alice", b"\x05\x01\x00", b"\x05\xff"),
        ("alice", b"\x05\x02\x00\x01", b"\x05\xff"),
        ("", b"\x05\x00", b"\x05\xff"),
        ("", b"\x05\x01\x00\x04\x01\x00\x01", b"\x05\x00" + reply(1)),
        ("alice", b"\x05\x01\x02\x02\x01", b"\x05\x02\x01\x01"),
        ("", GREETING + request(b"\x01" + bytes(4), command=2), b"\x05\x00" + reply(7)),
        ("", GREETING + request(domain(b"a.test"), command=4), b"\x05\x00" + reply(7)),
        ("", GREETING + b"\x05\x01\x00\x02", b"\x05\x00" + reply(8)),
        ("", GREETING + request(domain(b"")), b"\x05\x00" + reply(1)),
        ("", GREETING + request(domain(b"a b")), b"\x05\x00" + reply(1)),
        ("", GREETING + request(domain(b"\xff\xfe")), b"\x05\x00" + reply(1)),
        ("", GREETING + request(domain(b"fe80::1%eth0")), b"\x05\x00" + reply(1)),
        ("", GREETING + request(domain(b"a.test"), port=0), b"\x05\x00" + reply(1)),
        ("", b"\x04\x01", b""),
        ("", b"GET / HTTP/1.1\r\n", b""),
    ],
)
def test_refusals(username: str, greeting: bytes, answer: bytes) -> None:
    actions, _ = converse(Handshake(username, "s3cret"), greeting)
    assert b"".join(action.data for action in actions if isinstance(action, Send)) == answer
    assert isinstance(actions[-1], Hangup)


def test_more_than_wanted_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="the rest belongs to the stream"):
        Handshake().receive(GREETING)


def test_nothing_is_taken_when_it_is_over() -> None:
    handshake = Handshake()
    converse(handshake, b"\x04\x01")
    assert handshake.receive(b"") == []
    with pytest.raises(ValueError, match="0 are wanted"):
        handshake.receive(b"x")


VALID = st.sampled_from(
    [GREETING + request(address) for address in (b"\x01abcd", b"\x04" + bytes(16), domain(b"x" * 63))]
    + [CREDENTIALS + request(domain(b"example.org"))]
)


@given(VALID, st.booleans())
def test_every_prefix_waits(conversation: bytes, as_alice: bool) -> None:
    """A truncated handshake neither connects nor hangs up, unless the whole one hangs up as well."""
    for size in range(len(conversation)):
        handshake = Handshake("alice" if as_alice else "", "s3cret")
        actions, rest = converse(handshake, conversation[:size])
        assert not any(isinstance(action, Connect) for action in actions)
        assert handshake.wanted or isinstance(actions[-1], Hangup)
        assert handshake.wanted == 0 or not rest


@given(
    st.one_of(
        st.binary(max_size=600),
        st.binary(max_size=300).map(lambda tail: GREETING + tail),
        st.binary(max_size=300).map(lambda tail: CREDENTIALS + tail),
        st.binary(max_size=300).map(lambda tail: GREETING + b"\x05\x01\x00" + tail),
    ),
    st.booleans(),
    st.lists(st.integers(1, LARGEST_STEP), min_size=1, max_size=10),
)
def test_any_bytes_in_any_split(data: bytes, as_alice: bool, pieces: list[int]) -> None:
    """Garbage never raises, is bounded, ends with at most one decision, and does not depend on how it was cut."""
    user = "alice" if as_alice else ""
    whole, rest = converse(Handshake(user, "s3cret"), data)
    decisions = [action for action in whole if not isinstance(action, Send)]
    assert decisions == whole[-1:] or not decisions
    assert len(data) - len(rest) <= 2 + 255 + 2 + 256 + 255 + 4 + 1 + LARGEST_STEP

    handshake = Handshake(user, "s3cret")
    cut: list[Action] = []
    left = data
    for turn in range(len(data)):
        size = min(pieces[turn % len(pieces)], handshake.wanted)
        assert size <= LARGEST_STEP
        cut += handshake.receive(left[:size])
        left = left[size:]
    assert (cut, left) == (whole, rest)
    for action in whole:
        if isinstance(action, Connect):
            assert parse_endpoint(str(action.target)) == action.target, "the far end parses what we name"


def test_a_hundred_thousand_handshakes() -> None:
    """Bytes of valid handshakes, exchanged here and there: one decision each, within the bound of what is read."""
    dice = random.Random(3)
    seeds = [GREETING + request(domain(b"example.org")), CREDENTIALS + request(b"\x01abcd", command=3)]
    for turn in range(fuzz_turns()):
        data = bytearray(seeds[turn % 2] + b"\x00\xff")
        for _ in range(dice.randrange(4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        handshake = Handshake("alice" if turn % 3 else "", "s3cret")
        actions, _ = converse(handshake, bytes(data))
        assert sum(not isinstance(action, Send) for action in actions) == (not handshake.wanted)
