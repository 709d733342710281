"""Credentials at the door: what is checked when, what is remembered, and what guessing costs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vantun.config import AuthConfig
from vantun.control.authentication import Authenticator, authorization, removed_users
from vantun.control.gate import (
    FIRST_DELAY,
    FORGET_AFTER,
    FREE_TRIES,
    FREE_USER_TRIES,
    LONGEST_DELAY,
    LONGEST_USER_DELAY,
    QUEUE_TIME,
    REMEMBERED,
    Ask,
    Gate,
    Verdict,
)
from vantun.password_hash import ScryptHash, make_hash

RIGHT, WRONG = authorization("alice:s3cret"), authorization("alice:guess")
HASH = make_hash("s3cret", 10)


class Slow:
    """A verifier that does the work when it is told to."""

    def __init__(self, most: int = 100) -> None:
        self.most = most
        self.waiting: list[tuple[Callable[[], bool], Callable[[bool], None]]] = []

    def submit(self, work: Callable[[], bool], done: Callable[[bool], None]) -> bool:
        if len(self.waiting) >= self.most:
            return False
        self.waiting.append((work, done))
        return True

    def work(self) -> None:
        while self.waiting:
            work, done = self.waiting.pop(0)
            done(work())


def gate(password: str = "s3cret", verifier: Slow | None = None) -> Gate:
    return Gate(Authenticator(AuthConfig("userpass", users={"alice": password, "bob": HASH})), verifier)


def verdict(gate: Gate, ask: Ask) -> Verdict | None:
    found: list[Verdict] = []
    gate.check(ask, found.append)
    return found[0] if found else None


@pytest.mark.parametrize("password", ["s3cret", HASH], ids=["plain", "hash"])
def test_right_and_wrong(password: str) -> None:
    door = gate(password)
    for value, expected in (
        (RIGHT, Verdict.RIGHT),
        (WRONG, Verdict.WRONG),
        (authorization("carol:s3cret"), Verdict.WRONG),
        (authorization("alice:" + HASH), Verdict.WRONG),
        (authorization("alice:"), Verdict.WRONG),
        (RIGHT.lower(), Verdict.WRONG),
        (b"Basic " + b"A" * 10_000, Verdict.WRONG),
        (b"", Verdict.WRONG),
    ):
        ask = door.ask("192.0.2.1", value, 0.0)
        assert verdict(door, ask) is expected, value
        assert b"s3cret" not in repr(ask).encode()


def test_the_same_work_for_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[int, int, int]] = []
    verify = ScryptHash.verify

    def noted(self: ScryptHash, text: bytes) -> bool:
        done.append(self.cost)
        return verify(self, text)

    monkeypatch.setattr(ScryptHash, "verify", noted)
    door = gate()  # alice's password is plain, bob's a hash
    values = [
        WRONG,
        authorization("bob:guess"),
        authorization("carol:guess"),
        authorization("garbage"),
        b"",
        b"Basic ?",
    ]
    for value in values:
        before = len(done)
        assert verdict(door, door.ask("192.0.2.1", value, 0.0)) is Verdict.WRONG
        assert done[before:] == [(1024, 8, 1)], value


def test_who_was_right_costs_no_hash_again() -> None:
    slow = Slow()
    door = gate(HASH, slow)
    found: list[Verdict] = []
    door.check(door.ask("192.0.2.1", RIGHT, 0.0), found.append)
    assert not found
    slow.work()
    assert found == [Verdict.RIGHT]
    for source in ("192.0.2.1", "192.0.2.2"):
        assert verdict(door, door.ask(source, RIGHT, 1.0)) is Verdict.RIGHT
    assert not slow.waiting
    door.check(door.ask("192.0.2.1", WRONG, 1.0), found.append)
    assert len(slow.waiting) == 1
    door.authenticator = Authenticator(AuthConfig("userpass", users={"alice": HASH}))
    door.check(door.ask("192.0.2.1", RIGHT, 1.0), found.append)
    assert len(slow.waiting) == 2, "other users: nothing is known any more"


def test_users_that_change_while_a_password_is_checked() -> None:
    slow = Slow()
    door = gate(HASH, slow)
    found: list[Verdict] = []
    door.check(door.ask("192.0.2.1", RIGHT, 0.0), found.append)
    door.authenticator = Authenticator(AuthConfig("userpass", users={"bob": HASH}))
    slow.work()
    assert found == [Verdict.BUSY]


def test_more_than_can_be_computed() -> None:
    slow = Slow(most=2)
    door = gate(HASH, slow)
    found: list[Verdict] = []
    for number in range(5):
        door.check(door.ask(f"192.0.2.{number}", WRONG, 0.0), found.append)
    assert found == [Verdict.BUSY] * 3
    assert door.counts["busy"] == 3
    slow.work()
    assert found[3:] == [Verdict.WRONG] * 2


def test_guessing_becomes_slow_however_many_connections_it_uses() -> None:
    door = gate()
    due = [door.ask("192.0.2.1", authorization(f"user{number}:guess"), 0.0) for number in range(2 * FREE_TRIES)]
    assert [ask.due for ask in due[: FREE_TRIES + 1]] == [0.0] * (FREE_TRIES + 1)
    assert due[FREE_TRIES + 1].due == FIRST_DELAY
    times = [ask.due for ask in due if not ask.ignored]
    gaps = [after - before for before, after in zip(times[FREE_TRIES:], times[FREE_TRIES + 1 :], strict=False)]
    assert gaps == sorted(gaps)
    assert max(gaps) <= LONGEST_DELAY
    ignored = [ask for ask in due if ask.ignored]
    assert ignored, "nobody waits for minutes"
    assert max(ask.due for ask in due) <= QUEUE_TIME + LONGEST_DELAY
    assert verdict(door, ignored[0]) is Verdict.WRONG
    right = [door.ask("192.0.2.1", RIGHT, 0.0)]
    assert right[0].ignored, "it cannot be found out in between whether a guess is right"
    assert door.ask("192.0.2.2", RIGHT, 0.0).due == 0.0, "others are not concerned"
    assert door.ask("192.0.2.1", WRONG, 100.0 + FORGET_AFTER).due == 100.0 + FORGET_AFTER


def test_a_network_that_guesses_in_one_name() -> None:
    door = gate()
    due = [door.ask(f"198.51.100.{number}", WRONG, 0.0).due for number in range(FREE_USER_TRIES + 10)]
    assert due[: FREE_USER_TRIES - 1] == [0.0] * (FREE_USER_TRIES - 1)
    assert due[-1] == LONGEST_USER_DELAY, "and no longer: alice herself comes from somewhere"
    assert door.ask("198.51.100.1", b"", 0.0).due == 0.0
    assert door.ask("198.51.100.1", authorization("bob:x"), 0.0).due == 0.0


def test_who_was_right_here_does_not_wait_for_others() -> None:
    door = gate()
    assert verdict(door, door.ask("192.0.2.1", RIGHT, 0.0)) is Verdict.RIGHT
    for _ in range(50):
        door.ask("192.0.2.1", WRONG, 1.0)
    assert door.ask("192.0.2.1", RIGHT, 1.0).due == 1.0


def test_success_forgives() -> None:
    door = gate()
    for _ in range(FREE_TRIES):
        verdict(door, door.ask("192.0.2.1", WRONG, 0.0))
    assert verdict(door, door.ask("192.0.2.1", RIGHT, 0.0)) is Verdict.RIGHT
    assert door.ask("192.0.2.1", authorization("bob:x"), 0.0).due == 0.0


def test_what_is_remembered_is_bounded() -> None:
    door = gate()
    for number in range(3 * REMEMBERED):
        door.ask(f"2001:db8:{number:x}::/64", authorization(f"{'x' * 100}{number}:y"), 0.0)
    assert len(door._sources) == len(door._users) == REMEMBERED


def users(**entries: str) -> AuthConfig:
    return AuthConfig("userpass", users=entries)


def test_who_may_not_stay() -> None:
    before = users(alice="a", bob="b", carol="s3cret", dave=HASH)
    assert removed_users(before, before) == {}
    now = users(alice="a", carol=HASH, dave="s3cret", erin="e")
    assert removed_users(now, before) == {"bob": "the user was removed"}
    assert removed_users(users(alice="x", bob="b", carol=make_hash("y", 10), dave="y"), before) == {
        "alice": "the password was changed",
        "carol": "the password was changed",
        "dave": "the password was changed",
    }
    one = AuthConfig("password", password="a")
    assert list(removed_users(one, before)) == ["alice", "bob", "carol", "dave"]
    assert removed_users(AuthConfig("password", password="b"), one) == {"": "the password was changed"}


def test_hashes_of_different_cost_tell_users_apart() -> None:
    one = Authenticator(users(alice=HASH, bob="plain"))
    assert not one.tells_by_time
    assert Authenticator(users(alice=HASH, bob=make_hash("x", 11))).tells_by_time
