from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from vantun.control import membership
from vantun.control.membership import Admission, Membership


def play(scenario: Callable[[Membership, list[int]], Awaitable[None]], creation_time: float = 60.0) -> list[int]:
    """Run a scenario and return the sessions that were lost."""
    lost: list[int] = []

    async def run() -> None:
        async with asyncio.timeout(30):
            await scenario(Membership(lost.append, creation_time), lost)

    asyncio.run(run())
    return lost


async def settled(task: asyncio.Task[Admission]) -> bool:
    """Let everything that can run do so, and say whether the task is done."""
    for _ in range(20):
        await asyncio.sleep(0)
    return task.done()


def test_one_creates_and_the_others_join() -> None:
    async def scenario(members: Membership, _lost: list[int]) -> None:
        first, second, third = (asyncio.create_task(members.admit()) for _ in range(3))
        assert await first == Admission(0)
        assert not await settled(second)
        assert members.joined(first.result(), 5, [b"a", b"b"])
        assert {await second, await third} == {Admission(1, 5, b"b"), Admission(2, 5, b"a")}

    assert play(scenario) == []


def test_the_next_creates_when_the_first_fails() -> None:
    async def scenario(members: Membership, _lost: list[int]) -> None:
        first = await members.admit()
        second = asyncio.create_task(members.admit())
        assert not await settled(second)
        members.left(first)
        assert await second == Admission(1)

    assert play(scenario) == []


def test_a_slow_creator_is_overtaken_and_comes_second() -> None:
    async def scenario(members: Membership, _lost: list[int]) -> None:
        first = await members.admit()
        second = await members.admit()
        assert second.session is None
        assert members.joined(second, 6, [b"a"])
        assert not members.joined(first, 5, [b"b"]), "its session is superfluous"
        members.left(first)
        assert members.session == 6
        assert await members.admit() == Admission(2, 6, b"a")

    assert play(scenario, creation_time=0.001) == []


def test_who_waits_for_a_path() -> None:
    async def scenario(members: Membership, _lost: list[int]) -> None:
        assert await members.wait_up(0.001) is None
        waiting = asyncio.create_task(members.wait_up(60))
        members.joined(await members.admit(), 5, [])
        assert await waiting == 5

    assert play(scenario) == []


def test_without_tokens_a_path_waits_while_another_is_up() -> None:
    async def scenario(members: Membership, _lost: list[int]) -> None:
        first = await members.admit()
        members.joined(first, 5, [])
        second = asyncio.create_task(members.admit())
        assert not await settled(second)
        members.left(first)
        assert await second == Admission(1), "nobody is up and nothing proves that the session is ours: a new one"

    assert play(scenario) == [5]


def test_the_session_outlives_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(members: Membership, lost: list[int]) -> None:
        first = await members.admit()
        members.joined(first, 5, [b"a", b"b"])
        members.left(first)
        assert await members.admit() == Admission(1, 5, b"b")
        assert lost == []
        monkeypatch.setattr(membership, "LINGER", -1.0)
        assert await members.admit() == Admission(2)

    assert play(scenario) == [5]


def test_a_session_that_the_server_does_not_know() -> None:
    async def scenario(members: Membership, _lost: list[int]) -> None:
        first = await members.admit()
        members.joined(first, 5, [b"a"])
        members.forget(4)
        assert members.session == 5
        members.forget(5)
        assert members.up == set()
        members.left(first)
        assert await members.admit() == Admission(1)

    assert play(scenario) == [5]


def test_a_session_that_was_given_up_is_not_taken_up_again() -> None:
    async def scenario(members: Membership, _lost: list[int]) -> None:
        members.joined(await members.admit(), 5, [b"a"])
        late = await members.admit()
        members.forget(5)
        assert not members.joined(late, 5, [b"b"])
        assert members.session is None

    assert play(scenario) == [5]
