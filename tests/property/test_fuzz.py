"""Every parser of what a stranger or a peer sends, fed with broken copies of real ones.

Seeded and by a plain loop: nothing in 10^5 inputs (CI) or 10^7 (soak) leaves by another way than the one it should.
Parsers with a loop of their own: HTTP, SOCKS5, the addresses of UDP.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from accel.engine import Suite
from tests.fuzz import fuzz_turns
from tests.peer import open_record, packets, pair, stream
from vantun.acl import AccessList
from vantun.config_uri import parse_link
from vantun.control import messages, own_lookup, strict_cbor
from vantun.control.connector import parse_target
from vantun.control.messages import Goodbye, Hello, Refuse, RefuseCode, Welcome
from vantun.errors import ProtocolError
from vantun.speedtest import messages as speedtest
from vantun.speedtest.datagrams import unwrap
from vantun.udp_address import encode_address
from vantun.wire.frames import MAX_RANGES, get_ranges
from vantun.wire.records import get_record
from vantun.wire.varint import get_varint

HELLO = Hello(7, bytes(16), 3, bytes(32), bytes(1184), (Suite.AES_128_GCM,), bytes(8), "dsl", 10**6, 0, (b"slice  1",))
WELCOME = Welcome(7, 3, bytes(32), bytes(1088), Suite.AES_128_GCM, bytes(8), (bytes(16),), 0, b"", (b"slice  1",))
SAID: list[messages.ControlMessage] = [HELLO, WELCOME, Refuse(RefuseCode.NO_ROOM, "full"), Goodbye(1, "bye")]
MESSAGES = [messages.encode(number, message)[messages.LENGTH_SIZE :] for number, message in enumerate(SAID)]
LINKS = [
    b"vantun://alice:s3cret@gw.example:443/?pinSHA256=" + b"ab" * 32,
    b"vantun://[2001:db8::1]:1/?sni=a.b&insecure=1",
]
TARGETS = [b"example.org:443", b"[2001:db8::1]:80", b"192.0.2.1:65535"]
RULES = [b"reject(10.0.0.0/8, tcp/22)", b"direct(suffix:example.org)", b"allow(2001:db8::/32, udp/1000-2000)"]
SPEED_TESTS = [
    speedtest.Request(speedtest.Mode.UPLOAD, 5.0).encode(),
    speedtest.Request(speedtest.Mode.DATAGRAMS_DOWN, 5.0, 1200, 50_000_000).encode(),
]
RELAYED = [
    bytes(3) + encode_address(host, 1) + speedtest.Datagram(bytes(16), 7, 1 << 40).encode()
    for host in ("127.0.0.1", "2001:db8::1", "a.example")
]
ASKED = own_lookup.question(7, "vpn.example.org", own_lookup.A)
ANSWERS = [
    ASKED[:2] + bytes.fromhex("8180 0001 0002 0000 0000") + ASKED[12:] + bytes.fromhex(records)
    for records in (
        "c00c 0005 0001 0000003c 0006 04 7265616c c010  c02d 0001 0001 0000003c 0004 c0000201",
        "02 617a 00 0001 0001 0000003c 0004 c0000201  c00c 0001 0001 0000003c 0004 c0000202",
    )
]
RECORDS = [
    open_record(4, b"udp:") + stream(4, 9, b"hello"),
    packets(4, 8, 2, b"abcd") + pair(6, 4, 1 << 40),
    pair(7, 1, 2),
]
RANGES = [bytes((3, 5, 0, 2, 1, 1)), bytes((32, *[0x40, 1] * 63))]


def broken(samples: list[bytes], seed: int) -> Iterator[bytes]:
    """Yield copies of ``samples`` with bytes changed, cut off, repeated or inserted; now and then plain noise."""
    draw = random.Random(seed)
    for _ in range(fuzz_turns()):
        data = bytearray(draw.choice(samples))
        for _ in range(draw.randint(0, 4)):
            place = draw.randrange(len(data) + 1)
            match draw.randrange(5):
                case 0 if data:
                    data[min(place, len(data) - 1)] = draw.randrange(256)
                case 1:
                    del data[place:]
                case 2:
                    data[place:place] = data[place : place + draw.randint(1, 40)]
                case 3:
                    data[place:place] = draw.randbytes(draw.randint(1, 8))
                case 4 if draw.random() < 0.05:
                    data = bytearray(draw.randbytes(draw.randint(0, 64)))
        yield bytes(data)


PARSERS: list[tuple[str, list[bytes], Callable[[bytes], object], tuple[type[Exception], ...]]] = [
    ("control message", MESSAGES, messages.decode, (ProtocolError,)),
    ("CBOR", MESSAGES, strict_cbor.read, (ValueError,)),
    ("link", LINKS, lambda data: parse_link(data.decode("latin-1")), (ValueError,)),
    ("DNS", ANSWERS, lambda data: own_lookup.answer(data, ASKED), (ValueError,)),
    ("target", TARGETS, lambda data: parse_target(data.decode("utf-8", "replace")), (ValueError,)),
    ("speed test", SPEED_TESTS, speedtest.Request.decode, (ValueError,)),
    ("relayed datagram", RELAYED, lambda data: speedtest.Datagram.decode(unwrap(data)), (ValueError,)),
    ("rule", RULES, lambda data: AccessList.parse([data.decode("utf-8", "replace")]), (ValueError,)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("samples", "parse", "refusal"), [row[1:] for row in PARSERS], ids=[row[0] for row in PARSERS])
def test_what_is_broken_is_refused_and_nothing_else_happens(
    samples: list[bytes], parse: Callable[[bytes], object], refusal: tuple[type[Exception], ...]
) -> None:
    refused = 0
    for data in broken(samples, 1):
        try:
            parse(data)
        except refusal:
            refused += 1
    assert 0.05 < refused / fuzz_turns() < 1.0, "the inputs are neither all right nor all wrong"


@pytest.mark.slow
def test_records_end_within_their_area() -> None:
    memory = np.full(512, 0xEE, np.uint8)
    out = np.zeros(6, np.int64)
    whole = 0
    for data in broken(RECORDS, 2):
        end = min(len(data), len(memory))
        memory[:end] = np.frombuffer(data[:end], np.uint8)
        position = 0
        while 0 <= position < end:
            before = position
            position = get_record(memory, position, end, out)
            assert position == -1 or before < position <= end
            assert position == -1 or 0 <= out[3] <= out[3] + out[4] <= end
        whole += position == end
    assert 0 < whole < fuzz_turns()


@pytest.mark.slow
def test_ranges_are_bounded_and_go_down() -> None:
    memory = np.zeros(512, np.uint8)
    out = np.zeros((MAX_RANGES, 2), np.int64)
    read = 0
    for data in broken(RANGES, 3):
        end = min(len(data), len(memory))
        memory[:end] = np.frombuffer(data[:end], np.uint8)
        largest, position = get_varint(memory, 0, end)
        count, position = get_ranges(memory, position, end, largest, out) if position >= 0 else (0, -1)
        assert 0 <= count <= MAX_RANGES
        if position >= 0:
            read += 1
            assert position <= end
            found = out[:count]
            assert (found[:, 0] >= 0).all()
            assert (found[:, 0] <= found[:, 1]).all()
            assert (found[1:, 1] < found[:-1, 0] - 1).all()
    assert read > 0
