"""aioquic, with its traps guarded: one QUIC connection and its HTTP/3, sans-IO, for both roles.

What is guarded, and why: aioquic doubles its flow-control limits without end and keeps what it cannot send or parse yet
(a peer could make it keep gigabytes), a bug in its parsers must cost one connection and not the process, and its inner
names may change with any minor release.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import aioquic
import aioquic.quic.connection
from aioquic.h3.connection import H3_ALPN, H3Connection, H3Stream
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import (
    ConnectionIdIssued,
    ConnectionIdRetired,
    ConnectionTerminated,
    HandshakeCompleted,
    ProtocolNegotiated,
    QuicEvent,
    StopSendingReceived,
    StreamReset,
)
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.quic.stream import QuicStream

from vantun.control.message_fields import readable
from vantun.control.messages import MAX_REASON
from vantun.control.quic_slim import HANDLERS, slim, slim_new
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
    "StopSendingReceived",
    "StreamReset",
    "quic_configuration",
]

log = logging.getLogger(__name__)

CID_LENGTH = 8
IDLE_TIMEOUT = 20.0
"""Seconds; a path whose lane is alive is kept up by PINGs, see :meth:`HttpConnection.ping`."""
PING_AFTER = 5.0
_AT_ONCE = 0.5
MAX_DATA = 256 << 10
"""Bytes that a peer may send on one connection beyond what was read; a control message has 16 KiB at most."""
MAX_STREAM_DATA = 64 << 10
"""The same for one stream."""
MAX_UNPARSED = 64 << 10
"""Bytes of unfinished HTTP/3 frames on one connection, above which it is closed."""
MAX_UNSENT = 256 << 10
"""Bytes that the peer has not acknowledged, above which nothing more is answered and the connection is closed."""
INITIAL_RTT = 0.1
"""Seconds; the probe timeout of a handshake is three times this, so that lost set-up packets come again soon."""
H3_NO_ERROR = 0x100
H3_EXCESSIVE_LOAD = 0x107
INTERNAL_ERROR = 0x1
_OLDEST, _TOO_NEW = (1, 7, 2), (1, 8)


class GuardedConnection(QuicConnection):
    """A connection whose flow-control windows slide behind what was read, and stay as wide as they were.

    Attributes
    ----------
    held
        Bytes by stream that were given to the application and that it has not used yet: not read, for the windows.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.held: dict[int, int] = {}
        slim_new(self)

    def _write_connection_limits(self, builder: Any, space: Any) -> None:
        limit = self._local_max_data
        if limit.value - limit.used < MAX_DATA // 2:
            # what waits behind a gap was not read: it must not widen the window
            waiting = sum(len(stream.receiver._buffer) for stream in self._streams.values())
            waiting += sum(self.held.values())
            limit.value = max(limit.value, limit.used - waiting + MAX_DATA)
        used, limit.used = limit.used, 0  # aioquic doubles the limit when more than half of it is used
        try:
            super()._write_connection_limits(builder=builder, space=space)
        finally:
            limit.used = used

    def _write_stream_limits(self, builder: Any, space: Any, stream: Any) -> None:
        receiver = stream.receiver
        wanted = receiver._buffer_start - self.held.get(stream.stream_id, 0) + MAX_STREAM_DATA
        if stream.max_stream_data_local and wanted - stream.max_stream_data_local >= MAX_STREAM_DATA // 2:
            stream.max_stream_data_local = wanted
        highest, receiver.highest_offset = receiver.highest_offset, 0  # doubled as above
        try:
            super()._write_stream_limits(builder=builder, space=space, stream=stream)
        finally:
            receiver.highest_offset = highest


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


def check_library(found: str = "") -> None:
    """Raise InstallError unless aioquic is a release whose inner behaviour the guards know.

    ``found`` is its version; empty = what is installed.
    """
    found = found or aioquic.__version__
    release = tuple(int(part) for part in re.findall(r"\d+", found)[:3])
    missing = _missing_names() if _OLDEST <= release < _TOO_NEW else []
    if missing or not _OLDEST <= release < _TOO_NEW:
        raise InstallError(
            f"aioquic {found} is not a release that VANTUN guards against (1.7.2 up to 1.8)"
            f"{': it lacks ' + ', '.join(missing) if missing else ''}; pip install 'aioquic>=1.7.2,<1.8'"
        )


def _missing_names() -> list[str]:
    """Return the inner names of aioquic that the guards use and that are not there."""
    quic = GuardedConnection(configuration=quic_configuration(is_client=True))
    quic.connect(("192.0.2.1", 443), 0.0)
    stream = QuicStream(stream_id=0)
    used: tuple[tuple[object, tuple[str, ...]], ...] = (
        (aioquic.quic.connection, ("EPOCHS",)),
        (QuicConnection, ("_write_connection_limits", "_write_stream_limits")),
        (quic, ("_local_max_data", "_host_cids", "_streams", "_network_paths", "_loss", "_crypto_buffers", "tls")),
        (quic, ("_spaces", "_crypto_streams", "_cryptos", "_cryptos_initial", "_is_client", "_handshake_complete")),
        (quic, (HANDLERS,)),
        (getattr(quic, "tls", None), ("_peer_certificate",)),
        (getattr(quic, "_loss", None), ("_pto_count", "reschedule_data", "_rtt_smoothed", "_rtt_initialized")),
        (getattr(quic, "_loss", None), ("spaces",)),
        (getattr(quic, "_local_max_data", None), ("used", "value", "sent")),
        (stream, ("max_stream_data_local",)),
        (stream.receiver, ("highest_offset", "_buffer", "_buffer_start")),
        (stream.sender, ("_buffer",)),
        (H3Connection(quic), ("_stream",)),
        (H3Stream(0), ("buffer",)),
    )
    return [name for holder, names in used for name in names if not hasattr(holder, name)]


