from __future__ import annotations

import pytest

from vantun.control.messages import RefuseCode
from vantun.control.sessions import MAX_PATHS, SESSION_LINGER, RefusalError, SessionAuthority


def test_tokens_are_used_once_and_only_by_their_user() -> None:
    authority = SessionAuthority()
    session = authority.begin("alice", 0)
    token, other, *_ = authority.tokens(session)
    with pytest.raises(RefusalError, match="no such session"):
        authority.join("bob", session, token, 1)
    authority.join("alice", session, token, 1)
    with pytest.raises(RefusalError, match="no such session"):
        authority.join("alice", session, token, 2)
    with pytest.raises(RefusalError, match="used before"):
        authority.join("alice", session, other, 1)


def test_old_tokens_make_room_for_new_ones() -> None:
    authority = SessionAuthority()
    session = authority.begin("", 0)
    first = authority.tokens(session)[0]
    for _ in range(8):
        last = authority.tokens(session)[0]
    with pytest.raises(RefusalError):
        authority.join("", session, first, 1)
    authority.join("", session, last, 1)


def test_all_paths_may_join_at_the_same_time() -> None:
    """Tokens that are under way stay valid, however many new ones other paths are given meanwhile."""
    authority = SessionAuthority()
    session = authority.begin("", 0)
    known = list(authority.tokens(session))
    under_way: list[bytes] = [known.pop() for _ in range(4)]
    for path in range(1, MAX_PATHS):
        authority.join("", session, under_way.pop(0), path)
        fresh = list(authority.tokens(session))
        if path == 1:  # the only Welcome that the client sees before it has sent everything
            under_way += [fresh.pop() for _ in range(MAX_PATHS - 1 - 4)]


def test_bounds() -> None:
    authority = SessionAuthority(most=1)
    session = authority.begin("", 0)
    with pytest.raises(RefusalError) as full:
        authority.begin("", 0)
    assert full.value.code is RefuseCode.NO_ROOM
    for path in range(1, MAX_PATHS):
        authority.join("", session, authority.tokens(session)[0], path)
    with pytest.raises(RefusalError) as many:
        authority.join("", session, authority.tokens(session)[0], MAX_PATHS)
    assert many.value.code is RefuseCode.NO_ROOM


def test_a_session_waits_for_its_client_to_come_back() -> None:
    authority = SessionAuthority()
    session = authority.begin("", 0)
    token = authority.tokens(session)[0]
    assert authority.next_expiry() is None
    authority.left(session, 0, 50.0)
    assert authority.expire(50.0 + SESSION_LINGER - 0.1) == []
    authority.join("", session, token, 1)
    assert authority.expire(1000.0) == []
    authority.left(session, 1, 1000.0)
    assert authority.next_expiry() == 1000.0 + SESSION_LINGER
    assert authority.expire(1000.0 + SESSION_LINGER) == [session]
    assert len(authority) == 0
    authority.left(session, 1, 2000.0)  # late news of a path that is gone with its session


def test_sessions_of_one_user_are_bounded_and_of_everybody_with_one_password_are_not() -> None:
    authority = SessionAuthority(per_user=2)
    first = authority.begin("alice", 0)
    authority.begin("alice", 0)
    with pytest.raises(RefusalError, match="'alice' has 2 sessions") as many:
        authority.begin("alice", 0)
    assert many.value.code is RefuseCode.NO_ROOM
    authority.begin("bob", 0)
    for _ in range(5):
        authority.begin("", 0)
    assert authority.end(first)
    authority.begin("alice", 0)


def test_a_thousand_sessions_lose_their_paths_and_expire_in_order() -> None:
    authority = SessionAuthority()
    sessions = [authority.begin("", 0) for _ in range(1000)]
    for at, session in enumerate(sessions):
        authority.left(session, 0, float(at))
    authority.join("", sessions[0], authority.tokens(sessions[0])[0], 1)
    assert authority.next_expiry() == 1.0 + SESSION_LINGER
    assert authority.expire(10.0 + SESSION_LINGER) == sessions[1:11]
    assert authority.next_expiry() == 11.0 + SESSION_LINGER
    assert len(authority) == 990
