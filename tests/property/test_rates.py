"""Pacing against its own promise, standing parity against the exact binomial distribution."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.peer import Peer
from tests.property.kernels import refill_tokens
from vantun.dataplane.config import DataplaneConfig
from vantun.lab.link import LinkProfile
from vantun.lab.network import Network
from vantun.lab.transfer import start_transfer
from vantun.session.parity import MAX_STANDING, least_rows, standing_rows
from vantun.session.rate import (
    BURST_BEGIN,
    BURST_LEAST,
    BURST_SECONDS,
    CRUISE,
    HELD_BY_PACER,
    HELD_BY_WINDOW,
    LATE_MOST,
    STARTUP,
)


@given(
    st.floats(1e4, 1e9),
    st.lists(st.tuples(st.floats(0.0, 0.05), st.floats(0.0, 1.0)), min_size=1, max_size=40),
    st.sampled_from([(STARTUP, BURST_BEGIN), (CRUISE, BURST_LEAST)]),
    st.sampled_from([(0, BURST_SECONDS), (HELD_BY_WINDOW, BURST_SECONDS), (HELD_BY_PACER, LATE_MOST)]),
    st.sampled_from([0.0, 0.5 * BURST_SECONDS, 4e-3]),
)
def test_token_bucket(
    rate: float, steps: list[tuple[float, float]], begins: tuple[int, float], held: tuple[int, float], rested: float
) -> None:
    """Whoever sends only what the bucket holds never sends more than rate x time + burst."""
    t = Peer().end.plane.context.tables
    lane = t.lane[0]
    lane["pacing_rate"], lane["tokens"], lane["tokens_at"] = rate, 0.0, 0.0
    lane["mode"], least = begins
    lane["limited"], seconds = held
    burst = max(rate * seconds, rate * rested, least)
    now = sent = 0.0
    for wait, share in steps:
        now += wait
        refill_tokens(t.root, 0, now, rested)
        tokens = float(lane["tokens"])
        assert 0.0 <= tokens <= burst * (1 + 1e-9)
        taken = tokens * share
        lane["tokens"] = tokens - taken
        sent += taken
        assert sent <= rate * now * (1 + 1e-6) + burst


@given(st.floats(1e8, 1e9), st.lists(st.floats(1e-4, LATE_MOST), min_size=1, max_size=40))
def test_a_lane_that_waits_gets_its_rate_whenever_its_worker_comes(rate: float, turns: list[float]) -> None:
    t = Peer().end.plane.context.tables
    lane = t.lane[0]
    lane["pacing_rate"], lane["tokens"], lane["tokens_at"] = rate, 0.0, 0.0
    lane["mode"], lane["limited"] = CRUISE, HELD_BY_PACER
    now = sent = 0.0
    for turn in turns:
        now += turn
        refill_tokens(t.root, 0, now, 0.0)
        sent += float(lane["tokens"])
        lane["tokens"] = 0.0
    assert sent == pytest.approx(rate * now)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [2e6, 20e6, 200e6])
def test_brutal_never_sends_faster_than_it_was_told(rate: float) -> None:
    network = Network(DataplaneConfig(), seed=int(rate))
    network.add_path(1, LinkProfile(rate=1e9, delay=0.01, queue_bytes=10_000_000), rate=rate)
    sent: list[tuple[float, int]] = []

    def watch(path: int, direction: int, datagram: bytes) -> bytes:
        if direction == 0:
            sent.append((network.now, len(datagram) + 28))
        return datagram

    network.tamper = watch
    start_transfer(network, 5_000_000, 0)
    network.run(1.0)
    # 1 % of loss is assumed at the start; nothing is lost, so this falls
    limit = rate / 8.0 / 0.99
    # the packet that overdraws may be as long as the MTU that was found
    burst = max(limit * BURST_SECONDS, BURST_LEAST) + 1500.0 + 16 * 1228.0
    total, worst, low = 0.0, 0.0, 0.0
    for now, size in sent:
        total += size
        worst = max(worst, total - limit * now - low)
        low = min(low, total - size - limit * now)
    assert total > 0.5 * min(limit, 5_000_000)
    assert worst <= burst


def too_many_lost(k: int, m: int, loss: Fraction) -> Fraction:
    """Return P(more than m of k + m shards are lost)."""
    n = k + m
    few = (comb(n, lost) * loss**lost * (1 - loss) ** (n - lost) for lost in range(m + 1))
    return 1 - sum(few, Fraction())


@given(st.integers(1, 128), st.floats(0.0, 1.0), st.sampled_from([1e-2, 1e-3, 1e-4]))
def test_standing_rows_are_the_least_that_suffice(k: int, loss: float, residual: float) -> None:
    rows = standing_rows(k, loss, residual)
    assert 0 <= rows <= MAX_STANDING
    if loss <= 0.0005:
        assert rows == 0
        return
    exact = Fraction(min(loss, 0.5))
    slack = Fraction(1, 10**9)
    if rows < MAX_STANDING:
        assert too_many_lost(k, rows, exact) <= Fraction(residual) + slack
    if rows > 0:
        assert too_many_lost(k, rows - 1, exact) > Fraction(residual) - slack


@given(st.integers(1, 128), st.integers(0, 100_000))
def test_configured_parity_is_the_least_whole_number_of_rows(k: int, thousandths: int) -> None:
    assert least_rows(k, thousandths / 1000 / 100) == -(-k * thousandths // 100_000)
