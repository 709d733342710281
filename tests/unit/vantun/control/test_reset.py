"""Resets: shorter than what caused them, few, and told from packets by the token alone."""

from __future__ import annotations

import os
from pathlib import Path

from vantun.control.reset import LONGEST, PER_SECOND, SHORTEST, Resets, is_reset

CID = b"\0lane-id"


def packet(size: int) -> bytes:
    return (b"\x43" + CID).ljust(size, b"x")


def test_the_owner_of_the_token_alone_sees_a_reset() -> None:
    resets = Resets(b"key")
    token = resets.token(CID)
    answer = resets.answer(packet(1200), 0.0)
    assert answer is not None
    assert is_reset(answer, token)
    assert not is_reset(answer, resets.token(b"\0another"))
    assert not is_reset(answer, b"")
    assert not is_reset(answer[:-1], token)
    assert not is_reset(bytes([answer[0] | 0x80]) + answer[1:], token)
    assert Resets(b"other key").token(CID) != token


def test_it_is_always_shorter_so_that_two_servers_cannot_answer_each_other_for_ever() -> None:
    resets = Resets(os.urandom(32))
    data = packet(1500)
    sizes = [len(data)]
    while (answer := resets.answer(data, 0.0)) is not None:
        assert SHORTEST <= len(answer) <= LONGEST
        assert answer[0] & 0xC0 == 0x40
        sizes.append(len(answer))
        data = answer
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)
    assert resets.answer(packet(SHORTEST), 0.0) is None


def test_no_more_than_so_many_a_second() -> None:
    resets = Resets(b"key")
    assert sum(resets.answer(packet(100), 5.0) is not None for _ in range(1000)) == PER_SECOND
    assert sum(resets.answer(packet(100), 5.1) is not None for _ in range(1000)) in range(19, 22)


def test_the_key_outlives_the_process(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(b"a private key")
    token = Resets.from_private_key(file).token(CID)
    assert Resets.from_private_key(file).token(CID) == token
    missing = tmp_path / "nothing.pem"
    assert Resets.from_private_key(missing).token(CID) != Resets.from_private_key(missing).token(CID)
