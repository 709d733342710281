"""How many inputs a parser is fuzzed with, by the hypothesis profile that runs."""

from __future__ import annotations

from hypothesis import settings


def fuzz_turns() -> int:
    """Return 10^4 at a developer's machine, 10^5 in CI, 10^7 in a soak."""
    return {"ci": 100_000, "soak": 10_000_000}.get(settings.get_current_profile_name(), 10_000)
