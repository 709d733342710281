"""TLS session tickets, each used once: what makes a client's next path come up in one round trip (RFC 8446, 2.3).

A first flight that is recorded and sent again must not act twice. So a server forgets a ticket when it is shown; what
shows it again gets an ordinary handshake, whose early data nobody can read. Tickets live in memory: a restart forgets
all of them.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable

from aioquic.tls import SessionTicket

__all__ = ["IssuedTickets", "KeptTickets", "SessionTicket"]

MOST_ISSUED = 4096
"""Tickets a server keeps; the oldest unused ones go."""
MOST_KEPT = 8
"""Tickets a client keeps for one server: one for each of its paths."""
MOST_SERVERS = 64


class IssuedTickets:
    """A server's side: aioquic calls :meth:`issue` and :meth:`redeem`."""

    def __init__(self, most: int = MOST_ISSUED) -> None:
        self._most = most
        self._tickets: OrderedDict[bytes, SessionTicket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tickets)

    def issue(self, ticket: SessionTicket) -> None:
        """Keep a ticket that is about to be sent."""
        self._tickets[ticket.ticket] = ticket
        while len(self._tickets) > self._most:
            self._tickets.popitem(last=False)

    def redeem(self, label: bytes) -> SessionTicket | None:
        """Return the ticket that a client shows, once."""
        return self._tickets.pop(label, None)


class KeptTickets:
    """A client's side: the tickets it may still use, by what it expects of the server."""

    def __init__(self) -> None:
        self._tickets: OrderedDict[Hashable, deque[SessionTicket]] = OrderedDict()

    def put(self, server: Hashable, ticket: SessionTicket) -> None:
        """Keep a ticket of a server that has shown who it is; ``server`` is everything that was asked of it."""
        self._tickets.setdefault(server, deque(maxlen=MOST_KEPT)).append(ticket)
        self._tickets.move_to_end(server)
        while len(self._tickets) > MOST_SERVERS:
            self._tickets.popitem(last=False)

    def take(self, server: Hashable) -> SessionTicket | None:
        """Return the newest ticket that has not expired, and forget it."""
        kept = self._tickets.get(server)
        while kept:
            ticket = kept.pop()
            if ticket.is_valid:
                return ticket
        return None
