from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vantun.speedtest.datagrams import unwrap
from vantun.speedtest.messages import (
    HEADER,
    LONGEST,
    MOST_PER_SECOND,
    PROGRESS_SIZE,
    REQUEST_SIZE,
    SIZES,
    TOKEN,
    Datagram,
    Mode,
    Progress,
    Receipt,
    Records,
    Request,
)
from vantun.udp_address import encode_address

COUNTERS = st.integers(0, 2**64 - 1)


def test_a_request_comes_back_as_it_was() -> None:
    for asked in (Request(Mode.ECHO, 0.5), Request(Mode.DATAGRAMS_DOWN, LONGEST, SIZES[-1], 10**6)):
        assert len(asked.encode()) == REQUEST_SIZE
        assert Request.decode(asked.encode()) == asked


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Request(Mode.UPLOAD, 0), "more than 0"),
        (Request(Mode.UPLOAD, LONGEST + 1), "at most 70"),
        (Request(Mode.DATAGRAMS_UP, 1, 63, 10**6), "63 bytes"),
        (Request(Mode.DATAGRAMS_UP, 1, 9001, 10**6), "9001 bytes"),
        (Request(Mode.DATAGRAMS_UP, 1, 1000, 0), "0 bit/s"),
        (Request(Mode.DATAGRAMS_UP, 1, 1000, 200_000_001), "200000001 bit/s"),
        (Request(Mode.DATAGRAMS_UP, 1, 64, 8 * 64 * (MOST_PER_SECOND + 1)), "datagrams per second"),
    ],
)
def test_what_is_beyond_the_bounds_is_refused(asked: Request, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Request.decode(asked.encode())


@given(st.one_of(st.binary(max_size=40), st.binary(min_size=REQUEST_SIZE - 4, max_size=REQUEST_SIZE - 4)))
def test_noise_is_no_request_or_one_within_the_bounds(noise: bytes) -> None:
    for data in (noise, b"VTS1" + noise):
        try:
            asked = Request.decode(data)
        except ValueError:
            continue
        assert asked.encode() == data[:5] + b"\0" + data[6:]  # the byte between is nobody's
        assert not asked.is_datagrams or asked.count <= MOST_PER_SECOND * LONGEST


@given(st.binary(max_size=3 * HEADER))
def test_noise_is_a_datagram_if_it_is_long_enough(data: bytes) -> None:
    try:
        header = Datagram.decode(data)
    except ValueError:
        assert len(data) < HEADER
    else:
        assert header.encode() == data[:HEADER]
        assert len(header.token) == TOKEN


@given(st.binary(max_size=64))
def test_noise_from_the_relay_is_refused_or_cut(data: bytes) -> None:
    try:
        inner = unwrap(data)
    except ValueError:
        return
    assert data.endswith(inner)
    assert len(inner) <= len(data) - 3 - 5  # the shortest address: a name of one letter


def test_the_relay_s_header_is_taken_off() -> None:
    for host in ("127.0.0.1", "2001:db8::1", "speedtest.vantun.invalid"):
        assert unwrap(bytes(3) + encode_address(host, 7) + b"inside") == b"inside"
    with pytest.raises(ValueError, match="fragment"):
        unwrap(b"\0\0\1" + encode_address("127.0.0.1", 7) + b"inside")


@given(st.lists(st.tuples(COUNTERS, COUNTERS), max_size=6), st.data())
def test_the_newest_whole_record_is_found_however_the_bytes_come(
    counts: list[tuple[int, int]], data: st.DataObject
) -> None:
    said = [Progress(*pair) for pair in counts]
    stream = b"".join(progress.encode() for progress in said)
    records, found, place = Records(PROGRESS_SIZE), None, 0
    while place < len(stream):
        step = data.draw(st.integers(1, 40))
        record = records.last(stream[place : place + step])
        found = Progress.decode(record) if record is not None else found
        place += step
        assert found == (said[min(place, len(stream)) // PROGRESS_SIZE - 1] if place >= PROGRESS_SIZE else None)


@given(st.tuples(*[COUNTERS] * 8))
def test_a_receipt_comes_back_as_it_was(counters: tuple[int, ...]) -> None:
    receipt = Receipt(*counters)
    assert Receipt.decode(receipt.encode()) == receipt
