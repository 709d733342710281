"""The TUN part of the control process's end of the data worker."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from vantun.errors import ResourceError
from vantun.tun_messages import AddTun, AttachTun, OpenTun, SetPacketRules, SetTunRoutes

if TYPE_CHECKING:
    from vantun.worker_messages import Command


class Carried(Protocol):
    """What travels beside a message: a socket, or the file of a device."""

    def fileno(self) -> int:
        """Return its descriptor."""

    def close(self) -> None:
        """Close it."""


def duplicate(descriptor: int) -> Carried:
    """Return a copy of a queue's descriptor, to be sent; raises ResourceError when none is left."""
    try:
        return io.FileIO(os.dup(descriptor), "r+")
    except OSError as error:
        raise ResourceError(f"the TUN device cannot be shared with the worker: {error.strerror}") from None


class TunLink(ABC):
    """Commands about the TUN device. A part of WorkerLink."""

    @abstractmethod
    def _post(self, message: Command, sock: Carried | None = None) -> None:
        """Send a command; ``sock`` travels with it and is closed here."""

    def add_tun(
        self,
        number: int,
        descriptors: Sequence[int],
        *,
        client: bool,
        client_to_client: bool = False,
        offloads: int = 0,
    ) -> None:
        """Have the worker read and write the first queue of a TUN device; ``descriptors`` stay the caller's.

        The caller must leave them alone. Raises ResourceError when this process has no descriptor left.
        """
        self._post(AddTun(number, client, client_to_client, offloads), duplicate(descriptors[0]))

    def set_tun_routes(self, session: int, addresses: Iterable[str], prefixes: Iterable[str]) -> None:
        """Say what belongs to a session, instead of what did; none = nothing."""
        self._post(SetTunRoutes(session, tuple(addresses), tuple(prefixes)))

    def open_tun(self, session: int) -> None:
        """Client: open the session's TUN flow, instead of the one it has. Answered by TunFlow."""
        self._post(OpenTun(session))

    def attach_tun(self, handle: int) -> None:
        """Server: answer FlowOpened of ``tun:``. Answered by TunFlow."""
        self._post(AttachTun(handle))

    def set_packet_rules(self, rows: bytes) -> None:
        """Set the rules that packets are judged by, as rows of ``AccessList.packet_rules``."""
        self._post(SetPacketRules(rows))