Peer = tuple[str, int]


def reason_of(event: ConnectionTerminated) -> str:
    """Return the peer's reason, fit to be shown."""
    return readable(event.reason_phrase, MAX_REASON)


class HttpConnection:
    """One QUIC connection with HTTP/3 on it; times are seconds of the caller's clock.

    Attributes
    ----------
    quic
        The connection.
    broken
        Why aioquic failed on this connection, if it did; it is closed then.
    """

    def __init__(self, quic: GuardedConnection, *, early: bool = False) -> None:
        """Take over ``quic``; ``early`` = requests are sent before the handshake is complete (0-RTT)."""
        self.quic = quic
        self.broken = ""
        self._h3: H3Connection | None = H3Connection(quic) if early else None
        self._pinged_at = 0.0

    @property
    def cids(self) -> list[bytes]:
        """Connection ids that the peer may use for this connection."""
        return [entry.cid for entry in self.quic._host_cids]

    @property
    def peer(self) -> Peer:
        """The peer's address, as far as authenticated packets have told it."""
        host, port = self.quic._network_paths[0].addr[:2]
        return host, port

    def hasten(self, doublings: int) -> None:
        """Bound how often the probe timeout doubles: probes that are lost by chance must not make the next one late."""
        self.quic._loss._pto_count = min(self.quic._loss._pto_count, doublings)

    @property
    def rtt(self) -> float:
        """Smoothed round-trip time, seconds; 0 while none is known."""
        return float(self.quic._loss._rtt_smoothed) if self.quic._loss._rtt_initialized else 0.0

    def send_again(self, now: float) -> None:
        """Send what was sent early, and refused, at once instead of after a probe timeout."""
        self._guard(lambda: self.quic._loss.reschedule_data(now=now))

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
            if isinstance(event, ProtocolNegotiated) and self._h3 is None:
                # at a server, before the handshake is complete: early data follows at once
                self._h3 = H3Connection(self.quic)
            if isinstance(event, HandshakeCompleted):
                slim(self.quic)
            yield event
            yield from self._to_http(event)

    def _to_http(self, event: QuicEvent) -> list[H3Event]:
        found: list[H3Event] = []
        h3 = self._h3
        if h3 is not None and not self.broken:
            self._guard(lambda: found.extend(h3.handle_event(event)))
            stream = h3._stream.get(getattr(event, "stream_id", -1))
            # a frame may be announced with any size, and is kept until it is whole
            kept = stream is not None and bool(stream.buffer)
            if kept and sum(len(entry.buffer) for entry in h3._stream.values()) > MAX_UNPARSED:
                self._overloaded(f"unfinished HTTP/3 frames of more than {MAX_UNPARSED} B")
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

        if self._has_room():
            self._guard(send)

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Send data on an open stream."""
        assert self._h3 is not None
        h3 = self._h3
        if self._has_room():
            self._guard(lambda: h3.send_data(stream, data, end_stream=end))

    def hold(self, stream: int, size: int) -> None:
        """Keep the peer's windows as they are for ``size`` bytes of a stream, until :meth:`release`."""
        held = self.quic.held
        held[stream] = held.get(stream, 0) + size

    def release(self, stream: int, size: int) -> None:
        """Let the peer send as many bytes again."""
        held = self.quic.held
        left = held.pop(stream, 0) - size
        if left > 0:
            held[stream] = left

    def reset(self, stream: int, code: int) -> None:
        """Break off what is sent on a stream, and take no more from it."""

        def stop() -> None:
            self.quic.reset_stream(stream, code)
            found = self.quic._streams.get(stream)  # gone as soon as both directions are done
            if found is not None and not found.receiver.is_finished:
                self.quic.stop_stream(stream, code)

        self._guard(stop)

    @property
    def unsent(self) -> int:
        """Bytes that the peer has not acknowledged."""
        return sum(len(stream.sender._buffer) for stream in self.quic._streams.values())

    def ping(self, now: float, *, at_once: bool = False) -> None:
        """Keep the connection up for another idle time-out; costs a packet every PING_AFTER seconds.

        ``at_once`` does not wait for that, but half a second: the peer learns from the packet where this end is now.
        """
        if now - self._pinged_at >= (_AT_ONCE if at_once else PING_AFTER):
            self._pinged_at = now
            self.quic.send_ping(0)
            if self.quic._handshake_complete:
                slim(self.quic)  # a client's handshake is confirmed later, and early data has keys until more comes

    def close(self, code: int = H3_NO_ERROR, reason: str = "") -> None:
        """Close the connection."""
        self.quic.close(error_code=code, reason_phrase=reason)

    def _has_room(self) -> bool:
        """Return whether more may be queued; a peer that asks and never acknowledges loses its connection."""
        if self.unsent <= MAX_UNSENT:
            return True
        self._overloaded(f"more than {MAX_UNSENT} B that the peer does not acknowledge")
        return False

    def _overloaded(self, why: str) -> None:
        if not self.broken:
            self.broken = why
            self.quic.close(error_code=H3_EXCESSIVE_LOAD)

    def _guard(self, work: Callable[[], None]) -> None:
        """Do ``work`` of aioquic; whatever it raises ends this connection only."""
        try:
            work()
        except Exception as error:
            if not self.broken:
                self.broken = f"{type(error).__name__}: {error}"
                log.warning("a QUIC connection is closed, because aioquic failed on it: %s", self.broken)
                self.quic.close(error_code=INTERNAL_ERROR)


check_library()
# A connection had thirty sets of its own with the epochs in which a frame may come: 7 kB.
aioquic.quic.connection.EPOCHS = cache(aioquic.quic.connection.EPOCHS)
