"""What a server has answered to the requests of its sessions, so that a repeated request gets the same answer. Sans-IO.

Everything that a client can make it keep is bounded: requests without an answer, answers, and requests per second.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from vantun.errors import ProtocolError

MAX_ANSWERS = 128
"""Answers kept of each session, the newest; a repetition that is older is ignored."""
MAX_WAITING = 64
"""Requests of a session that have no answer yet; one more ends the connection that brings it."""
BURST, PER_SECOND = 256, 16.0
"""Requests of a session at once, and for how long; one more ends the connection that brings it."""


@dataclass
class _Session:
    answers: OrderedDict[int, bytes] = field(default_factory=OrderedDict)
    waiting: dict[int, set[int]] = field(default_factory=dict)
    """Number -> paths that have brought the request."""
    forgotten: int = -1
    """The largest number whose answer is not kept any more."""
    allowance: float = BURST
    counted_at: float = 0.0


class AnswerBook:
    """The requests and answers of every session."""

    def __init__(self) -> None:
        self._sessions: dict[int, _Session] = {}

    def take(self, session: int, path: int, number: int, now: float) -> bytes | None:
        """Take request ``number``; return its answer if there is one, empty bytes if it needs none, None if it is new.

        Raises
        ------
        ProtocolError
            When the client asks too much.
        """
        known = self._sessions.setdefault(session, _Session(counted_at=now))
        known.allowance = min(BURST, known.allowance + (now - known.counted_at) * PER_SECOND) - 1
        known.counted_at = now
        if known.allowance < 0:
            raise ProtocolError(f"more than {BURST} requests at once, or {PER_SECOND:.0f} a second")
        if number in known.answers:
            return known.answers[number]
        if number in known.waiting:
            known.waiting[number].add(path)
            return b""
        if number <= known.forgotten:
            return b""
        if len(known.waiting) >= MAX_WAITING:
            raise ProtocolError(f"more than {MAX_WAITING} requests without an answer")
        known.waiting[number] = {path}
        return None

    def answer(self, session: int, number: int, data: bytes) -> set[int]:
        """Note the answer to a request; return the paths that it goes to. The first answer counts."""
        known = self._sessions.get(session)
        paths = known.waiting.pop(number, None) if known is not None else None
        if known is None or paths is None:
            return set()
        known.answers[number] = data
        if len(known.answers) > MAX_ANSWERS:
            oldest, _ = known.answers.popitem(last=False)
            known.forgotten = max(known.forgotten, oldest)
        return paths

    def forget(self, session: int) -> None:
        """Forget a session that has ended."""
        self._sessions.pop(session, None)
