from __future__ import annotations

from vantun.demo.statistics import longest_silence, percentile


def test_percentiles_are_values_that_occurred() -> None:
    values = list(range(100, 0, -1))
    assert [percentile(values, percent) for percent in (50, 99, 100, 0)] == [50, 99, 100, 1]
    assert percentile([7.0], 99) == 7.0
    assert percentile([1.0, 9.0], 50) == 1.0
    assert percentile([], 50) is None


def test_the_longest_silence_begins_at_the_cut_and_ends_with_the_transfer() -> None:
    times = [0.5, 1.0, 1.25, 2.0, 2.125]
    assert longest_silence(times, 1.125, 2.125) == 0.75
    assert longest_silence(times, 2.0, 3.0) == 0.875
    assert longest_silence([], 1.0, 4.0) == 3.0
    assert longest_silence(times, 5.0, 4.0) == 0.0
