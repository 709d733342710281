from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vantun.config_units import format_duration, format_rate, format_size, parse_duration, parse_rate, parse_size


@given(st.integers(1000, 10**12))
def test_rates_survive_the_round_trip(rate: int) -> None:
    assert parse_rate(format_rate(rate)) == rate


@given(st.integers(0, 10**15))
def test_durations_survive_the_round_trip(microseconds: int) -> None:
    seconds = microseconds / 10**6
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(0, 10**15))
def test_sizes_survive_the_round_trip(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.text())
def test_any_text_is_a_quantity_or_a_value_error(text: str) -> None:
    for parse in (parse_rate, parse_duration, parse_size):
        message = "a quantity"
        try:
            assert parse(text) >= 0
        except ValueError as error:
            message = str(error)
        assert message.startswith("a ")


@pytest.mark.parametrize(
    ("text", "rate"),
    [("100 mbps", 10**8), ("1.5gbps", 1_500_000_000), ("64 KBPS", 64_000), (" 2 Mbps ", 2_000_000), ("9600 bps", 9600)],
)
def test_rates(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["", "100", "mbps", "-1 mbps", "1e3 mbps", "100 MB", "1.0001 bps", "999 bps", "2 tbps"]
)
def test_not_rates(text: str) -> None:
    with pytest.raises(ValueError, match="a rate"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30.0), ("150ms", 0.15), ("250us", 0.00025), ("5m", 300.0), ("1.5 h", 5400.0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "s", "-1s", "1 d", "0.1us", "1s 1ms", "\u0663s"])
def test_not_durations(text: str) -> None:
    with pytest.raises(ValueError, match="a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"), [("128 MB", 128_000_000), ("1 KiB", 1024), ("1.5kb", 1500), ("0 B", 0), ("2 TiB", 2**41)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_negative_quantities_are_not_written() -> None:
    with pytest.raises(ValueError, match="negative"):
        format_size(-1)


def test_the_largest_exact_unit_is_written() -> None:
    assert format_rate(1_500_000_000) == "1500 mbps"
    assert format_duration(0.15) == "150ms"
    assert format_size(2**30) == "1 GiB"
    assert format_size(0) == "0 B"
