"""Round-trip times by ICMP echo, which the far kernel answers: ``python -m benchmarks.line_rtt TARGET``, as JSON.

A request leaves on a fixed beat, whether the last one was answered or not. Beside it stands what of the time no tunnel
has caused: the same to the bare link (subject ``direct``).
"""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import struct
import time
from collections.abc import Sequence

_ECHO, _ANSWER = 8, 0
_HEAD = struct.Struct("!BBHHH")
_STAMP = struct.Struct("!Q")
_PATIENCE = 0.5
"""Seconds that answers may take behind the last request."""


def checksum(data: bytes) -> int:
    """Return the internet checksum (RFC 1071) of bytes of even length."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def request(identity: int, number: int, stamp: int) -> bytes:
    """Return an echo request that carries the time when it left, ns."""
    body = _STAMP.pack(stamp) + bytes(48)
    head = _HEAD.pack(_ECHO, 0, 0, identity, number)
    return _HEAD.pack(_ECHO, 0, checksum(head + body), identity, number) + body


def answer(packet: bytes, identity: int) -> tuple[int, int] | None:
    """Return number and time of an echo answer to ``identity`` in an IPv4 packet, None if it is something else."""
    start = (packet[0] & 15) * 4
    if len(packet) < start + _HEAD.size + _STAMP.size:
        return None
    kind, _, _, whose, number = _HEAD.unpack_from(packet, start)
    if kind != _ANSWER or whose != identity:
        return None
    return number, _STAMP.unpack_from(packet, start + _HEAD.size)[0]


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` of an ordered list lies; 0 for an empty one."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


def probe(target: str, seconds: float, beat: float) -> dict[str, float]:
    """Ask for ``seconds``; return quantiles in microseconds, and the share that was never answered."""
    identity = os.getpid() & 0xFFFF
    times: list[float] = []
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.setblocking(False)  # noqa: FBT003 - the socket's own name for it
        end = time.perf_counter() + seconds
        due = time.perf_counter()
        while (now := time.perf_counter()) < end + (_PATIENCE if len(times) < sent else 0.0):
            if now >= due and now < end:
                sock.sendto(request(identity, sent & 0xFFFF, time.perf_counter_ns()), (target, 0))
                sent += 1
                due += beat
            wait = (due if due < end else end + _PATIENCE) - time.perf_counter()
            if wait > 0 and select.select([sock], [], [], wait)[0]:
                came = time.perf_counter_ns()
                found = answer(sock.recv(2048), identity)
                if found is not None:
                    times.append((came - found[1]) / 1e3)
    times.sort()
    return {
        "p50_us": round(quantile(times, 0.5), 1),
        "p99_us": round(quantile(times, 0.99), 1),
        "sent": sent,
        "lost": round(1.0 - len(times) / sent, 4) if sent else 0.0,
    }


def main() -> None:
    """Ask, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--beat", type=float, default=0.005, help="seconds from one request to the next")
    options = parser.parse_args()
    print(json.dumps(probe(options.target, options.seconds, options.beat)))


if __name__ == "__main__":
    main()
