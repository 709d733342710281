"""Draining ends when nothing is open, when time is over, or when somebody is in a hurry; the earliest counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from vantun.control.drain import drain


def _counting(numbers: list[int]) -> Callable[[], Awaitable[int]]:
    async def count() -> int:
        return numbers.pop(0) if numbers else 0

    return count


def test_it_ends_with_the_last_connection() -> None:
    numbers = [2, 1, 0, 7]
    asyncio.run(drain(_counting(numbers), 60.0, asyncio.Event()))
    assert numbers == [7]


def test_without_time_nobody_is_asked() -> None:
    numbers = [1]
    asyncio.run(drain(_counting(numbers), 0.0, asyncio.Event()))
    assert numbers == [1]


def test_time_runs_out() -> None:
    asyncio.run(drain(_counting([1] * 1000), 0.2, asyncio.Event()))


def test_hurry() -> None:
    async def scenario() -> None:
        hurry = asyncio.Event()
        asyncio.get_running_loop().call_later(0.01, hurry.set)
        await drain(_counting([1] * 1000), 3600.0, hurry)

    asyncio.run(scenario())
