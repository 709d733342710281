"""What a check found: one sentence, how bad it is, and the command that mends it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """How bad a finding is, the worst last."""

    OK = "ok"
    NOTE = "note"
    """Nothing is wrong, but it could be better."""
    WARNING = "warning"
    """It works, slower or with something missing."""
    PROBLEM = "problem"
    """It will not work."""


@dataclass(frozen=True)
class Finding:
    """The answer of one check.

    Attributes
    ----------
    subject
        What was looked at, e.g. ``"UDP receive buffer"``.
    level
        How bad it is.
    text
        What was found, in one sentence.
    fix
        A command that mends it, or what to change; empty for OK only.
    """

    subject: str
    level: Level
    text: str
    fix: str = ""

    def __post_init__(self) -> None:
        """Hold everybody to the rule that a finding says how it is mended."""
        if self.level is not Level.OK and not self.fix:
            raise ValueError(f"the finding {self.subject!r} says nothing about how to mend it")

    def document(self) -> dict[str, str]:
        """Return the finding as JSON."""
        return {"subject": self.subject, "level": self.level.value, "text": self.text, "fix": self.fix}


def ok(subject: str, text: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(subject, Level.OK, text)


def note(subject: str, text: str, fix: str) -> Finding:
    """Return a finding that something could be better."""
    return Finding(subject, Level.NOTE, text, fix)


def warning(subject: str, text: str, fix: str) -> Finding:
    """Return a finding that something is slower, or missing."""
    return Finding(subject, Level.WARNING, text, fix)


def problem(subject: str, text: str, fix: str) -> Finding:
    """Return a finding that keeps the tunnel from working."""
    return Finding(subject, Level.PROBLEM, text, fix)


def worst(findings: list[Finding]) -> Level:
    """Return the worst level of ``findings``."""
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)
