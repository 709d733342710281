"""aioquic, with its traps guarded: one QUIC connection and its HTTP/3, sans-IO, for both roles.

What is guarded, and why: aioquic doubles its flow-control limits without end (a peer could make it keep gigabytes), a
bug in its parsers must cost one connection and not the process, and its inner names may change with any minor release.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import (
    ConnectionIdIssued,
    ConnectionIdRetired,
    ConnectionTerminated,
    HandshakeCompleted,
    QuicEvent,
)
from aioquic.quic.packet import QuicProtocolVersion

from vantun.errors import InstallError

__all__ = [
    "ConnectionIdIssued",
    "ConnectionIdRetired",
    "ConnectionTerminated",
    "DataReceived",
    "HandshakeCompleted",
    "HeadersReceived",
    "HttpConnection",
    "QuicConfiguration",
    "quic_configuration",
]

log = logging.getLogger(__name__)

CID_LENGTH = 8
IDLE_TIMEOUT = 20.0
"""Seconds; a path whose lane is alive is kept up by PINGs, see :meth:`HttpConnection.ping`."""
PING_AFTER = 5.0
MAX_DATA = 1 << 20
"""Bytes that a peer may send on one connection before we have read them; it never grows beyond MAX_DATA_LIMIT."""
MAX_DATA_LIMIT = 16 << 20
MAX_STREAM_DATA = 256 << 10
INITIAL_RTT = 0.1
"""Seconds; the probe timeout of a handshake is three times this, so that lost set-up packets come again soon."""
H3_NO_ERROR = 0x100
INTERNAL_ERROR = 0x1
_PRIVATE = ("_write_connection_limits", "_write_stream_limits", "_local_max_data", "_host_cids")


def check_library() -> None:
    """Raise InstallError unless aioquic is a release whose inner behaviour the guards know."""
    found = version("aioquic")
    fits = tuple(map(int, found.split(".")[:2])) == (1, 7)
    missing = [name for name in _PRIVATE if name.startswith("_write") and not hasattr(QuicConnection, name)]
    if not fits or missing:
        raise InstallError(
            f"aioquic {found} is not the release that VANTUN guards against (1.7.2 up to 1.8)"
            f"{': it lacks ' + ', '.join(missing) if missing else ''}; pip install 'aioquic>=1.7.2,<1.8'"
        )


check_library()


class GuardedConnection(QuicConnection):
    """A connection whose flow-control limits stop growing."""

    def _write_connection_limits(self, builder: Any, space: Any) -> None:
        if self._local_max_data.value < MAX_DATA_LIMIT:
            super()._write_connection_limits(builder=builder, space=space)

    def _write_stream_limits(self, builder: Any, space: Any, stream: Any) -> None:
        if stream.max_stream_data_local < MAX_DATA_LIMIT:
            super()._write_stream_limits(builder=builder, space=space, stream=stream)


def quic_configuration(*, is_client: bool) -> QuicConfiguration:
    """Return what both roles have in common."""
    return QuicConfiguration(
        alpn_protocols=H3_ALPN,
        connection_id_length=CID_LENGTH,
        idle_timeout=IDLE_TIMEOUT,
        initial_rtt=INITIAL_RTT,
        is_client=is_client,
        max_data=MAX_DATA,
        max_stream_data=MAX_STREAM_DATA,
        supported_versions=[QuicProtocolVersion.VERSION_1],
    )


Peer = tuple[str, int]


class HttpConnection:
    """One QUIC connection with HTTP/3 on it; times are seconds of the caller's clock.

    Attributes
    ----------
    quic
        The connection.
    broken
        Why aioquic failed on this connection, if it did; it is closed then.
    """

    def __init__(self, quic: QuicConnection) -> None:
        self.quic = quic
        self.broken = ""
        self._h3: H3Connection | None = None
        self._pinged_at = 0.0

    @property
    def cids(self) -> list[bytes]:
        """Connection ids that the peer may use for this connection."""
        return [entry.cid for entry in self.quic._host_cids]

    def receive(self, data: bytes, peer: Peer, now: float) -> None:
        """Take a datagram."""
        self._guard(lambda: self.quic.receive_datagram(data, peer, now))

    def transmit(self, now: float) -> list[tuple[bytes, Peer]]:
        """Return the datagrams to be sent now."""
        sent: list[tuple[bytes, Peer]] = []
        self._guard(lambda: sent.extend((data, addr[:2]) for data, addr in self.quic.datagrams_to_send(now)))
        return sent

    def timer(self) -> float | None:
        """Return when :meth:`run_timers` is due."""
        return self.quic.get_timer()

    def run_timers(self, now: float) -> None:
        """Do what is due."""
        due = self.quic.get_timer()
        if due is not None and now >= due:
            self._guard(lambda: self.quic.handle_timer(now))

    def events(self) -> Iterator[QuicEvent | H3Event]:
        """Yield what has happened: events of QUIC first, each followed by what it means to HTTP/3."""
        while (event := self.quic.next_event()) is not None:
            if isinstance(event, HandshakeCompleted) and self._h3 is None:
                self._h3 = H3Connection(self.quic)
            yield event
            yield from self._to_http(event)

    def _to_http(self, event: QuicEvent) -> list[H3Event]:
        found: list[H3Event] = []
        h3 = self._h3
        if h3 is not None:
            self._guard(lambda: found.extend(h3.handle_event(event)))
        return found

    def request(self, headers: list[tuple[bytes, bytes]]) -> int:
        """Send a request whose stream stays open; return the stream."""
        assert self._h3 is not None
        stream = self.quic.get_next_available_stream_id()
        self._h3.send_headers(stream, headers)
        return stream

    def answer(self, stream: int, headers: list[tuple[bytes, bytes]], body: bytes | None) -> None:
        """Answer a request; with ``body`` None its stream stays open."""
        assert self._h3 is not None
        h3 = self._h3

        def send() -> None:
            h3.send_headers(stream, headers, end_stream=body == b"")
            if body:
                h3.send_data(stream, body, end_stream=True)

        self._guard(send)

    def send(self, stream: int, data: bytes) -> None:
        """Send data on an open stream."""
        assert self._h3 is not None
        h3 = self._h3
        self._guard(lambda: h3.send_data(stream, data, end_stream=False))

    def ping(self, now: float) -> None:
        """Keep the connection up for another idle time-out; costs a packet every PING_AFTER seconds."""
        if now - self._pinged_at >= PING_AFTER:
            self._pinged_at = now
            self.quic.send_ping(0)

    def close(self, code: int = H3_NO_ERROR, reason: str = "") -> None:
        """Close the connection."""
        self.quic.close(error_code=code, reason_phrase=reason)

    def _guard(self, work: Callable[[], None]) -> None:
        """Do ``work`` of aioquic; whatever it raises ends this connection only."""
        try:
            work()
        except Exception as error:
            if not self.broken:
                self.broken = f"{type(error).__name__}: {error}"
                log.warning("a QUIC connection is closed, because aioquic failed on it: %s", self.broken)
                self.quic.close(error_code=INTERNAL_ERROR)
