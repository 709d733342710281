"""Waiting from compiled code: the same answers that Python's own calls give."""

from __future__ import annotations

import math
import os
import select
import time
from collections.abc import Iterator

import numpy as np
import pytest

from drivers.linux.wait_kernel import (
    EVENT_DESCRIPTOR,
    EVENT_FLAGS,
    EVENT_WORDS,
    MAX_EVENTS,
    monotonic,
    ready_events,
    rest,
    wait_events,
    watch_events,
)

pytestmark = pytest.mark.slow

EVENTS = np.zeros((MAX_EVENTS, EVENT_WORDS), np.int32)
WORDS = np.zeros(3, np.int64)


@pytest.fixture
def watched() -> Iterator[tuple[select.epoll, list[tuple[int, int]]]]:
    epoll, pipes = select.epoll(), [os.pipe() for _ in range(3)]
    for reading, _ in pipes:
        epoll.register(reading, select.EPOLLIN)
    yield epoll, pipes
    epoll.close()
    for pipe in pipes:
        for descriptor in pipe:
            os.close(descriptor)


def told(count: int) -> list[tuple[int, int]]:
    return list(zip(EVENTS[:count, EVENT_DESCRIPTOR].tolist(), EVENTS[:count, EVENT_FLAGS].tolist(), strict=True))


def test_what_is_ready_is_told_as_python_tells_it(watched: tuple[select.epoll, list[tuple[int, int]]]) -> None:
    epoll, pipes = watched
    assert ready_events(epoll.fileno(), EVENTS) == 0
    for _, writing in pipes[1:]:
        os.write(writing, b"x")
    for count in (
        ready_events(epoll.fileno(), EVENTS),
        wait_events(epoll.fileno(), EVENTS, WORDS, math.inf),
        watch_events(epoll.fileno(), EVENTS, WORDS, 3600.0, 1.0)[0],
    ):
        assert sorted(told(count)) == sorted(epoll.poll(0))
        assert count == 2


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 1e-4])
def test_time_ends_the_wait_too(watched: tuple[select.epoll, list[tuple[int, int]]], seconds: float) -> None:
    epoll, _ = watched
    assert wait_events(epoll.fileno(), EVENTS, WORDS, seconds) == 0
    assert watch_events(epoll.fileno(), EVENTS, WORDS, seconds, 1.0)[0] == 0


def test_nothing_is_ready_in_a_set_that_is_closed() -> None:
    assert wait_events(-1, EVENTS, WORDS, 0.0) == 0


def test_the_clock_is_pythons() -> None:
    before = time.monotonic()
    between = monotonic(WORDS)
    rest(WORDS, 1e-4)
    assert before <= between <= monotonic(WORDS) - 1e-4
    assert monotonic(WORDS) <= time.monotonic()
