"""Direct connections, spliced and copied: ``python -m benchmarks.relay``, CPU time of the relaying process and rates.

Both ways of :mod:`vantun.control.relay` take turns, the same bytes in writes of three sizes, and questions and answers
of 64 bytes; source and sink are processes of their own. All runs go to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import statistics
import time
from collections.abc import Callable

from benchmarks.report import save
from vantun.control.relay import Move, relay
from vantun.control.splice import splice

_SIZES = ((1 << 20, 1 << 30), (16_384, 1 << 30), (1400, 64 << 20))
"""(bytes of a write, bytes in all)"""
_QUESTIONS = 5000


async def copy(_source: socket.socket, _sink: socket.socket) -> bool:
    """Leave it to recv and send."""
    return False


def _pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other = listener.accept()[0]
    for sock in (one, other):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one, other


def _child(work: Callable[[], None], *others: socket.socket) -> int:
    pid = os.fork()
    if pid == 0:
        for sock in others:
            sock.close()
        work()
        os._exit(0)
    return pid


def _run(move: Move, program: Callable[[socket.socket], None], target: Callable[[socket.socket], None]) -> list[float]:
    """Return the seconds and the CPU seconds of a relay."""
    (one, near), (far, other) = _pair(), _pair()
    children = [
        _child(lambda: program(one), near, far, other),
        _child(lambda: target(other), one, near, far),
    ]
    one.close()
    other.close()
    for sock in (near, far):
        sock.settimeout(0)
    began, cpu = time.monotonic(), time.process_time()
    asyncio.run(relay(near, far, b"", move))
    took = [time.monotonic() - began, time.process_time() - cpu]
    for child in children:
        os.waitpid(child, 0)
    return took


def bulk(move: Move, piece: int, size: int) -> list[float]:
    """Return Gbit/s, and CPU seconds for a gigabit."""

    def program(sock: socket.socket) -> None:
        data = bytes(piece)
        for _ in range(size // piece):
            sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        sock.recv(1)

    def target(sock: socket.socket) -> None:
        buffer = bytearray(1 << 20)
        while sock.recv_into(buffer):
            pass

    took, cpu = _run(move, program, target)
    return [size * 8e-9 / took, cpu / (size * 8e-9)]


def questions(move: Move) -> list[float]:
    """Return microseconds for a question and its answer, and CPU microseconds of the relay."""

    def program(sock: socket.socket) -> None:
        for _ in range(_QUESTIONS):
            sock.sendall(bytes(64))
            sock.recv(64, socket.MSG_WAITALL)
        sock.shutdown(socket.SHUT_WR)
        sock.recv(1)

    def target(sock: socket.socket) -> None:
        while data := sock.recv(64, socket.MSG_WAITALL):
            sock.sendall(data)

    return [seconds * 1e6 / _QUESTIONS for seconds in _run(move, program, target)]


def main() -> None:
    """Measure, print a table, and save every run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    tests: list[tuple[str, Callable[[Move], list[float]]]] = [
        (f"writes of {piece} B: Gbit/s, CPU s/Gbit", lambda move, p=piece, s=size: bulk(move, p, s))  # type: ignore[misc]
        for piece, size in _SIZES
    ]
    tests.append(("64 B and back: us, CPU us", questions))
    results: dict[str, object] = {"provenance": "cpu", "rounds": rounds}
    for name, test in tests:
        found: dict[str, list[list[float]]] = {"copied": [], "spliced": []}
        for _ in range(rounds):
            found["copied"].append(test(copy))
            found["spliced"].append(test(splice))
        medians = {
            way: [statistics.median(column) for column in zip(*rows, strict=True)] for way, rows in found.items()
        }
        ratio = medians["copied"][1] / medians["spliced"][1]
        shown = ", ".join(f"{way} {a:.3g} / {b:.3g}" for way, (a, b) in medians.items())
        print(f"{name}: {shown}, CPU ratio {ratio:.2f}", flush=True)
        results[name] = {"medians": medians, "cpu_ratio": ratio, "runs": found}
    print(f"{save('relay', results).name} written")


if __name__ == "__main__":
    main()
