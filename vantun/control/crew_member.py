"""Who listens to one worker of several, and who listens to all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from vantun.dataplane.events import Event


class CrewListener(Protocol):
    """Who is told; see WorkerListener."""

    def on_datagram(self, number: int, data: bytes, peer: tuple[str, int]) -> None:
        """See WorkerListener."""

    def on_event(self, event: Event) -> None:
        """See WorkerListener."""

    def on_worker_lost(self, reason: str, worker: int = 0) -> None:
        """See WorkerListener; ``worker`` is its index."""


class Hearing(Protocol):
    """What Crew is here."""

    listener: CrewListener

    def heard(self, worker: int, event: Event) -> None:
        """Take what a worker says."""

    def lost(self, worker: int, reason: str) -> None:
        """Learn that a worker is lost."""


class Member:
    """Listens to one worker for the crew."""

    def __init__(self, crew: Hearing, index: int) -> None:
        self._crew = crew
        self._index = index

    def on_datagram(self, number: int, data: bytes, peer: tuple[str, int]) -> None:
        """See WorkerListener."""
        self._crew.listener.on_datagram(number, data, peer)

    def on_event(self, event: Event) -> None:
        """See WorkerListener."""
        self._crew.heard(self._index, event)

    def on_worker_lost(self, reason: str) -> None:
        """See WorkerListener."""
        self._crew.lost(self._index, reason)
