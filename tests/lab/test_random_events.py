"""10^5 random events against all state machines of a tunnel: nothing that must hold is ever broken."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.lab.chaos import Chaos

EVENTS = 100_000
SOAK_EVENTS = 3_000_000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_thousand_random_events(record_property: Callable[[str, object], None]) -> None:
    chaos = Chaos(seed=1)
    chaos.run(EVENTS)
    assert chaos.total >= EVENTS
    assert min(chaos.events[name] for name in ("rebind", "copy", "join", "leave", "cut", "refuse")) > 500
    assert chaos.events["jump"] > 20
    record_property("events", dict(chaos.events))
    record_property("packets", [nonces.count for nonces in chaos.nonces])


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", range(2, 12))
def test_millions_of_random_events(seed: int) -> None:
    Chaos(seed).run(SOAK_EVENTS // 10)
