"""Which session a client's paths belong to: who creates it, who joins it with what, and when it is lost.

All paths start at once. The first one asks for a new session, the others wait for its tokens; one that does not succeed
within ``CREATION_TIME`` is overtaken by the next, so a dead first uplink delays the others by that much only.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

CREATION_TIME = 2.0
"""Seconds that one path may try to create the session before another one tries as well."""
TOKENS_KEPT = 16
"""The server keeps twice as many of a session, and drops the oldest; so the newest is taken first."""
LINGER = 30.0
"""Seconds without any path after which the server has forgotten the session."""


@dataclass(frozen=True)
class Admission:
    """Leave to set up one path.

    Attributes
    ----------
    number
        The path id, never used before by this client.
    session
        The session to join, or None to create one.
    token
        Single-use; empty without a session.
    """

    number: int
    session: int | None = None
    token: bytes = b""


class Membership:
    """The session of a client. Times are those of the loop, in seconds.

    Parameters
    ----------
    on_lost
        Called with the id of a session that is given up; paths of it that are up have to be set up again.
    """

    def __init__(self, on_lost: Callable[[int], None], creation_time: float = CREATION_TIME) -> None:
        self.session: int | None = None
        self.up: set[int] = set()
        """Path ids that are up in ``session``."""
        self._on_lost = on_lost
        self._creation_time = creation_time
        self._tokens: deque[bytes] = deque(maxlen=TOKENS_KEPT)
        self._next_number = 0
        self._creator: int | None = None
        self._overtaken_at = 0.0
        self._without_path_since = 0.0
        self._changed = asyncio.Event()

    async def admit(self) -> Admission:
        """Wait until a path may be set up, and take a token for it if there is a session."""
        while True:
            now = _now()
            if self.session is not None and not self.up:
                too_late = now - self._without_path_since > LINGER
                if too_late or not self._tokens:  # the server has forgotten it, or we cannot prove that it is ours
                    self.forget(self.session)
            if self.session is not None and self._tokens:
                return Admission(self._take_number(), self.session, self._tokens.pop())
            if self.session is None and (self._creator is None or now >= self._overtaken_at):
                self._creator = self._take_number()
                self._overtaken_at = now + self._creation_time
                return Admission(self._creator)
            await self._change(self._overtaken_at - now if self.session is None else None)

    def joined(self, admission: Admission, session: int, tokens: Iterable[bytes]) -> bool:
        """Note that a path is up; False = it is in a session that nobody needs (any more): end the path.

        That is a second session which two paths have created, or one that was given up while the path joined it: its
        flows and numbers are gone here, so it must not be taken up again.
        """
        if self._creator == admission.number:
            self._creator = None
        if self.session is None and admission.session is None:
            self.session = session
        if self.session != session:
            self._notify()
            return False
        self._tokens.extend(tokens)
        self.up.add(admission.number)
        self._notify()
        return True

    def left(self, admission: Admission) -> None:
        """Note that a path has ended, or was never up."""
        if self._creator == admission.number:
            self._creator = None
        if admission.number in self.up:
            self.up.discard(admission.number)
            self._without_path_since = _now()
        self._notify()

    def forget(self, session: int) -> None:
        """Give up a session: the server does not know it, or the data plane has lost it."""
        if self.session != session:
            return
        self.session = None
        self.up.clear()
        self._tokens.clear()
        self._notify()
        self._on_lost(session)

    async def wait_up(self, seconds: float = math.inf) -> int | None:
        """Return the session as soon as it has a path, or None after ``seconds``."""
        end = _now() + seconds
        while self.session is None or not self.up:
            left = end - _now()
            if left <= 0:
                return None
            await self._change(left if left < math.inf else None)
        return self.session

    async def wait_lost(self, session: int) -> None:
        """Return when ``session`` is not the client's any more."""
        while self.session == session:
            await self._change(None)

    def _take_number(self) -> int:
        self._next_number += 1
        return self._next_number - 1

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _change(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return


def _now() -> float:
    return asyncio.get_running_loop().time()
