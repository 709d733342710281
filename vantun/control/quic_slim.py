"""What an idle QUIC connection keeps: a fifth less than aioquic does by itself.

Packet spaces that are over are replaced by one for all connections that has no keys. So a packet for them is dropped,
as it is after their keys are discarded (RFC 9001, section 4.9).
"""

from __future__ import annotations

from types import MethodType
from typing import Any

from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream
from aioquic.tls import AlertUnexpectedMessage, State

HANDLERS = "_QuicConnection__frame_handlers"
_NO_KEYS = CryptoPair()
_NO_STREAM = QuicStream()
_NO_BUFFER = Buffer(capacity=0)
_NO_SPACE = QuicPacketSpace()
_NO_SPACE.discarded = True


class _Spoken:
    """TLS of a server after the handshake: no message may come any more, and no keys are left to be found."""

    state = State.SERVER_POST_HANDSHAKE

    def handle_message(self, _data: bytes, _buffers: object) -> None:
        """Refuse."""
        raise AlertUnexpectedMessage


_SPOKEN = _Spoken()


class _Handlers:
    """Who handles which frame, bound when one comes: aioquic keeps 33 bound methods for each connection."""

    __slots__ = ("_quic", "_table")

    def __init__(self, quic: QuicConnection, table: dict[int, tuple[Any, object]]) -> None:
        self._quic = quic
        self._table = table

    def __getitem__(self, frame: int) -> tuple[Any, object]:
        function, epochs = self._table[frame]  # KeyError for a frame that nobody knows, as ever
        return MethodType(function, self._quic), epochs


_tables: dict[type, dict[int, tuple[Any, object]]] = {}


def slim_new(quic: QuicConnection) -> None:
    """Have a new connection share what does not change."""
    handlers = getattr(quic, HANDLERS, None)
    if handlers is None:
        return  # another release of aioquic, which is about to be refused
    table = _tables.get(type(quic))
    if table is None:
        table = _tables[type(quic)] = {frame: (bound.__func__, epochs) for frame, (bound, epochs) in handlers.items()}
    setattr(quic, HANDLERS, _Handlers(quic, table))


def slim(quic: QuicConnection) -> None:
    """Have a connection whose handshake is complete give back what only that needed. May be called again and again.

    Buffers are 16 kB for each epoch, to write messages of TLS to: what was written lies in the streams of the epochs
    until it is acknowledged.
    """
    quic._crypto_buffers = dict.fromkeys(quic._crypto_buffers, _NO_BUFFER)
    over = [epoch for epoch, space in quic._spaces.items() if space.discarded]
    for epoch in over:
        quic._spaces[epoch] = _NO_SPACE
        quic._crypto_streams[epoch] = _NO_STREAM
    if len(quic._loss.spaces) + len(over) > len(quic._spaces):
        quic._loss.spaces = [space for space in quic._loss.spaces if not space.discarded]
    every: tuple[dict[Any, CryptoPair], ...] = (quic._cryptos, quic._cryptos_initial)
    for pairs in every:
        for name, pair in pairs.items():
            if not pair.recv.is_valid() and not pair.send.is_valid():
                pairs[name] = _NO_KEYS
    if not quic._is_client:
        quic.tls = _SPOKEN  # type: ignore[assignment]
