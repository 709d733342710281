"""What a crew is made of: slices and their places, loads, and numbers."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from vantun.control.crew_limits import SPARE, CrewLimits
from vantun.control.crew_load import BUSY, CrewLoad
from vantun.control.crew_numbers import SHIFT, numbered, own, question
from vantun.control.places import MAX_SLICES, MOST_PLACES, Places
from vantun.control.slices import Slices
from vantun.worker_messages import UserRate


def test_slices_keep_their_places() -> None:
    slices = Slices()
    assert slices.add(5, 0, 3) == (0, 3, 5)
    made = slices.add(5, 1, 0)
    assert slices.add(5, 1, 2) == made
    assert (slices.divided, slices.session_of(made.number)) == (True, 5)
    assert slices.index_of(made.number) == 1
    assert slices.session_of(123) == 123
    assert [each for _, each in slices.on(0)] == [made]
    assert set(slices.forget(5)) == {(0, 3, 5), made}
    assert (slices.divided, slices.session_of(made.number)) == (False, made.number)


def test_places_begin_with_the_least_loaded_worker_and_have_a_bound() -> None:
    places = Places(3, lambda: (1.0, 0.0, 2.0))
    assert places.take(1, 2) == (1, 2)
    assert places.take(1, 1) == (1,)
    assert places.take(2, 64) == tuple((1 + index) % 3 for index in range(MAX_SLICES))
    assert Places(3, lambda: (1.0, 0.0, 2.0), rotate=False).take(1, 2) == (0, 1)
    full = Places()
    for session in range(MOST_PLACES):
        full.take(session, 1)
    assert full.take(MOST_PLACES, 4) == (0,), "one slice each, where workers have many"
    full.forget(0)
    full.forget(0)


def test_a_busy_worker_counts_for_more_and_probes_for_nothing() -> None:
    load = CrewLoad(2)
    for sent in (0, 5000):
        load.look(0, {"lanes": [{"sent_bytes": sent, "received_bytes": 0}]})
        load.look(1, {"lanes": []})
    assert load.scores()[0] < 0.1
    load.look(0, {"lanes": [{"sent_bytes": 5000 + 2 * BUSY, "received_bytes": 0}]})
    assert load.scores() == (8.0, 0.0)
    assert load.least((0, 1)) == 1
    load.forget(0)
    assert load.scores() == (0.0, 0.0)


def test_numbers_come_apart_again() -> None:
    assert question(numbered(3, 17, 1 << 40)) == (3, 17, 1 << 40)
    assert own(63 << SHIFT | 12) == 12


class Told:
    """Keeps the rates that it is told."""

    def __init__(self) -> None:
        self.rates: list[tuple[UserRate, ...]] = []

    def limit_users(self, rates: Iterable[UserRate]) -> None:
        self.rates.append(tuple(rates))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10**12), st.integers(0, 10**12)), min_size=1, max_size=8))
def test_shares_of_a_rate_add_up_to_it_and_nobody_starves(loads: list[tuple[bool, int, int]]) -> None:
    limits = CrewLimits(len(loads))
    limits.use([UserRate("alice", 800.0, 80.0)])
    for last in (True, False):
        for worker, (here, sent, received) in enumerate(loads):
            row = {"user": "alice", "sessions": int(here), "sent_bytes": 0 if last else sent}
            limits.look(worker, {"users": [{**row, "received_bytes": 0 if last else received}]})
    rates = [limits.of(worker)[0] for worker in range(len(loads))]
    carrying = [rate for rate, (here, _, _) in zip(rates, loads, strict=True) if here]
    for way, whole in (("sending", 800.0), ("receiving", 80.0)):
        shares = [getattr(rate, way) for rate in carrying]
        assert all(share >= whole / (SPARE * len(carrying)) * 0.999 for share in shares)
        assert not shares or abs(sum(shares) - whole) < 1e-6 * whole


def test_one_that_carries_everything_may_use_most_of_it_and_is_told_once() -> None:
    limits, links = CrewLimits(2), [Told(), Told()]
    limits.use([UserRate("alice", 1600.0, 0.0)])
    limits.tell(links, anew=True)
    assert [link.rates for link in links] == [[(UserRate("alice", 800.0, 0.0),)]] * 2
    for sent in (0, 10**6):
        limits.look(0, {"users": [{"user": "alice", "sessions": 1, "sent_bytes": sent}]})
        limits.look(1, {"users": [{"user": "alice", "sessions": 1, "sent_bytes": 0}]})
    for _ in range(2):
        limits.tell(links)
    assert [link.rates[1:] for link in links] == [
        [(UserRate("alice", 1500.0, 0.0),)],
        [(UserRate("alice", 100.0, 0.0),)],
    ]
    limits.forget(0)
    limits.tell(links)
    assert len(links[0].rates) == 3, "a new worker is told in any case"


def test_one_worker_has_all_of_it() -> None:
    limits = CrewLimits(1)
    limits.use([UserRate("alice", 10.0, 20.0)])
    assert limits.of(0) == (UserRate("alice", 10.0, 20.0),)
    for sent in (0, 7):
        limits.look(0, {"users": [{"user": "alice", "sessions": 1, "sent_bytes": sent, "received_bytes": sent}]})
    assert limits.of(0) == (UserRate("alice", 10.0, 20.0),)
