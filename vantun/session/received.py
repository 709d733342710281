"""What a lane has received: the replay window, and the ranges that RECEIPTs report."""

from __future__ import annotations

from drivers.kernel import kernel
from vantun.session.tables import REPLAY_WORDS, RX_RANGES, Tables
from vantun.wire.integers import int64, uint64

_WINDOW = REPLAY_WORDS * 64


@kernel
def is_replay(t: Tables, lane: int, number: int) -> bool:
    """Return whether ``number`` was accepted before or is too old to tell (RFC 4303, section 3.4.3)."""
    largest = t.lane[lane].largest_rx
    if number > largest:
        return False
    if number <= largest - _WINDOW:
        return True
    bit = number & (_WINDOW - 1)
    return bool((t.replay[lane, bit >> 6] >> uint64(bit & 63)) & uint64(1) != uint64(0))


@kernel
def note_number(t: Tables, lane: int, number: int) -> None:
    """Enter ``number`` in the replay window; call it once, after authentication."""
    record = t.lane[lane]
    largest = record.largest_rx
    if number > largest:
        gone = min(number - largest, _WINDOW)
        for n in range(number - gone + 1, number + 1):
            bit = n & (_WINDOW - 1)
            t.replay[lane, bit >> 6] &= ~(uint64(1) << uint64(bit & 63))
        record.largest_rx = number
    bit = number & (_WINDOW - 1)
    t.replay[lane, bit >> 6] |= uint64(1) << uint64(bit & 63)


@kernel
def note_range(t: Tables, lane: int, number: int) -> None:
    """Add ``number`` to the ranges to be reported; the oldest range is forgotten when there is no room."""
    record = t.lane[lane]
    ranges = t.rx_range[lane]
    count = int64(record.rx_ranges)
    i = count - 1
    while i >= 0 and ranges[i, 0] > number:
        i -= 1
    # i = last range that starts at or before number
    if i >= 0 and number <= ranges[i, 1]:
        return
    joins_low = i >= 0 and ranges[i, 1] + 1 == number
    joins_high = i + 1 < count and ranges[i + 1, 0] == number + 1
    if joins_low and joins_high:
        ranges[i, 1] = ranges[i + 1, 1]
        for j in range(i + 1, count - 1):
            ranges[j, 0] = ranges[j + 1, 0]
            ranges[j, 1] = ranges[j + 1, 1]
        record.rx_ranges = count - 1
    elif joins_low:
        ranges[i, 1] = number
    elif joins_high:
        ranges[i + 1, 0] = number
    else:
        _insert_range(t, lane, i + 1, number)


@kernel
def _insert_range(t: Tables, lane: int, place: int, number: int) -> None:
    record = t.lane[lane]
    ranges = t.rx_range[lane]
    count = int64(record.rx_ranges)
    if count == RX_RANGES:
        if place == 0:
            return  # older than everything kept: its report has been sent before or is lost for good
        for j in range(place - 1):
            ranges[j, 0] = ranges[j + 1, 0]
            ranges[j, 1] = ranges[j + 1, 1]
        place -= 1
    else:
        for j in range(count, place, -1):
            ranges[j, 0] = ranges[j - 1, 0]
            ranges[j, 1] = ranges[j - 1, 1]
        record.rx_ranges = count + 1
    ranges[place, 0] = number
    ranges[place, 1] = number
