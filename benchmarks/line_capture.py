"""Headers of data packets on a link, both ways, of which none may come twice: a sample that finds what there is.

A packet socket sees what leaves, and what arrives before anything drops it. A classic BPF filter lets one packet in
SAMPLE through, chosen by a byte of its ciphertext: a packet that were sent twice under one number and key would be the
same to the bit, so both would be chosen. Compared are header and sample of the header protection: 13 + 16 bytes.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import threading
from types import TracebackType

from benchmarks.line_town import Town, inside

SAMPLE = 128
"""A power of two. Ten minutes at full rate are two million headers, as numbers some 150 MB."""
HEADER = 13 + 16
_ETH_P_ALL = 0x0003
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
_BUFFER = 1 << 26
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_ETHERNET, _IP, _UDP = 14, 20, 8
_PAYLOAD = _ETHERNET + _IP + _UDP


def sample_filter(port: int) -> list[tuple[int, int, int, int]]:
    """Return a program for IPv4 packets without options, UDP from or to ``port``, short header, chosen by one byte."""
    drop = 13
    rows = [
        (0x28, 12, None, 0x0800),  # ethertype
        (0x30, _ETHERNET, None, 0x45),
        (0x30, _ETHERNET + 9, None, socket.IPPROTO_UDP),
    ]
    words: list[tuple[int, int, int, int]] = []
    for load, offset, _, wanted in rows:
        words.append((load, 0, 0, offset))
        words.append((0x15, 0, drop - len(words) - 1, wanted))
    words.append((0x28, 0, 0, _ETHERNET + _IP))
    words.append((0x15, 2, 0, port))
    words.append((0x28, 0, 0, _ETHERNET + _IP + 2))
    words.append((0x15, 0, drop - len(words) - 1, port))
    words.append((0x30, 0, 0, _PAYLOAD + 20))  # a byte of the ciphertext
    words.append((0x45, drop - len(words) - 1, 0, SAMPLE - 1))
    words.append((0x06, 0, 0, _PAYLOAD + HEADER))
    assert len(words) == drop
    words.append((0x06, 0, 0, 0))
    return words


def header_of(frame: bytes) -> bytes | None:
    """Return what identifies a data packet in a frame, None if it has a long header or is too short."""
    payload = frame[_PAYLOAD : _PAYLOAD + HEADER]
    if len(payload) < HEADER or payload[0] & 0xC0 != 0x40:
        return None
    return payload


class Capture:
    """Reads headers in a thread; a context manager.

    Attributes
    ----------
    seen
        Packets of the sample.
    repeated
        Those of them that were seen before.
    """

    def __init__(self, town: Town, side: str, port: int, link: int = 0) -> None:
        self.seen = 0
        self.repeated = 0
        self._known: set[int] = set()
        with inside(town, side):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
            self._socket.bind((town.device(side, link), _ETH_P_ALL))
        words = b"".join(struct.pack("=HBBI", *word) for word in sample_filter(port))
        self._program = ctypes.create_string_buffer(words, len(words))
        count = len(words) // 8
        pointer = struct.pack("=HxxxxxxQ", count, ctypes.addressof(self._program))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pointer)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        self._socket.settimeout(0.2)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Capture:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        self._thread.join()
        self._socket.close()

    def missed(self) -> int:
        """Return the packets of the sample that found no room in the socket since the last call."""
        found = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        return int(struct.unpack("=II", found)[1])

    def take(self, frame: bytes) -> None:
        """Look at a frame."""
        header = header_of(frame)
        if header is None:
            return
        self.seen += 1
        number = hash(header)
        self.repeated += number in self._known
        self._known.add(number)

    def _run(self) -> None:
        while not self._ends.is_set():
            try:
                frame = self._socket.recv(256)
            except TimeoutError:
                continue
            self.take(frame)
