"""What a crew is made of: slices and their places, loads, numbers, and the queues of a TUN."""

from __future__ import annotations

import asyncio

from vantun.control.crew_load import BUSY, CrewLoad
from vantun.control.crew_numbers import SHIFT, numbered, own, question
from vantun.control.crew_tun import CrewTun
from vantun.control.places import MAX_SLICES, MOST_PLACES, Places
from vantun.control.slices import Slices


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


def test_the_kernel_has_the_queues_that_every_session_can_use() -> None:
    async def run() -> list[tuple[int, bool]]:
        used: list[tuple[int, bool]] = []
        tun = CrewTun((10, 11, 12), lambda descriptor, wanted: used.append((descriptor, wanted)))
        for session, workers in ((1, (0, 1, 2)), (2, (0, 2))):
            for worker in workers:
                tun.flow(session, worker, is_open=True)
            tun.settle()
        tun.forget(2)
        tun.settle()
        tun.lost(2)
        tun.close()
        return used

    assert asyncio.run(run()) == [(11, True), (12, True), (11, False), (11, True), (12, False)]


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
