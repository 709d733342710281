"""Checks the credentials of requests that might open a tunnel: slowly for who guesses, never on the event loop.

Every CONNECT request takes the same way, with right, wrong or no credentials, so that it cannot be told from the time
whether they are looked at. Who fails again and again, by source address or by user, waits longer for each answer, as at
a slow site. Sans-IO; times in seconds.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from vantun.control.authentication import Authenticator, Credentials
from vantun.control.recent import Recent

log = logging.getLogger(__name__)

FREE_TRIES = 10
"""Requests of a source before it has to wait; a client with many paths asks as often."""
FREE_USER_TRIES = 20
FIRST_DELAY, LONGEST_DELAY, LONGEST_USER_DELAY = 0.5, 8.0, 2.0
"""Seconds; each failure doubles the delay. A user is delayed less, for others can fail in his name."""
QUEUE_TIME = 30.0
"""Seconds of delays of one source, above which requests are refused without a look at them."""
FORGET_AFTER = 600.0
"""Seconds without a failure, after which a source is like new."""
REMEMBERED = 4096
"""Sources and users."""
THREADS, MAX_WAITING = 2, 32
"""Of hash computation, and how many of them may wait for a thread."""


class Verdict(Enum):
    """What comes of a check."""

    RIGHT = "right"
    WRONG = "wrong"
    BUSY = "busy"
    """Not checked: there is too much to do."""


@dataclass
class _Record:
    failures: int = 0
    free_at: float = 0.0
    last: float = 0.0


@dataclass(frozen=True)
class Ask:
    """A request whose credentials are to be checked at ``due``, or refused then if they are ``ignored``."""

    source: str
    credentials: Credentials = field(repr=False)
    due: float
    ignored: bool = False


class Verifier(Protocol):
    """Does the work of checking hashes."""

    def submit(self, work: Callable[[], bool], done: Callable[[bool], None]) -> bool:
        """Do ``work`` some time and tell ``done``; return False, and do nothing, when there is too much to do."""


class Inline:
    """A verifier that does the work at once, for tests and tools."""

    def submit(self, work: Callable[[], bool], done: Callable[[bool], None]) -> bool:
        """See Verifier."""
        done(work())
        return True


class Pool:
    """A verifier with a few threads and a bounded queue; ``wake`` is called on the loop after each result."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._threads = ThreadPoolExecutor(THREADS, "verify")
        self._loop = asyncio.get_running_loop()
        self._waiting = 0

    def submit(self, work: Callable[[], bool], done: Callable[[bool], None]) -> bool:
        """See Verifier."""
        if self._waiting >= THREADS + MAX_WAITING:
            return False
        self._waiting += 1

        def finish(future: asyncio.Future[bool]) -> None:
            self._waiting -= 1
            if future.cancelled():
                return
            failure = future.exception()
            if failure is not None:
                log.error("a password could not be checked: %s", failure)
            done(failure is None and future.result())
            self._wake()

        self._loop.run_in_executor(self._threads, work).add_done_callback(finish)
        return True

    def close(self) -> None:
        """Do nothing of what still waits."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Gate:
    """Decides when and by whom a request's credentials are checked.

    Attributes
    ----------
    authenticator
        Knows the users; may be replaced.
    verifier
        Computes hashes.
    counts
        What came of the checks so far.
    """

    def __init__(self, authenticator: Authenticator, verifier: Verifier | None = None) -> None:
        self.authenticator = authenticator
        self.verifier: Verifier = verifier or Inline()
        self.counts = {"right": 0, "wrong": 0, "busy": 0, "ignored": 0}
        self._sources: Recent[str, _Record] = Recent(REMEMBERED, _Record)
        self._users: Recent[bytes, _Record] = Recent(REMEMBERED, _Record)
        self._friends: Recent[tuple[str, str], Authenticator] = Recent(REMEMBERED, lambda: self.authenticator)

    def ask(self, source: str, value: bytes, now: float) -> Ask:
        """Return when the request of ``source`` is to be checked; it counts as a failure until it is found right."""
        known = self.authenticator
        credentials = known.read(value)
        if self._is_friend(source, credentials) and known.is_known(credentials):
            return Ask(source, credentials, now)
        record = _aged(self._sources.get(source), now)
        due = max(now, record.free_at)
        if due > now + QUEUE_TIME:
            self.counts["ignored"] += 1
            return Ask(source, credentials, now + LONGEST_DELAY, ignored=True)
        record.failures += 1
        record.free_at = due + _delay(record.failures - FREE_TRIES, LONGEST_DELAY)
        if known.by_user and credentials.well_formed:
            other = _aged(self._users.get(_name(credentials)), now)
            other.failures += 1
            due += _delay(other.failures - FREE_USER_TRIES, LONGEST_USER_DELAY)
        return Ask(source, credentials, due)

    def check(self, ask: Ask, done: Callable[[Verdict], None]) -> None:
        """Check a request that is due; ``done`` is called now or later."""
        known = self.authenticator
        if ask.ignored:
            done(Verdict.WRONG)
            return
        if known.is_known(ask.credentials):
            self._judged(ask, known, done, right=True)
            return
        found = known.check(ask.credentials)
        if isinstance(found, bool):
            self._judged(ask, known, done, right=found)
        elif not self.verifier.submit(found, lambda right: self._judged(ask, known, done, right=right)):
            self.counts["busy"] += 1
            done(Verdict.BUSY)

    def _judged(self, ask: Ask, known: Authenticator, done: Callable[[Verdict], None], *, right: bool) -> None:
        verdict = Verdict.RIGHT if right else Verdict.WRONG
        if known is not self.authenticator:  # the users have changed meanwhile: he asks again
            verdict, right = Verdict.BUSY, False
        self.counts[verdict.value] += 1
        if right:
            known.accept(ask.credentials)
            self._sources.forget(ask.source)
            self._users.forget(_name(ask.credentials))
            self._friends.forget((ask.source, ask.credentials.user))
            self._friends.get((ask.source, ask.credentials.user))
        done(verdict)

    def _is_friend(self, source: str, credentials: Credentials) -> bool:
        """Tell whether this user was right from this source before: he need not wait for others' failures."""
        return self._friends.peek((source, credentials.user)) is self.authenticator


def _name(credentials: Credentials) -> bytes:
    return hashlib.sha256(credentials.user.encode()).digest()  # a name may be long, and the table is to be small


def _aged(record: _Record, now: float) -> _Record:
    if now - record.last > FORGET_AFTER and now > record.free_at:
        record.failures = 0
    record.last = now
    return record


def _delay(failures: int, longest: float) -> float:
    return 0.0 if failures <= 0 else min(longest, FIRST_DELAY * 2.0 ** min(failures - 1, 10))
