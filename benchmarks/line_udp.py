"""UDP packets of chosen sizes, made and counted in batches: ``python -m benchmarks.line_udp send|count``.

64 packets a system call, no segmentation offload: every packet is one for the kernel, as if each came from another
program. Sizes are those of IP packets. The counter writes what has arrived into a file that the runner reads.
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


def send(target: str, mix: str, seconds: float, rate: float) -> dict[str, float]:
    """Send for ``seconds`` at ``rate`` packets a second, 0 = as fast as it goes; return what was taken."""
    address = struct.pack("=H", socket.AF_INET) + struct.pack("!H", PORT) + socket.inet_aton(target) + bytes(8)
    messages = Messages(pattern(mix), address)
    calls = libc()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        number = sock.fileno()
        began = now = time.perf_counter()
        sent = refused = 0
        while now - began < seconds:
            if rate and sent + refused >= (now - began) * rate:
                time.sleep(max((sent + refused + BATCH) / rate - (now - began), 0.0))
            taken = calls.sendmmsg(number, messages.where, messages.count, 0)
            sent += max(taken, 0)
            refused += messages.count - max(taken, 0)  # ENOBUFS: the device's queue is full
            now = time.perf_counter()
    return {"sent": sent, "refused": refused, "seconds": round(now - began, 3)}


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
    """Send or count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", choices=("send", "count"))
    parser.add_argument("--target", default="127.0.0.1")
    parser.add_argument("--mix", choices=MIXES, default="64")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rate", type=float, default=0.0, help="packets per second; 0 = as many as go")
    parser.add_argument("--file", type=Path)
    options = parser.parse_args()
    if options.job == "count":
        count(options.file)
    print(json.dumps(send(options.target, options.mix, options.seconds, options.rate)))


if __name__ == "__main__":
    main()
