"""Sessions of a server: who may begin one, who may join it, and when it is over. Sans-IO; times in seconds."""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import dataclass, field

from vantun.config_users import SESSIONS_PER_USER
from vantun.control.messages import TOKEN_LENGTH, RefuseCode

SESSION_LINGER = 30.0
"""Seconds that a session without a path is kept for its client to come back."""
MAX_SESSIONS = 1000
MAX_PATHS = 8
"""Paths of a session at once; the data plane has lanes for so many."""
MAX_PATH_IDS = 4096
"""Path ids that a session may ever use: they are remembered, because they are never reused."""
TOKENS = 4
"""Join tokens in each Welcome."""
TOKENS_KEPT = TOKENS * MAX_PATHS
"""Unused tokens of a session that are valid: while one is under way, each other path may join and bring new ones."""
MAX_SESSION_ID = (1 << 62) - 1


class RefusalError(Exception):
    """A Hello is refused.

    Attributes
    ----------
    code
        Goes into Refuse.
    """

    def __init__(self, code: RefuseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass
class _Session:
    user: str
    tokens: list[bytes] = field(default_factory=list)
    used: set[int] = field(default_factory=set)
    up: set[int] = field(default_factory=set)
    empty_since: float = 0.0


class SessionAuthority:
    """All sessions of a server process; a restart forgets them, and so every token."""

    def __init__(self, most: int = MAX_SESSIONS, per_user: int = SESSIONS_PER_USER) -> None:
        self._most = most
        self._per_user = per_user
        self._sessions: dict[int, _Session] = {}
        self._empty: dict[int, None] = {}
        """Sessions without a path, in the order in which they lost the last one."""
        self._of_user: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self, user: str, path: int) -> int:
        """Begin a session with its first path; return its id. Raises RefusalError."""
        if len(self._sessions) >= self._most:
            raise RefusalError(RefuseCode.NO_ROOM, f"the server has room for {self._most} sessions; try again later")
        if user and self._of_user[user] >= self._per_user:  # "" is everybody, where one password is for all
            raise RefusalError(
                RefuseCode.NO_ROOM,
                f"{user!r} has {self._per_user} sessions; end one, wait {SESSION_LINGER:.0f} s for those without a "
                "path, or raise limits.sessionsPerUser at the server",
            )
        session = 1 + secrets.randbelow(MAX_SESSION_ID)
        while session in self._sessions:
            session = 1 + secrets.randbelow(MAX_SESSION_ID)
        self._sessions[session] = _Session(user, used={path}, up={path})
        self._of_user[user] += 1
        return session

    def join(self, user: str, session: int, token: bytes, path: int) -> None:
        """Add a path to a session for one of its tokens, which is used up. Raises RefusalError."""
        record = self._sessions.get(session)
        if record is None or record.user != user or not _take(record.tokens, token):
            raise RefusalError(RefuseCode.UNKNOWN_SESSION, "no such session, or its token is used up")
        if path in record.used:
            raise RefusalError(RefuseCode.PATH_USED, f"path {path} was used before; take a new number")
        if len(record.up) >= MAX_PATHS or len(record.used) >= MAX_PATH_IDS:
            raise RefusalError(RefuseCode.NO_ROOM, f"a session has room for {MAX_PATHS} paths; close one first")
        record.used.add(path)
        record.up.add(path)
        self._empty.pop(session, None)

    def tokens(self, session: int) -> tuple[bytes, ...]:
        """Return fresh join tokens; the oldest unused ones go when there are too many."""
        fresh = tuple(secrets.token_bytes(TOKEN_LENGTH) for _ in range(TOKENS))
        record = self._sessions[session]
        record.tokens = [*record.tokens, *fresh][-TOKENS_KEPT:]
        return fresh

    def left(self, session: int, path: int, now: float) -> None:
        """Note that a path has ended; unknown ones are ignored."""
        record = self._sessions.get(session)
        if record is not None and path in record.up:
            record.up.discard(path)
            record.empty_since = now
            if not record.up:
                self._empty[session] = None

    def end(self, session: int) -> bool:
        """Forget a session; return whether there was one."""
        record = self._sessions.pop(session, None)
        if record is None:
            return False
        self._empty.pop(session, None)
        self._of_user[record.user] -= 1
        if not self._of_user[record.user]:
            del self._of_user[record.user]
        return True

    def next_expiry(self) -> float | None:
        """Return when :meth:`expire` has something to do."""
        first = next(iter(self._empty), None)
        return None if first is None else self._sessions[first].empty_since + SESSION_LINGER

    def expire(self, now: float) -> list[int]:
        """Forget the sessions that have had no path for too long; return their ids."""
        over: list[int] = []
        while (due := self.next_expiry()) is not None and due <= now:
            over.append(next(iter(self._empty)))
            self.end(over[-1])
        return over


def _take(tokens: list[bytes], token: bytes) -> bool:
    """Remove ``token``; compares with all of them in constant time."""
    place = -1
    for index, known in enumerate(tokens):
        if secrets.compare_digest(known, token):
            place = index
    if place < 0:
        return False
    del tokens[place]
    return True
