"""Codecs: what is written is read again, and no reader looks behind the end, whatever it is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tests.peer import open_record, packets, pair, receipt, stream, varint
from vantun.wire import frames, records, short_header
from vantun.wire.packet_number import expand_number
from vantun.wire.varint import VARINT_MAX, get_varint, put_varint, varint_size

GUARD = 24
INTEGERS = st.one_of(
    st.integers(0, VARINT_MAX),
    st.builds(
        lambda power, change: min(max((1 << power) + change, 0), VARINT_MAX), st.integers(0, 62), st.integers(-1, 1)
    ),
)


def guarded(content: bytes, guard: int) -> Any:
    return np.frombuffer(bytes([guard]) * GUARD + content + bytes([guard]) * GUARD, np.uint8).copy()


def read(content: bytes, reader: Callable[[Any, int, int], Any]) -> Any:
    """Return ``reader(memory, start, end)``, with positions relative to ``content``.

    It is asked three times, with other bytes around: the same answer means that none of them was looked at.
    """
    answers = []
    for guard in (0x00, 0xFF, 0x41):
        answer = reader(guarded(content, guard), GUARD, GUARD + len(content))
        answers.append(answer)
    assert answers[0] == answers[1] == answers[2]
    return answers[0]


def written(writer: Callable[[Any, int], int]) -> bytes:
    """Return what ``writer(memory, position)`` wrote; fail if it wrote outside of what it says."""
    memory = np.full(2000, 0xA5, np.uint8)
    end = int(writer(memory, GUARD))
    assert (memory[:GUARD] == 0xA5).all()
    assert (memory[end:] == 0xA5).all()
    return memory[GUARD:end].tobytes()


# --- varints


@given(INTEGERS)
def test_varint_round_trip(value: int) -> None:
    content = written(lambda memory, position: put_varint(memory, position, value))
    assert content == varint(value)
    assert varint_size(value) == len(content)
    assert read(content, get_varint) == (value, GUARD + len(content))


@given(INTEGERS, st.sampled_from([1, 2, 4, 8]))
def test_varint_that_is_longer_than_needed(value: int, size: int) -> None:
    assume(value < 1 << (8 * size - 2))
    assert read(varint(value, size), get_varint) == (value, GUARD + size)


@given(st.binary(max_size=12))
def test_varint_out_of_garbage(content: bytes) -> None:
    value, position = read(content, get_varint)
    if not content or len(content) < 1 << (content[0] >> 6):
        assert (value, position) == (0, -1)
    else:
        size = 1 << (content[0] >> 6)
        assert position == GUARD + size
        assert value == int.from_bytes(content[:size], "big") & ((1 << (8 * size - 2)) - 1)


@given(st.binary(max_size=8), st.integers(-100, -1))
def test_a_failed_position_stays_failed(content: bytes, position: int) -> None:
    assert get_varint(guarded(content, 0), position, GUARD + len(content)) == (0, -1)


# --- packet numbers


def decode_packet_number(largest: int, truncated: int, bits: int) -> int:
    """RFC 9000, appendix A.3, word by word."""
    expected = largest + 1
    window = 1 << bits
    half = window // 2
    candidate = (expected & ~(window - 1)) | truncated
    if candidate <= expected - half and candidate < (1 << 62) - window:
        return candidate + window
    if candidate > expected + half and candidate >= window:
        return candidate - window
    return candidate


def test_the_example_of_rfc_9000_a_3() -> None:
    assert decode_packet_number(0xA82F30EA, 0x9B32, 16) == 0xA82F9B32


@given(st.one_of(st.just(-1), INTEGERS), st.integers(0, 2**32 - 1))
@example(-1, 0)
@example(-1, 2**32 - 1)
@example(2**32 - 1, 0)
@example(2**62 - 1, 0)
def test_expansion_is_that_of_the_rfc(largest: int, truncated: int) -> None:
    assert expand_number(truncated, largest) == decode_packet_number(largest, truncated, 32)


@given(st.integers(-1, 2**61), st.integers(-(2**31) + 1, 2**31))
def test_numbers_near_the_expected_one_come_back(largest: int, distance: int) -> None:
    number = max(0, largest + 1 + distance)
    assert expand_number(number & 0xFFFFFFFF, largest) == number


# --- headers


@given(st.binary(min_size=8, max_size=8), st.booleans(), INTEGERS)
def test_short_header(cid: bytes, phase: bool, number: int) -> None:
    memory = np.full(64, 0xA5, np.uint8)
    short_header.put_header(memory, 7, short_header.cid_key(cid), int(phase), number)
    expected = bytes([0x47 if phase else 0x43]) + cid + (number & 0xFFFFFFFF).to_bytes(4, "big")
    assert memory[7:20].tobytes() == expected
    assert (memory[:7] == 0xA5).all()
    assert (memory[20:] == 0xA5).all()
    assert short_header.get_cid(memory, 7) == short_header.cid_key(cid)


@given(st.sampled_from([8, 9]), st.integers(0, 255), INTEGERS, st.integers(0, 128), st.integers(0, 126))
def test_shard_header(kind: int, channel: int, number: int, span: int, row: int) -> None:
    memory = np.full(64, 0xA5, np.uint8)
    frames.put_shard_header(memory, 9, kind, channel, number, span, row)
    low = (number & 0xFFFFFFFF).to_bytes(4, "big")
    assert memory[9:17].tobytes() == bytes([kind, channel]) + low + bytes([span, row])
    assert (memory[:9] == 0xA5).all()
    assert (memory[17:] == 0xA5).all()
    assert frames.get_uint32(memory, 11) == number & 0xFFFFFFFF


# --- RECEIPT


@st.composite
def range_lists(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Disjoint (low, high), newest first, never adjacent."""
    numbers: list[int] = sorted(draw(st.sets(st.integers(0, 1 << 40), min_size=1, max_size=2 * frames.MAX_RANGES)))
    pairs = draw(st.lists(st.booleans(), min_size=len(numbers), max_size=len(numbers)))
    ranges: list[tuple[int, int]] = []
    while numbers:
        high = numbers.pop()
        low = numbers.pop() if numbers and pairs.pop() else high
        if not ranges or high + 1 < ranges[-1][0]:
            ranges.append((low, high))
    return ranges[: frames.MAX_RANGES]


