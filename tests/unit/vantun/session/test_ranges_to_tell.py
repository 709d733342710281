"""How many ranges a RECEIPT reports: all that two others have not, and no more than fit."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vantun.session.lane_frames import _FEW_RANGES, _RANGE_BYTES, _ranges_to_tell
from vantun.wire.frames import MAX_RANGES, get_ranges, put_ranges

_COUNT_BYTES = 2
STEPS = st.one_of(st.integers(2, 60), st.integers(2, 1 << 20), st.integers(2, 1 << 40))


@given(st.lists(st.tuples(STEPS, st.one_of(st.just(0), STEPS)), min_size=1, max_size=MAX_RANGES), st.floats(0, 1))
def test_all_that_is_new_is_told_if_it_fits(steps: list[tuple[int, int]], share: float) -> None:
    ranges = np.zeros((len(steps), 2), np.int64)
    at = 0
    for place, (gap, length) in enumerate(steps):
        ranges[place] = at + gap, at + gap + length
        at += gap + length
    told = int(share * at)
    count = int(_ranges_to_tell(ranges, told))
    memory = np.zeros(4096, np.uint8)
    end = int(put_ranges(memory, 0, ranges, count))
    assert 1 <= count <= len(steps)
    assert end <= _RANGE_BYTES + _COUNT_BYTES
    new = int((ranges[:, 1] > told).sum())
    wanted = max(new, min(_FEW_RANGES, len(steps)))
    assert count <= wanted
    if count < wanted:  # the next one has no room: at most 16 bytes
        assert int(put_ranges(memory, 0, ranges, count + 1)) > _RANGE_BYTES
    out = np.zeros((MAX_RANGES, 2), np.int64)
    assert int(get_ranges(memory, 0, end, int(ranges[-1, 1]), out)[0]) == count
    assert (out[:count] == ranges[::-1][:count]).all()
