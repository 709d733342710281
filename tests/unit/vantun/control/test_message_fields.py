from __future__ import annotations

import pytest

from vantun.control.message_fields import between, long, printable, readable


def test_bounds_are_inclusive() -> None:
    between("x", 0, 0, 3)
    between("x", 3, 0, 3)
    with pytest.raises(ValueError, match="x is 4, allowed are 0 to 3"):
        between("x", 4, 0, 3)
    with pytest.raises(ValueError, match="2 bytes, expected 3"):
        long("x", b"ab", 3)


def test_text_that_moves_a_cursor_is_refused_and_shown_as_an_escape() -> None:
    with pytest.raises(ValueError, match="cannot be printed"):
        printable("x", "\x1b[A", 9)
    printable("x", readable("\x1b[A", 9), 9)
    with pytest.raises(ValueError, match="length of x"):
        printable("x", "abc", 2)
    assert readable("abc", 2) == "ab"