@given(range_lists(), INTEGERS, INTEGERS, INTEGERS)
def test_receipt(ranges: list[tuple[int, int]], path: int, delay: int, mark: int) -> None:
    def write(memory: Any, position: int) -> int:
        table = np.array(ranges[::-1], np.int64)
        position = frames.put_receipt_head(memory, position, path, ranges[0][1], delay)
        for _ in range(3):
            position = put_varint(memory, position, mark)
        return int(frames.put_ranges(memory, position, table, len(ranges)))

    content = written(write)
    assert content == receipt(ranges, path, delay, b"", varint(mark) * 3)
    start = 1 + len(varint(path) + varint(ranges[0][1]) + varint(delay) + varint(mark) * 3)
    out = np.zeros((frames.MAX_RANGES, 2), np.int64)
    count, position = read(content[start:], lambda m, at, end: frames.get_ranges(m, at, end, ranges[0][1], out))
    assert position == GUARD + len(content) - start
    assert out[:count].tolist() == [list(one) for one in ranges]


@given(
    st.one_of(st.binary(max_size=80), st.lists(INTEGERS, max_size=70).map(lambda n: b"".join(map(varint, n)))), INTEGERS
)
@example(varint(2) + varint(0) + varint(VARINT_MAX) + varint(VARINT_MAX), 0)
@example(varint(2) + varint(0) + varint(VARINT_MAX) + varint(VARINT_MAX), VARINT_MAX)
@example(varint(33) + bytes(65), VARINT_MAX)
@example(varint(0), 0)
def test_ranges_out_of_garbage(content: bytes, largest: int) -> None:
    out = np.zeros((frames.MAX_RANGES, 2), np.int64)
    count, position = read(content, lambda m, at, end: frames.get_ranges(m, at, end, largest, out))
    if position < 0:
        assert (count, position) == (0, -1)
        return
    assert GUARD < position <= GUARD + len(content)
    assert 1 <= count <= frames.MAX_RANGES
    assert out[0, 1] == largest
    flat = [number for low, high in out[:count].tolist() for number in (high, low)]
    assert flat == sorted(flat, reverse=True)
    assert flat[-1] >= 0
    assert all(out[i, 0] - out[i + 1, 1] >= 2 for i in range(count - 1))


# --- records


def get_record(memory: Any, position: int, end: int) -> tuple[int, list[int]]:
    out = np.zeros(records.RECORD_FIELDS, np.int64)
    return int(records.get_record(memory, position, end, out)), out.tolist()


@given(INTEGERS, INTEGERS, st.binary(max_size=40), st.binary(max_size=10))
def test_stream_records(flow: int, offset: int, payload: bytes, rest: bytes) -> None:
    head = written(lambda memory, position: records.put_stream_head(memory, position, flow, offset))
    assert head + payload == stream(flow, offset, payload, counted=False)
    assert len(head) == records.stream_head_size(flow, offset)
    position, record = read(head + payload, get_record)
    assert position == GUARD + len(head) + len(payload)
    assert record == [0x10, flow, offset, GUARD + len(head), len(payload), 0]
    counted = stream(flow, offset, payload)
    position, record = read(counted + rest, get_record)
    assert position == GUARD + len(counted)
    assert record == [0x11, flow, offset, GUARD + len(counted) - len(payload), len(payload), 0]


