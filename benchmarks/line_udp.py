"""UDP packets of chosen sizes, made and counted in batches: ``python -m benchmarks.line_udp search|count``.

64 packets a system call, no segmentation offload: every packet is one for the kernel, as if each came from another
program. Sizes are those of IP packets. The counter writes what has arrived into a file that the sender reads, since
both are on one machine.
"""

from __future__ import annotations

import argparse
import json
import mmap
import socket
import struct
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drivers.linux.libc import IOV, IOVLEN, NAME, NAMELEN, libc

PORT = 5400
HEADERS = 28
"""Bytes of IPv4 and UDP headers."""
MIXES: dict[str, tuple[tuple[int, int], ...]] = {
    "64": ((64, 1),),
    "imix": ((64, 7), (576, 4), (1400, 1)),
    "1400": ((1400, 1),),
}
"""Sizes of IP packets, bytes, and how many of each. ``imix``: the simple one, its largest as large as tunnels take."""
BATCH = 64
_ROOM = 2048
_COUNTS = struct.Struct("=qq")
_BUFFER = 1 << 24
_SO_RCVBUFFORCE = 33
_SETTLE = 0.2
_PRESSURE = 1.2
"""What is offered the second time: a sender without a pause takes processor time from the tunnel beside it."""


def pattern(mix: str, count: int = BATCH) -> list[int]:
    """Return payload sizes of ``count`` packets, mixed as evenly as they can be."""
    parts = MIXES[mix]
    whole = sum(times for _, times in parts)
    owed = [0.0] * len(parts)
    sizes = []
    for _ in range(count):
        owed = [debt + times / whole for debt, (_, times) in zip(owed, parts, strict=True)]
        place = max(range(len(parts)), key=lambda it: owed[it])
        owed[place] -= 1.0
        sizes.append(parts[place][0] - HEADERS)
    return sizes


class Messages:
    """Headers and buffers of a batch of messages; their addresses stay what they are."""

    def __init__(self, sizes: list[int], address: bytes = b"") -> None:
        count = len(sizes)
        self.buffers: NDArray[np.uint8] = np.zeros((count, _ROOM), np.uint8)
        self.address = np.frombuffer(address, np.uint8).copy()
        self.iovecs: NDArray[np.int64] = np.zeros((count, 2), np.int64)
        self.iovecs[:, 0] = int(self.buffers.ctypes.data) + _ROOM * np.arange(count)
        self.iovecs[:, 1] = sizes
        self.headers: NDArray[np.int64] = np.zeros((count, 8), np.int64)
        self.headers[:, IOV] = int(self.iovecs.ctypes.data) + 16 * np.arange(count)
        self.headers[:, IOVLEN] = 1
        if address:
            self.headers[:, NAME] = int(self.address.ctypes.data)
            self.headers[:, NAMELEN] = len(address)
        self.where = int(self.headers.ctypes.data)
        self.count = count


class Sender:
    """Sends packets of one mix to a target."""

    def __init__(self, target: str, mix: str) -> None:
        address = struct.pack("=H", socket.AF_INET) + struct.pack("!H", PORT) + socket.inet_aton(target) + bytes(8)
        self._messages = Messages(pattern(mix), address)
        self._calls = libc()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def send(self, seconds: float, rate: float) -> int:
        """Send for ``seconds`` at ``rate`` packets a second, 0 = as fast as it goes; return how many were taken."""
        number, where, size = self._socket.fileno(), self._messages.where, self._messages.count
        began = now = time.perf_counter()
        offered = sent = 0
        while now - began < seconds:
            if rate and offered >= (now - began) * rate:
                time.sleep(max((offered + size) / rate - (now - began), 0.0))
            sent += max(self._calls.sendmmsg(number, where, size, 0), 0)  # ENOBUFS: the device's queue is full
            offered += size
            now = time.perf_counter()
        return sent


def search(target: str, mix: str, seconds: float, file: Path) -> float:
    """Return the most packets per second that arrive: offered without limit, then somewhat more than what came."""
    sender = Sender(target, mix)
    try:
        best = _arrived(sender, seconds, 0.0, file)
        return max(best, _arrived(sender, seconds, _PRESSURE * best, file)) if best else 0.0
    finally:
        sender.close()


def _arrived(sender: Sender, seconds: float, rate: float, file: Path) -> float:
    sender.send(_SETTLE, rate)  # queues fill, if they do
    first, began = read_counts(file)[0], time.perf_counter()
    sender.send(seconds, rate)
    return (read_counts(file)[0] - first) / (time.perf_counter() - began)


def count(file: Path) -> None:
    """Count what arrives, for ever, into ``file``: packets and bytes."""
    messages = Messages([_ROOM] * BATCH)
    calls = libc()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        file.open("r+b") as opened,
        mmap.mmap(opened.fileno(), mmap.PAGESIZE) as shared,
    ):
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        sock.bind(("", PORT))
        number, packets, size = sock.fileno(), 0, 0
        waits_for_one = 0x10000  # MSG_WAITFORONE
        while True:
            got = calls.recvmmsg(number, messages.where, messages.count, waits_for_one)
            if got > 0:
                packets += got
                size += int((messages.headers[:got, 7] & 0xFFFFFFFF).sum())
                _COUNTS.pack_into(shared, 0, packets, size)


def counter_file(folder: Path) -> Path:
    """Make the file that :func:`count` writes into."""
    path = folder / "udp-counts"
    path.write_bytes(bytes(mmap.PAGESIZE))
    return path


def read_counts(path: Path) -> tuple[int, int]:
    """Return packets and bytes of payload that have arrived."""
    packets, size = _COUNTS.unpack(path.read_bytes()[: _COUNTS.size])
    return packets, size


def main() -> None:
    """Search for the highest rate of every mix and print JSON; or count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", choices=("search", "count"))
    parser.add_argument("--target", default="127.0.0.1")
    parser.add_argument("--seconds", type=float, default=0.8, help="of each of two steps")
    parser.add_argument("--file", type=Path, required=True, help="the counts")
    options = parser.parse_args()
    if options.job == "count":
        count(options.file)
    print(json.dumps({mix: round(search(options.target, mix, options.seconds, options.file)) for mix in MIXES}))


if __name__ == "__main__":
    main()
