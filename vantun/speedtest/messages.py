"""What the two ends of a speed test say to each other. Pure; docs/protocol.md describes it.

A flow to ``HOST:PORT`` ends in the server itself. It begins with one Request of a fixed size; what follows depends on
its mode. Datagrams go to the same name, and carry the token that the server gives on the flow of their measurement.
"""

from __future__ import annotations

import struct
from dataclasses import astuple, dataclass
from enum import IntEnum
from typing import NamedTuple, TypeVar

HOST = "speedtest.vantun.invalid"
"""Never a name of the DNS (RFC 2606, section 2): it means something in a tunnel only."""
PORT = 1
TARGET = f"{HOST}:{PORT}"

LONGEST = 70.0
"""Seconds of one measurement."""
SLACK = 5.0
"""Seconds that the server allows on top: what was sent has to arrive."""
MOST_STREAMS = 16
SIZES = range(64, 9001)
"""Bytes of a datagram, the header included."""
HIGHEST_RATE = 200_000_000
"""bit/s of datagrams; beyond it a Python process would measure itself."""
MOST_PER_SECOND = 25_000
"""Datagrams."""
MESSAGE = 8
"""Bytes of an exchange that is timed."""
TOKEN = 16
"""Bytes."""
REPORT_EVERY = 0.2
"""Seconds between two accounts of the same measurement."""

_MAGIC = b"VTS1"
_REQUEST = struct.Struct("!4sBxHIQ")
_DATAGRAM = struct.Struct(f"!{TOKEN}sIQ")
_PROGRESS = struct.Struct("!QQ")
_RECEIPT = struct.Struct("!8Q")
REQUEST_SIZE, HEADER, PROGRESS_SIZE, RECEIPT_SIZE = _REQUEST.size, _DATAGRAM.size, _PROGRESS.size, _RECEIPT.size
HELLO = 0xFFFFFFFF
"""Number of the datagram that shows the server where to send to."""


class Mode(IntEnum):
    """What a flow is for; directions are the client's."""

    DOWNLOAD = 1
    """The server sends for the duration."""
    UPLOAD = 2
    """The server swallows, and says every REPORT_EVERY how much (Progress)."""
    ECHO = 3
    """The server returns what it gets."""
    DATAGRAMS_DOWN = 4
    """The server gives a token, sends to where a HELLO comes from, and says how many it has sent (Progress)."""
    DATAGRAMS_UP = 5
    """The server gives a token, and says every REPORT_EVERY what has arrived (Receipt)."""


@dataclass(frozen=True)
class Request:
    """Asks for one measurement.

    Attributes
    ----------
    seconds
        How long; to a millisecond.
    size, rate
        Of datagrams: bytes, bit/s; 0 for streams.
    """

    mode: Mode
    seconds: float
    size: int = 0
    rate: int = 0

    def encode(self) -> bytes:
        """Return REQUEST_SIZE bytes."""
        return _REQUEST.pack(_MAGIC, self.mode, self.size, round(self.seconds * 1000), self.rate)

    @classmethod
    def decode(cls, data: bytes) -> Request:
        """Return what was asked. Raises ValueError for anything beyond the bounds above."""
        if len(data) != REQUEST_SIZE:
            raise ValueError(f"a request has {REQUEST_SIZE} bytes, this one {len(data)}")
        magic, mode, size, milliseconds, rate = _REQUEST.unpack(data)
        if magic != _MAGIC:
            raise ValueError("another version of the speed test, or none")
        asked = cls(Mode(mode), milliseconds / 1000, size, rate)
        if not 0 < asked.seconds <= LONGEST:
            raise ValueError(f"{asked.seconds:g} s; more than 0, at most {LONGEST:g} are possible")
        if asked.is_datagrams:
            asked.check_datagrams()
        return asked

    @property
    def is_datagrams(self) -> bool:
        """Whether it is about datagrams."""
        return self.mode in (Mode.DATAGRAMS_DOWN, Mode.DATAGRAMS_UP)

    @property
    def count(self) -> int:
        """Datagrams of the whole measurement."""
        return max(1, int(self.rate * self.seconds / (8 * self.size)))

    def check_datagrams(self) -> None:
        """Raise ValueError for a size or a rate beyond the bounds."""
        if self.size not in SIZES:
            raise ValueError(f"datagrams of {self.size} bytes; {SIZES[0]} to {SIZES[-1]} are possible")
        if not 0 < self.rate <= HIGHEST_RATE:
            raise ValueError(f"{self.rate} bit/s; more than 0, at most {HIGHEST_RATE} are possible")
        if self.rate > MOST_PER_SECOND * 8 * self.size:
            raise ValueError(
                f"{self.rate // (8 * self.size)} datagrams per second; at most {MOST_PER_SECOND} are possible, "
                "make them larger or the rate lower"
            )


class Datagram(NamedTuple):
    """The header of a datagram; zeros follow up to its size.

    Attributes
    ----------
    number
        From 0; or HELLO.
    sent
        Microseconds of the sender's clock, of which differences alone mean something.
    """

    token: bytes
    number: int
    sent: int

    def encode(self) -> bytes:
        """Return HEADER bytes."""
        return _DATAGRAM.pack(*self)

    @classmethod
    def decode(cls, data: bytes) -> Datagram:
        """Read the header that ``data`` begins with. Raises ValueError when it is cut short."""
        if len(data) < HEADER:
            raise ValueError(f"a datagram has at least {HEADER} bytes, this one {len(data)}")
        return cls(*_DATAGRAM.unpack_from(data))


@dataclass(frozen=True)
class Progress:
    """How much there was until now.

    Attributes
    ----------
    count
        Bytes received (UPLOAD), or datagrams sent (DATAGRAMS_DOWN).
    microseconds
        From the first to the last of them.
    """

    count: int = 0
    microseconds: int = 0

    def encode(self) -> bytes:
        """Return PROGRESS_SIZE bytes."""
        return _PROGRESS.pack(self.count, self.microseconds)

    @classmethod
    def decode(cls, data: bytes) -> Progress:
        """Read PROGRESS_SIZE bytes."""
        return cls(*_PROGRESS.unpack(data))


@dataclass(frozen=True)
class Receipt:
    """What has arrived of datagrams; see :class:`vantun.speedtest.account.Arrivals`. Times in microseconds."""

    received: int = 0
    """Different ones."""
    octets: int = 0
    """Bytes of them."""
    duplicated: int = 0
    reordered: int = 0
    late: int = 0
    jitter: int = 0
    first: int = 0
    """When the first one arrived, by the receiver's clock."""
    last: int = 0

    def encode(self) -> bytes:
        """Return RECEIPT_SIZE bytes."""
        return _RECEIPT.pack(*astuple(self))

    @classmethod
    def decode(cls, data: bytes) -> Receipt:
        """Read RECEIPT_SIZE bytes."""
        return cls(*_RECEIPT.unpack(data))


R = TypeVar("R", Progress, Receipt)


class Records:
    """Cuts what arrives on a flow into records of one size; no more than a part of one is kept."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._rest = b""

    def last(self, data: bytes) -> bytes | None:
        """Take bytes; return the newest record that is complete by them, None when none is."""
        data = self._rest + data
        whole = len(data) // self._size * self._size
        self._rest = data[whole:]
        return data[whole - self._size : whole] if whole else None
