"""Whether what an engine needs is there, for tests of real devices."""

from __future__ import annotations

from pathlib import Path

import pytest

from accel.catalogue import CATALOGUE

_SPARE = "OpenCL loader"
"""That pyopencl's wheel has one of its own."""


def what_is_missing(name: str) -> str:
    """Return why an engine's tests cannot run, empty = they can; a GPU without its packages is none to a test."""
    row = next(row for row in CATALOGUE if row.name == name)
    found = row.look(Path("/"))
    missing = [text for text in found.missing if not text.startswith(_SPARE)]
    return f"{name}: not found: {', '.join(missing)}; it needs {row.needs}" if missing or not found.present else ""


def skip_unless_there(name: str) -> pytest.MarkDecorator:
    """Return the mark that skips a test, with the reason, where something that an engine needs is not there."""
    reason = what_is_missing(name)
    return pytest.mark.skipif(bool(reason), reason=reason)
