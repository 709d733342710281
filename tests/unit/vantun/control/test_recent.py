from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vantun.control.recent import Bucket, Recent


def test_the_longest_unused_makes_room() -> None:
    table: Recent[str, list[int]] = Recent(2, list)
    table.get("a").append(1)
    table.get("b")
    table.get("a")
    table.get("c")
    assert table.peek("b") is None
    assert table.peek("a") == [1]
    table.forget("a")
    table.forget("nobody")
    assert len(table) == 1
    table.clear()
    assert len(table) == 0


@given(st.lists(st.floats(-1.0, 5.0), max_size=200))
def test_a_bucket_gives_no_more_than_burst_and_rate(steps: list[float]) -> None:
    bucket, now, given_out, latest = Bucket(), 0.0, 0, 0.0
    for step in steps:
        now += step  # a clock that jumps back gives nothing
        latest += max(step, 0.0)
        given_out += bucket.take(now, 2.0, 5.0)
        assert given_out <= 5.0 + 2.0 * latest + 1e-6
        assert 0.0 <= bucket.level <= 5.0
