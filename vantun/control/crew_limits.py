"""A user's rates, shared out among the workers that carry his slices: each gets as much as it has lately needed.

No worker knows what the others send. Together they keep the limit because their shares add up to it; each has a
little that it may not need, so that a connection which begins there is not at a standstill until the next look.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from vantun.worker_messages import UserRate

SPARE = 8
"""A worker of P that have a user's slices gets 1 / (SPARE P) of his rate at least."""
_WAYS = ("sent_bytes", "received_bytes")


class Limited(Protocol):
    """What WorkerLink is here."""

    def limit_users(self, rates: Iterable[UserRate]) -> None:
        """See UserLink."""


class CrewLimits:
    """What each of ``workers`` may send to and receive from users."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._rates: tuple[UserRate, ...] = ()
        self._seen: list[dict[str, tuple[int, int]]] = [{} for _ in range(workers)]
        self._moved: list[dict[str, tuple[int, int]]] = [{} for _ in range(workers)]
        self._told: list[tuple[UserRate, ...]] = [()] * workers

    def use(self, rates: Iterable[UserRate]) -> None:
        """Share out these rates from now on."""
        self._rates = tuple(rates)

    def look(self, worker: int, snapshot: Mapping[str, object]) -> None:
        """Learn what a worker has carried of each user who has a session there."""
        if not self._rates:
            return
        users = snapshot.get("users")
        rows = [row for row in users if isinstance(row, Mapping)] if isinstance(users, list) else []
        before, seen = self._seen[worker], dict[str, tuple[int, int]]()
        moved: dict[str, tuple[int, int]] = {}
        for row in rows:
            if not row.get("sessions"):
                continue
            user = str(row.get("user"))
            sent, received = (int(row.get(way) or 0) for way in _WAYS)
            last = before.get(user, (sent, received))
            seen[user] = sent, received
            moved[user] = max(sent - last[0], 0), max(received - last[1], 0)
        self._seen[worker], self._moved[worker] = seen, moved

    def forget(self, worker: int) -> None:
        """Begin anew with a worker that was replaced."""
        self._seen[worker], self._moved[worker], self._told[worker] = {}, {}, ()

    def of(self, worker: int) -> tuple[UserRate, ...]:
        """Return the rates of a worker."""
        return tuple(
            UserRate(
                rate.user,
                rate.sending * self._share(worker, rate.user, 0),
                rate.receiving * self._share(worker, rate.user, 1),
            )
            for rate in self._rates
        )

    def _share(self, worker: int, user: str, way: int) -> float:
        moved = [known[user][way] for known in self._moved if user in known]
        if user not in self._moved[worker]:  # a slice may begin there before the next look
            return 1 / self._workers
        total = sum(moved)
        if not total:
            return 1 / len(moved)
        spare = 1 / (SPARE * len(moved))
        return spare + (1 - spare * len(moved)) * self._moved[worker][user][way] / total

    def tell(self, links: Sequence[Limited], *, anew: bool = False) -> None:
        """Tell each worker its rates, if they are others than before, or in any case if they are ``anew``."""
        for worker, link in enumerate(links):
            rates = self.of(worker)
            if anew or rates != self._told[worker]:
                self._told[worker] = rates
                link.limit_users(rates)
