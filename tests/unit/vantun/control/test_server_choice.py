from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vantun.config import Endpoint, ServerEntry
from vantun.control.server_choice import FIRST_REST, LONGEST_REST, ServerChoice
from vantun.errors import AuthenticationError, VantunError


def entry(name: str, order: int = 1, weight: int = 1) -> ServerEntry:
    return ServerEntry(Endpoint(name, 443), "a:b", order=order, weight=weight)


A, B, C = entry("a"), entry("b", order=2), entry("c", order=3)


def test_the_lowest_order_is_used_while_it_answers() -> None:
    choice = ServerChoice([B, A, C])
    assert choice.current(0.0) is A
    choice.worked(A)
    assert choice.current(1000.0) is A


def test_one_path_that_fails_is_no_reason_to_leave_a_server() -> None:
    choice = ServerChoice([A, B])
    choice.current(0.0)
    assert not choice.failed(A, "dsl", 2, 0.0)
    assert not choice.failed(A, "dsl", 2, 1.0)
    assert choice.current(1.0) is A
    assert choice.failed(A, "lte", 2, 2.0)
    assert choice.another(A, 2.0)
    assert choice.current(2.0) is B


def test_what_worked_in_between_counts() -> None:
    choice = ServerChoice([A, B])
    choice.current(0.0)
    choice.failed(A, "dsl", 2, 0.0)
    choice.worked(A)
    assert not choice.failed(A, "lte", 2, 1.0)


def test_a_server_comes_back_after_its_rest() -> None:
    choice = ServerChoice([A, B])
    choice.current(0.0)
    choice.failed(A, "dsl", 1, 0.0)
    assert choice.current(0.1) is B
    choice.failed(B, "dsl", 1, FIRST_REST - 1.0)
    assert not choice.another(B, FIRST_REST - 1.0)  # both rest: wait, do not spin
    assert choice.current(FIRST_REST + 0.1) is A


def test_rests_double_up_to_a_bound() -> None:
    choice = ServerChoice([A])
    now = 0.0
    for _ in range(20):
        choice.current(now)
        choice.failed(A, "dsl", 1, now)
        now += LONGEST_REST + 1.0
        assert choice.current(now) is A


def test_reports_about_a_server_that_was_left_already_change_nothing() -> None:
    choice = ServerChoice([A, B])
    choice.current(0.0)
    choice.failed(A, "dsl", 1, 0.0)
    assert choice.current(0.0) is B
    assert not choice.failed(A, "lte", 1, 0.5)
    assert choice.another(A, 0.5)  # whoever still was with A goes to B at once
    assert choice.current(0.5) is B


def test_refusals_are_final_and_all_of_them_are_the_end() -> None:
    choice = ServerChoice([A, B])
    choice.current(0.0)
    error: VantunError = AuthenticationError("no")
    assert choice.refused(A, error, 0.0)
    assert not choice.hopeless
    assert choice.current(1e6) is B
    choice.refused(B, error, 1e6)
    assert choice.hopeless
    assert not choice.another(B, 1e9)  # type: ignore[unreachable]


@pytest.mark.parametrize(("draw", "name"), [(0.0, "a"), (0.74, "a"), (0.76, "b"), (0.999999, "b")])
def test_weights(draw: float, name: str) -> None:
    choice = ServerChoice([entry("a", weight=3), entry("b", weight=1)], lambda: draw)
    assert choice.current(0.0).server.host == name


def test_weights_in_the_mean() -> None:
    entries = [entry("a", weight=3), entry("b", weight=1)]
    seen = Counter(ServerChoice(entries, lambda at=n: at / 400).current(0.0).server.host for n in range(400))  # type: ignore[misc]
    assert seen == {"a": 300, "b": 100}


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["ok", "fail", "refuse"]), st.floats(0, 10)), max_size=60))
def test_there_is_always_a_server(events: list[tuple[int, str, float]]) -> None:
    entries = [A, B, C]
    choice = ServerChoice(entries)
    now = 0.0
    for which, what, later in events:
        now += later
        assert choice.current(now) in entries
        if what == "ok":
            choice.worked(entries[which])
        elif what == "fail":
            choice.failed(entries[which], "dsl", 1, now)
        else:
            choice.refused(entries[which], VantunError("no"), now)
