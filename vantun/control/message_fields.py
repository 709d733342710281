"""Checks of single fields of control messages; each raises ValueError that says what is allowed."""

from __future__ import annotations

MAX_NUMBER = (1 << 62) - 1
"""The largest integer that a control message carries."""


def between(name: str, value: int, low: int, high: int) -> None:
    """Check a number."""
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}, allowed are {low} to {high}")


def long(name: str, value: bytes, length: int) -> None:
    """Check the length of a byte string."""
    if len(value) != length:
        raise ValueError(f"{name} has {len(value)} bytes, expected {length}")


def printable(name: str, value: str, most: int) -> None:
    """Check text that is shown to people: what a peer sends must not move a terminal's cursor."""
    between(f"length of {name}", len(value), 0, most)
    if not value.isprintable():
        raise ValueError(f"{name} has characters that cannot be printed")


def readable(text: str, most: int) -> str:
    """Return ``text`` as a field may carry it: what cannot be printed is written as an escape."""
    return (text if text.isprintable() else repr(text))[:most]
