from __future__ import annotations

from itertools import pairwise

import pytest

from vantun.lab.link import FRAME_OVERHEAD, Link, LinkProfile

SIZE = 1200
FRAME = SIZE + FRAME_OVERHEAD
MANY = 20_000


def spread(link: Link, count: int, gap: float = 1e-3) -> list[list[float]]:
    """Send packets ``gap`` seconds apart; return when the copies of each arrive."""
    return [list(link.send(number * gap, SIZE)) for number in range(count)]


def lost(arrivals: list[list[float]]) -> list[bool]:
    return [not times for times in arrivals]


def test_a_clean_link_only_delays() -> None:
    assert spread(Link(LinkProfile(delay=0.02), 1, 0), 3) == [[0.02], [0.021], [0.022]]


@pytest.mark.parametrize(("loss", "expected"), [(0.05, 0.05), (0.2, 0.2), (0.0, 0.0), (1.0, 1.0)])
def test_independent_loss_is_as_configured(loss: float, expected: float) -> None:
    link = Link(LinkProfile(loss=loss), 3, 0)
    count = sum(lost(spread(link, MANY)))
    # four standard deviations of a binomial; the seed is fixed, so this never changes
    assert abs(count / MANY - expected) <= 4 * (expected * (1 - expected) / MANY) ** 0.5
    assert link.counters()["lost"] == count
    assert link.counters()["delivered"] == MANY - count


def bursts(arrivals: list[list[float]]) -> list[int]:
    lengths = [0]
    for gone in lost(arrivals):
        if gone:
            lengths[-1] += 1
        elif lengths[-1]:
            lengths.append(0)
    return [length for length in lengths if length]


@pytest.mark.parametrize(("loss", "burst"), [(0.03, 3.0), (0.2, 5.0)])
def test_bursts_have_their_mean_length_and_the_loss_its_mean(loss: float, burst: float) -> None:
    arrivals = spread(Link(LinkProfile(loss=loss, burst=burst), 9, 1), 5 * MANY)
    lengths = bursts(arrivals)
    assert sum(lengths) / len(lengths) == pytest.approx(burst, rel=0.06)
    assert sum(lengths) / len(arrivals) == pytest.approx(loss, rel=0.08)


def test_bursts_in_time_hit_thin_flows_as_often_as_busy_ones() -> None:
    profile = LinkProfile(loss=0.1, burst_time=0.05)
    for gap in (1e-3, 20e-3):
        arrivals = spread(Link(profile, 4, 0), 5 * MANY, gap)
        assert sum(lost(arrivals)) / len(arrivals) == pytest.approx(0.1, rel=0.1)


def test_the_queue_serialises_and_drops_its_tail() -> None:
    rate = FRAME * 8 / 1e-3
    link = Link(LinkProfile(rate=rate, queue_bytes=3 * FRAME), 1, 0)
    arrivals = [link.send(0.0, SIZE) for _ in range(5)]
    assert [time for times in arrivals for time in times] == pytest.approx([0.001, 0.002, 0.003])
    assert link.counters()["tail_dropped"] == 2
    assert link.send(0.0025, SIZE) == pytest.approx([0.004])


def test_a_lost_packet_has_used_its_link_time() -> None:
    link = Link(LinkProfile(rate=FRAME * 8 / 1e-3, loss=1.0), 1, 0)
    assert not link.send(0.0, SIZE)
    link.set_profile(LinkProfile(rate=FRAME * 8 / 1e-3))
    assert link.send(0.0, SIZE) == pytest.approx([0.002])


def test_jitter_keeps_the_order_unless_told_otherwise() -> None:
    for reorder in (False, True):
        link = Link(LinkProfile(delay=0.01, jitter=0.02, reorder=reorder), 2, 0)
        times = [time for packet in spread(link, 500) for time in packet]
        assert all(number * 1e-3 + 0.01 <= time for number, time in enumerate(times))
        assert all(early < late for early, late in pairwise(times)) is not reorder


def test_duplicates_are_counted_and_follow_their_original() -> None:
    link = Link(LinkProfile(duplicate=0.1), 2, 0)
    arrivals = spread(link, MANY)
    twice = [times for times in arrivals if len(times) == 2]
    assert len(twice) / MANY == pytest.approx(0.1, rel=0.08)
    assert link.counters()["duplicated"] == len(twice)
    assert all(first < second for first, second in twice)


def test_what_is_too_big_vanishes() -> None:
    link = Link(LinkProfile(mtu=1228), 1, 0)
    assert len(link.send(0.0, 1200)) == 1
    assert not link.send(0.0, 1201)
    assert link.counters()["too_big"] == 1


def test_a_cut_link_loses_everything_and_comes_back() -> None:
    profile = LinkProfile(loss=0.03, burst=3)
    link = Link(profile, 1, 0)
    link.set_profile(profile.cut)
    assert all(lost(spread(link, 100)))
    link.set_profile(profile)
    assert not all(lost(spread(link, 100)))


def test_the_fate_of_a_packet_depends_on_seed_direction_and_number_only() -> None:
    profile = LinkProfile(loss=0.1, burst=3, jitter=0.01, reorder=True, duplicate=0.05)
    first = spread(Link(profile, 7, 0), 300)
    assert first == spread(Link(profile, 7, 0), 300)
    for seed, direction in ((7, 1), (8, 0), (6, 1)):
        assert lost(first) != lost(spread(Link(profile, seed, direction), 300))
    # loss and duplicates do not follow the clock
    assert [len(times) for times in first] == [len(times) for times in spread(Link(profile, 7, 0), 300, gap=0.5)]


@pytest.mark.parametrize("wrong", [{"loss": 1.1}, {"delay": -1.0}, {"burst": 2, "burst_time": 0.1, "loss": 0.1}])
def test_what_is_no_link_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LinkProfile(**wrong)  # type: ignore[arg-type]
