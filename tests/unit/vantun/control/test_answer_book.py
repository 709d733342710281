from __future__ import annotations

import pytest

from vantun.control.answer_book import BURST, MAX_ANSWERS, MAX_WAITING, PER_SECOND, AnswerBook
from vantun.errors import ProtocolError


def test_a_repeated_request_gets_the_answer_it_got() -> None:
    book = AnswerBook()
    assert book.take(1, 0, 5, 0.0) is None
    assert book.answer(1, 5, b"yes") == {0}
    assert book.take(1, 3, 5, 0.0) == b"yes"
    assert book.answer(1, 5, b"no") == set(), "the first answer counts"
    assert book.take(1, 3, 5, 0.0) == b"yes"


def test_the_answer_goes_to_every_path_that_brought_the_request() -> None:
    book = AnswerBook()
    assert book.take(1, 0, 5, 0.0) is None
    assert book.take(1, 7, 5, 0.0) == b"", "it is under way"
    assert book.answer(1, 5, b"yes") == {0, 7}


def test_sessions_know_nothing_of_each_other() -> None:
    book = AnswerBook()
    book.take(1, 0, 5, 0.0)
    book.answer(1, 5, b"yes")
    assert book.take(2, 0, 5, 0.0) is None
    assert book.answer(3, 5, b"yes") == set()
    book.forget(1)
    assert book.take(1, 0, 5, 0.0) is None


def test_bounds() -> None:
    book = AnswerBook()
    for number in range(MAX_WAITING):
        book.take(1, 0, number, 0.0)
    with pytest.raises(ProtocolError, match="without an answer"):
        book.take(1, 0, MAX_WAITING, 0.0)
    for _ in range(BURST - MAX_WAITING - 1):
        book.take(1, 0, 0, 0.0)
    with pytest.raises(ProtocolError, match="at once"):
        book.take(1, 0, 0, 0.0)
    assert book.take(1, 0, 0, 10.0 / PER_SECOND) == b"", "later it may ask again"


def test_only_the_newest_answers_are_kept_and_older_requests_are_not_done_again() -> None:
    book = AnswerBook()
    for number in range(MAX_ANSWERS + 3):
        assert book.take(1, 0, number, float(number)) is None
        book.answer(1, number, b"yes")
    now = MAX_ANSWERS + 3.0
    assert book.take(1, 0, 2, now) == b""
    assert book.take(1, 0, 3, now) == b"yes"
