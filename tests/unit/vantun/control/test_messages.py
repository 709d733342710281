from __future__ import annotations

from dataclasses import replace

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.engine import Suite
from vantun.control.messages import (
    LENGTH_SIZE,
    MAX_MESSAGE,
    ControlMessage,
    Goodbye,
    Hello,
    MessageReader,
    Refuse,
    RefuseCode,
    Welcome,
    decode,
    encode,
)
from vantun.control.session_messages import (
    ListenAnswer,
    ListenCode,
    ListenRequest,
    Prefix,
    Transport,
    TunAnswer,
    TunCode,
    TunRequest,
)
from vantun.errors import ProtocolError

NUMBERS = st.integers(0, (1 << 62) - 1)
SUITES = st.lists(st.sampled_from(Suite), min_size=1, max_size=3).map(tuple)


def octets(length: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=length, max_size=length)


def text(most: int) -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=("C", "Z")), max_size=most)


def hellos(session: st.SearchStrategy[int], token: st.SearchStrategy[bytes]) -> st.SearchStrategy[Hello]:
    return st.builds(Hello, session, token, NUMBERS, octets(32), octets(1184), SUITES, octets(8), text(64), NUMBERS)


HELLOS = hellos(st.just(0), st.just(b"")) | hellos(st.integers(1, (1 << 62) - 1), octets(16))
WELCOMES = st.builds(
    Welcome,
    st.integers(1, (1 << 62) - 1),
    NUMBERS,
    octets(32),
    octets(1088),
    st.sampled_from(Suite),
    octets(8),
    st.lists(octets(16), max_size=16).map(tuple),
    NUMBERS,
)
REFUSALS = st.builds(Refuse, st.sampled_from(RefuseCode), text(400))
ADDRESSES = st.lists(octets(4) | octets(16), max_size=8).map(tuple)
INTERFACES = st.builds(Prefix, octets(4), st.integers(0, 32)) | st.builds(Prefix, octets(16), st.integers(0, 128))
NETWORKS = st.lists(INTERFACES.map(lambda prefix: Prefix.of(prefix.interface().network)), max_size=64).map(tuple)
MTUS, OFFLOADS = st.integers(0, 65535), st.integers(0, 65535)
TUN_REQUESTS = st.builds(TunRequest, ADDRESSES, NETWORKS, MTUS, OFFLOADS)
TUN_ANSWERS = st.builds(
    TunAnswer,
    st.sampled_from(TunCode),
    text(400),
    st.lists(INTERFACES, max_size=8).map(tuple),
    ADDRESSES,
    NETWORKS,
    MTUS,
    OFFLOADS,
)
LISTENERS, PORTS = st.integers(0, (1 << 31) - 1), st.integers(0, 65535)
LISTEN_REQUESTS = st.builds(ListenRequest, LISTENERS, st.sampled_from(Transport), text(255), PORTS)
LISTEN_ANSWERS = st.builds(ListenAnswer, LISTENERS, st.sampled_from(ListenCode), text(400), PORTS)
SESSION_MESSAGES = st.one_of(TUN_REQUESTS, TUN_ANSWERS, LISTEN_REQUESTS, LISTEN_ANSWERS)
MESSAGES = st.one_of(HELLOS, WELCOMES, REFUSALS, st.builds(Goodbye, NUMBERS, text(400)), SESSION_MESSAGES)


@given(st.lists(st.tuples(NUMBERS, MESSAGES), max_size=4), st.integers(1, 700))
def test_what_is_written_is_read_however_it_is_cut(sent: list[tuple[int, ControlMessage]], piece: int) -> None:
    stream = b"".join(encode(number, message) for number, message in sent)
    reader = MessageReader()
    read = [entry for start in range(0, len(stream), piece) for entry in reader.feed(stream[start : start + piece])]
    assert read == sent


@given(st.binary(max_size=200))
def test_garbage_is_an_error_or_incomplete(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


@given(MESSAGES, st.data())
def test_a_changed_byte_is_an_error_or_another_valid_message(message: ControlMessage, data: st.DataObject) -> None:
    body = bytearray(encode(1, message)[LENGTH_SIZE:])
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] ^= data.draw(st.integers(1, 255))
    try:
        _, found = decode(bytes(body))
    except ProtocolError:
        return
    found.check()


@given(MESSAGES, st.integers(0, 3000))
def test_a_truncated_message_is_an_error(message: ControlMessage, size: int) -> None:
    body = encode(1, message)[LENGTH_SIZE:]
    if size < len(body):
        with pytest.raises(ProtocolError):
            decode(body[:size])


def test_a_long_message_is_refused_by_its_length_alone() -> None:
    with pytest.raises(ProtocolError, match="16384 B are allowed"):
        MessageReader().feed((MAX_MESSAGE + 1).to_bytes(4, "big"))


def test_unknown_fields_are_ignored_and_unknown_messages_are_not() -> None:
    body = cbor2.loads(encode(3, Goodbye(1, "x"))[LENGTH_SIZE:])
    assert isinstance(body, dict)
    assert decode(cbor2.dumps({**body, "new": [1, 2]})) == (3, Goodbye(1, "x"))
    with pytest.raises(ProtocolError, match="kind is unknown"):
        decode(cbor2.dumps({**body, "is": "howdy"}))


@pytest.mark.parametrize(
    "change",
    [
        {"x25519": bytes(31)},
        {"ml_kem": bytes(1185)},
        {"cid": bytes(7)},
        {"suites": ()},
        {"session": 5},
        {"session": -1},
        {"path": 1 << 62},
        {"name": "n" * 65},
        {"name": "up\x1b[A"},
        {"slices": (bytes(7),)},
        {"slices": (bytes(8),)},
        {"slices": (b"slice  1", b"slice  1")},
        {"slices": tuple(bytes([1, *bytes(6), index]) for index in range(16))},
    ],
)
def test_bounds(change: dict[str, object]) -> None:
    good = Hello(0, b"", 0, bytes(32), bytes(1184), (Suite.AES_128_GCM,), bytes(8), "", 0)
    with pytest.raises(ValueError, match=r"bytes, expected|allowed are|cannot be printed|two slices"):
        encode(1, replace(good, **change))  # type: ignore[arg-type]


def test_a_hello_of_an_older_client_has_no_backup() -> None:
    new = Hello(0, b"", 0, bytes(32), bytes(1184), (Suite.AES_128_GCM,), bytes(8), "", 0, backup=1)
    plain = cbor2.loads(encode(1, new)[4:])
    assert plain.pop("backup") == 1
    assert decode(cbor2.dumps(plain)) == (1, replace(new, backup=0))
    with pytest.raises(ProtocolError, match="backup"):
        decode(cbor2.dumps({**plain, "backup": 2}))


@pytest.mark.parametrize("resets", [(bytes(16),), (bytes(16), bytes(15)), (bytes(16),) * 3])
def test_a_welcome_has_a_reset_for_each_further_slice_or_for_none(resets: tuple[bytes, ...]) -> None:
    cids = (b"slice  1", b"slice  2")
    good = Welcome(
        1, 0, bytes(32), bytes(1088), Suite.AES_128_GCM, bytes(8), (), 0, bytes(16), cids, (bytes(16), bytes(16))
    )
    assert decode(encode(1, good)[LENGTH_SIZE:]) == (1, good)
    encode(1, replace(good, resets=()))
    with pytest.raises(ValueError, match="reset"):
        encode(1, replace(good, resets=resets))
