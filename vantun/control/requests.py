"""A client's requests to the server: each goes by a path of the session, and again by another, until it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import count
from typing import Protocol

from vantun.control.path_events import SessionUnknownError
from vantun.control.session_messages import SessionAnswer, SessionRequest

REPEAT_AFTER = 2.0
"""Seconds without an answer after which a request goes again, by the next path: the one it went by may be dead."""
LOOK_AGAIN = 0.1
"""Seconds between looks for a path while there is none."""


class Sender(Protocol):
    """A path that is up."""

    def send(self, number: int, message: SessionRequest) -> None:
        """Send a request; nothing happens when the path has just ended."""


class Requests:
    """The requests of a client process; numbers are never used twice, whatever session they belong to."""

    def __init__(self, repeat_after: float = REPEAT_AFTER) -> None:
        self._repeat_after = repeat_after
        self._numbers = count(1)
        self._waiting: dict[tuple[int, int], asyncio.Future[SessionAnswer]] = {}

    async def ask(self, session: int, message: SessionRequest, paths: Callable[[], Sequence[Sender]]) -> SessionAnswer:
        """Return the server's answer to ``message``; ``paths`` gives the paths of the session that are up now.

        Waits as long as the session lives, also through times without any path.

        Raises
        ------
        SessionUnknownError
            When the session is lost before the answer came.
        """
        number = next(self._numbers)
        future: asyncio.Future[SessionAnswer] = asyncio.get_running_loop().create_future()
        self._waiting[session, number] = future
        try:
            for turn in count():
                ready = paths()
                if ready:
                    ready[turn % len(ready)].send(number, message)
                await asyncio.wait((future,), timeout=self._repeat_after if ready else LOOK_AGAIN)
                if future.done():
                    break
            return future.result()
        finally:
            self._waiting.pop((session, number), None)

    def answered(self, session: int, number: int, answer: SessionAnswer) -> None:
        """Take an answer; one that nobody waits for, or that came before, is ignored."""
        future = self._waiting.get((session, number))
        if future is not None and not future.done():
            future.set_result(answer)

    def lost(self, session: int) -> None:
        """End the requests of a session that is lost."""
        for (owner, _), future in self._waiting.items():
            if owner == session and not future.done():
                future.set_exception(SessionUnknownError("the session has ended before the server answered"))
                future.exception()  # whoever asked may have been cancelled meanwhile
