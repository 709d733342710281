"""What synchronous engines have in common: a ticket that is done, and a session without a device."""

from __future__ import annotations

from accel.engine import Engine, Health, KeySpec, Operation, Ticket


class Finished:
    """The ticket of work that was done inside ``submit``."""

    done = True


FINISHED = Finished()


class Synchronous:
    """Base of engines that work inside ``submit``: nothing to poll, nothing to cancel."""

    def poll(self) -> int:
        """Return 0: every ticket was finished when it was given out."""
        return 0

    def cancel(self, ticket: Ticket) -> bool:
        """Return True: the engine owns no rows outside ``submit``."""
        return ticket.done

    def health(self) -> Health:
        """Return that the engine is well; it has no device that could fail."""
        return Health(usable=True)


class KeylessSession:
    """A session of an FEC operation."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation

    def install_key(self, slot: int, spec: KeySpec) -> None:
        """Refuse: FEC has no keys."""
        raise TypeError(f"{self.operation.value} takes no keys, one was given for slot {slot} ({spec.suite.value})")

    def remove_key(self, slot: int) -> None:
        """Ignore ``slot``: there are no keys."""

    def close(self) -> None:
        """Nothing is held."""


__all__ = ["FINISHED", "Engine", "Finished", "KeylessSession", "Synchronous"]
