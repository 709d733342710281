from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vantun.speedtest.account import BURST, LATE_AFTER, Arrivals, Pace, percentile
from vantun.speedtest.messages import Receipt
from vantun.speedtest.outcome import Datagrams, Exchanges, Outcome, Streams

STAMP = st.integers(0, 2**64 - 1)


def taken(*arrived: tuple[int, int, int]) -> Receipt:
    """Return the account of (number, sent, received) in milliseconds, datagrams of 100 bytes."""
    arrivals = Arrivals(1000)
    for number, sent, now in arrived:
        assert arrivals.take(number, 1000 * sent, 1000 * now, 100)
    return arrivals.receipt()


def test_in_order_and_on_time() -> None:
    found = taken((0, 0, 5000), (1, 10, 5010), (2, 20, 5020))
    assert found == Receipt(received=3, octets=300, first=5_000_000, last=5_020_000)


def test_a_second_copy_counts_as_nothing_but_that() -> None:
    found = taken((0, 0, 50), (1, 10, 60), (0, 0, 900))
    assert (found.received, found.duplicated, found.reordered, found.late, found.last) == (2, 1, 0, 0, 60_000)


def test_reordered_is_what_comes_after_a_higher_number() -> None:
    found = taken((0, 0, 50), (3, 30, 80), (1, 10, 81), (2, 20, 82), (4, 40, 90))
    assert (found.received, found.reordered) == (5, 2)


def test_late_is_measured_against_the_fastest_whatever_the_clocks_say() -> None:
    limit = LATE_AFTER // 1000
    found = taken((0, 9_000, 50), (1, 9_010, 60 + limit), (2, 9_020, 71 + limit))
    assert found.late == 1  # the last one alone is beyond it


def test_jitter_is_that_of_rfc_3550() -> None:
    found = taken((0, 0, 50), (1, 10, 68), (2, 20, 70))
    # differences of 8 ms twice: 8/16 = 0.5, then 0.5 + (8 - 0.5)/16
    assert found.jitter == round(1000 * (0.5 + 7.5 / 16))


@given(st.lists(st.tuples(st.integers(-2, 40), STAMP, STAMP), max_size=80))
def test_accounts_agree_with_counting(arrived: list[tuple[int, int, int]]) -> None:
    arrivals = Arrivals(32)
    known = [number for number, sent, now in arrived if arrivals.take(number, sent, now, 10)]
    assert known == [number for number, _, _ in arrived if 0 <= number < 32]
    found = arrivals.receipt()
    assert found.received == len(set(known))
    assert found.duplicated == len(known) - len(set(known))
    assert found.octets == 10 * found.received
    firsts = list(dict.fromkeys(known))
    assert found.reordered == sum(number < max(firsts[:place], default=-1) for place, number in enumerate(firsts))
    assert found.late <= found.received
    assert Receipt.decode(found.encode()) == found  # whatever a peer has stamped


@given(st.floats(1, 30_000), st.integers(1, 500), st.lists(st.floats(0, 0.5), max_size=60))
def test_a_pace_never_runs_ahead_and_ends(per_second: float, most: int, pauses: list[float]) -> None:
    pace, elapsed = Pace(per_second, most), 0.0
    for pause in [*pauses, 2.0 * most / per_second]:
        elapsed += pause
        due = pace.due(elapsed)
        assert 0 <= due <= BURST
        pace.sent += due
        assert pace.sent <= min(most, int(elapsed * per_second) + 1)
    for _ in range(most):
        pace.sent += pace.due(elapsed)
    assert pace.is_over


def test_percentiles_are_nearest_ranks() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([float(value) for value in range(1, 101)], 0.99) == 99.0
    assert percentile([7.0], 0.99) == 7.0


def test_what_is_not_known_is_not_invented() -> None:
    nothing = Outcome(download=Streams(), upload=Datagrams(sent=5)).document()
    assert nothing["download"] == {
        "bits_per_second": None,
        "bytes": 0,
        "seconds": 0.0,
        "exchanges": {"count": 0, "p50_ms": None, "p99_ms": None},
    }
    upload = nothing["upload"]
    assert isinstance(upload, dict)
    assert upload["sent"] == 5
    assert all(upload[name] is None for name in ("received", "lost", "loss", "late", "jitter_ms", "bits_per_second"))


def test_an_exchange_that_waits_in_vain_is_seen() -> None:
    assert Exchanges([0.001], waiting=3.0).document() == {"count": 1, "p50_ms": 1.0, "p99_ms": 3000.0}
    assert Exchanges([0.002], waiting=0.001).document() == {"count": 1, "p50_ms": 2.0, "p99_ms": 2.0}
    assert Exchanges(waiting=0.5).document() == {"count": 0, "p50_ms": 500.0, "p99_ms": 500.0}


def test_loss_is_what_was_sent_and_is_not_there() -> None:
    assert Datagrams(10, Receipt(received=7)).document()["loss"] == 0.3
    assert Datagrams(6, Receipt(received=7)).lost == 0  # the sender's account is older than the receiver's
