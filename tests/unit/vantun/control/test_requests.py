from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from vantun.control.path_events import SessionUnknownError
from vantun.control.requests import Requests
from vantun.control.session_messages import (
    ListenAnswer,
    ListenCode,
    ListenRequest,
    SessionAnswer,
    SessionRequest,
    Transport,
)

REQUEST = ListenRequest(1, Transport.TCP, "", 8080)
ANSWER = ListenAnswer(1, ListenCode.LISTENING, "", 8080)


class Path:
    """Remembers what it sends, and calls ``on_send`` with the number."""

    def __init__(self, on_send: Callable[[int], None] = lambda _number: None) -> None:
        self.sent: list[int] = []
        self._on_send = on_send

    def send(self, number: int, message: SessionRequest) -> None:
        assert message is REQUEST
        self.sent.append(number)
        self._on_send(number)


def run(scenario: Callable[[], object]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await scenario()  # type: ignore[misc]

    asyncio.run(limited())


def test_a_path_that_does_not_answer_is_followed_by_the_next() -> None:
    async def scenario() -> None:
        requests = Requests(repeat_after=0.001)
        silent = Path()
        good = Path(lambda number: requests.answered(9, number, ANSWER))
        assert await requests.ask(9, REQUEST, lambda: [silent, good]) is ANSWER
        assert silent.sent == good.sent, "the same number"

    run(scenario)


def test_numbers_are_never_used_again() -> None:
    async def scenario() -> None:
        requests = Requests()
        path = Path(lambda number: requests.answered(9, number, ANSWER))
        for session in (9, 9):
            await requests.ask(session, REQUEST, lambda: [path])
        assert len(set(path.sent)) == 2

    run(scenario)


def test_without_a_path_it_waits_for_one() -> None:
    async def scenario() -> None:
        requests = Requests()
        path = Path(lambda number: requests.answered(9, number, ANSWER))
        looks: list[list[Path]] = [[], [path]]
        assert await requests.ask(9, REQUEST, lambda: looks.pop(0)) is ANSWER

    run(scenario)


def test_a_lost_session_ends_its_requests_only() -> None:
    async def scenario() -> None:
        requests = Requests()
        asked: dict[int, asyncio.Task[SessionAnswer]] = {}
        path = Path()
        for session in (1, 2):
            asked[session] = asyncio.create_task(requests.ask(session, REQUEST, lambda: [path]))
        while len(path.sent) < 2:
            await asyncio.sleep(0)
        requests.lost(1)
        with pytest.raises(SessionUnknownError):
            await asked[1]
        requests.answered(2, path.sent[0], ANSWER)
        assert not asked[2].done(), "the answer of another session's request"
        requests.answered(2, path.sent[1], ANSWER)
        assert await asked[2] is ANSWER

    run(scenario)
