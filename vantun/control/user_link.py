"""The commands of WorkerLink that are about users."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from vantun.control.tun_link import Carried
from vantun.worker_messages import Command, LimitUsers, UserRate

_AT_ONCE = 128
"""Rates in a message: names are short, and a message holds 64 kB."""


class UserLink(ABC):
    """Commands about users. A part of WorkerLink."""

    @abstractmethod
    def _post(self, message: Command, sock: Carried | None = None) -> None:
        """Send a command."""

    def limit_users(self, rates: Iterable[UserRate]) -> None:
        """Limit what the worker sends to and receives from users; who is not named has no limit."""
        waiting = list(rates)
        while len(waiting) > _AT_ONCE:
            self._post(LimitUsers(tuple(waiting[:_AT_ONCE]), more=True))
            del waiting[:_AT_ONCE]
        self._post(LimitUsers(tuple(waiting), more=False))
