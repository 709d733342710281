"""When a control process collects its garbage by itself."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from itertools import chain, repeat

from vantun.control.tidy import Tidy


class Cycle:
    def __init__(self) -> None:
        self.me = self


def collected(tidy: Tidy, looks: Sequence[set[int]]) -> list[bool]:
    """Return at which looks garbage that only a collection finds was found."""
    found = []
    for there in looks:
        garbage = weakref.ref(Cycle())
        tidy.look(frozenset(there))
        found.append(garbage() is None)
    return found


def test_it_tidies_up_when_something_has_come_or_gone_and_once_more() -> None:
    tidy = Tidy(clock=lambda: 0.0)
    looks: list[set[int]] = [{1}, {1}, {1}, {1}, {1, 2}, {1, 2}, {1, 2}, set(), set(), set()]
    assert collected(tidy, looks) == [True, True, False, False, True, True, False, True, True, False]


def test_it_takes_a_hundredth_of_the_time_at_most_and_forgets_nothing() -> None:
    # the first look begins at 0 and takes 0.1 s
    clock = chain((0.0, 0.1, 2.0, 9.9, 10.2, 10.2, 12.0), repeat(14.0))
    tidy = Tidy(clock=lambda: next(clock))
    looks: list[set[int]] = [{1}, {2}, {2}, {2}, {2}]
    assert collected(tidy, looks) == [True, False, False, True, True]
