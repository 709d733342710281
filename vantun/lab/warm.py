"""A rehearsal of the lab: every kernel of the relay and of the pure link runs once."""

from __future__ import annotations

from vantun.lab.link import Link, LinkProfile
from vantun.lab.relay_loop import warm_up


def warm_lab() -> None:
    """Run them."""
    Link(LinkProfile(), 0, 0).send(0.0, 100)
    warm_up()
