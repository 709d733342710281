from __future__ import annotations

import pytest

from vantun.doctor.finding import Finding, Level, note, ok, problem, warning, worst


def test_a_finding_that_is_not_ok_says_how_it_is_mended() -> None:
    with pytest.raises(ValueError, match="how to mend"):
        Finding("MTU", Level.WARNING, "it is small")


def test_worst() -> None:
    assert worst([]) is Level.OK
    assert worst([ok("a", "b"), note("a", "b", "c")]) is Level.NOTE
    assert worst([problem("a", "b", "c"), warning("a", "b", "c")]) is Level.PROBLEM


def test_document() -> None:
    assert warning("MTU", "small", "ip link").document() == {
        "subject": "MTU",
        "level": "warning",
        "text": "small",
        "fix": "ip link",
    }