@given(INTEGERS, INTEGERS, st.integers(0, 50), st.binary(max_size=40), st.binary(max_size=10))
def test_packets_records(flow: int, offset: int, first: int, payload: bytes, rest: bytes) -> None:
    content = packets(flow, offset, first, payload)
    position, record = read(content + rest, get_record)
    plain = packets(flow, offset, first, payload, counted=False)
    plain_position, plain_record = read(plain, get_record)
    if first > len(payload):  # no packet starts behind the end of the bytes
        assert (position, plain_position) == (-1, -1)
        return
    assert position == GUARD + len(content)
    assert record == [0x21, flow, offset, GUARD + len(content) - len(payload), len(payload), first]
    assert plain_position == GUARD + len(plain)
    assert plain_record == [0x20, flow, offset, GUARD + len(plain) - len(payload), len(payload), first]


def test_the_example_of_the_manual() -> None:
    manual = (Path(__file__).resolve().parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
    whole = bytes.fromhex("00000003 616263 00000002 6465")
    for line, pieces in (
        ("21 04 00 00 0d  00000003 616263 00000002 6465", [(0, 0, whole)]),
        (
            "21 04 00 00 0a  00000003 616263 000000        21 04 0a 03 03  02 6465",
            [(0, 0, whole[:10]), (10, 3, whole[10:])],
        ),
    ):
        assert line in manual
        assert bytes.fromhex(line) == b"".join(packets(4, *piece) for piece in pieces)
        area = bytes.fromhex(line)
        memory = np.frombuffer(area, np.uint8).copy()
        position = 0
        for offset, first, content in pieces:
            out = np.zeros(records.RECORD_FIELDS, np.int64)
            position = int(records.get_record(memory, position, len(area), out))
            assert out.tolist() == [0x21, 4, offset, position - len(content), len(content), first]
        assert position == len(area)


@given(INTEGERS, INTEGERS, st.integers(0, 16383), st.integers(0, 1600))
def test_the_head_that_is_completed_later(flow: int, offset: int, first: int, length: int) -> None:
    def head(memory: Any, position: int) -> int:
        data = records.put_packets_head(memory, position, flow, offset, first)
        records.set_packets_length(memory, data, length)
        return int(data)

    expected = b"\x21" + varint(flow) + varint(offset) + varint(first, 2) + varint(length, 2)
    assert written(head) == expected


@given(st.sampled_from([3, 4, 5, 6, 7, 8]), INTEGERS, INTEGERS, st.binary(max_size=10))
def test_records_of_two_integers(kind: int, first: int, second: int, rest: bytes) -> None:
    content = written(lambda memory, position: records.put_pair(memory, position, kind, first, second))
    assert content == pair(kind, first, second)
    assert read(content + rest, get_record) == (GUARD + len(content), [kind, first, second, 0, 0, 0])


@given(INTEGERS, st.binary(max_size=260), st.binary(max_size=10))
def test_open_and_accept(flow: int, target: bytes, rest: bytes) -> None:
    content = open_record(flow, target)
    size = len(content)
    assert read(content + rest, get_record) == (GUARD + size, [1, flow, 0, GUARD + size - len(target), len(target), 0])
    content = b"\x02" + varint(flow)
    assert read(content + rest, get_record) == (GUARD + len(content), [2, flow, 0, 0, 0, 0])


@given(st.integers(0, 255), st.binary(max_size=40))
def test_records_out_of_garbage(kind: int, rest: bytes) -> None:
    """Walk to the end: every step moves on and stays inside, bytes lie inside, unknown types are refused."""
    content = bytes([kind]) + rest
    position, record = read(content, get_record)
    end = GUARD + len(content)
    if position < 0:
        assert position == -1
        return
    assert GUARD < position <= end
    assert kind in (0, 1, 2, 3, 4, 5, 6, 7, 8, 0x10, 0x11, 0x20, 0x21)
    assert 0 <= record[5] <= record[4]
    if record[4]:
        assert GUARD < record[3] <= record[3] + record[4] <= position
    if kind == 0:
        assert position == end


@pytest.mark.parametrize("position", [-1, 5, 6])
def test_no_record_outside_the_area(position: int) -> None:
    assert records.get_record(np.zeros(16, np.uint8), position, 5, np.zeros(records.RECORD_FIELDS, np.int64)) == -1
