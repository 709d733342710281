"""What goes wrong when the library is built."""

from __future__ import annotations


class BuildError(Exception):
    """The library cannot be built: what, and what to do next."""
