"""The lab in real time: a process between a client and a server that treats their UDP packets as the pure link does.

::

    client --> port of path p on 127.0.0.1 --> Link(p, 0) --> server
    client <-- port of path p on 127.0.0.1 <-- Link(p, 1) <-- server

Needs no privilege; with CAP_SYS_NICE it runs at SCHED_FIFO 10 and lags less. It takes no TUN and no namespaces, so both
ends must be given its ports in place of the server's address. :class:`Relay` is the handle that other processes
hold; the child speaks JSON lines on its standard input, and ends when that does.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Any

from vantun.errors import VantunError

if TYPE_CHECKING:
    from vantun.lab.link import LinkProfile
    from vantun.lab.relay_loop import RelayLoop

PATIENCE = 90.0
"""Seconds to wait for an answer; the first start on a machine compiles the kernels."""


class Relay:
    """A running relay; a context manager. Made by :meth:`start`; not for several threads at once.

    Attributes
    ----------
    ports
        UDP port on 127.0.0.1 of each path.
    priority
        How it is scheduled, and why not better.
    pid
        Process id of the child.
    """

    def __init__(self, child: subprocess.Popen[bytes], link: socket.socket) -> None:
        self.ports: list[int] = []
        self.priority = ""
        self.pid = child.pid
        self._child = child
        self._link = link
        self._lines = link.makefile("rb")
        self._profiles: list[tuple[LinkProfile, LinkProfile]] = []

    @classmethod
    def start(
        cls,
        paths: Sequence[LinkProfile | tuple[LinkProfile, LinkProfile]],
        server: tuple[str, int],
        seed: int = 1,
    ) -> Relay:
        """Start a relay to ``server`` (an IPv4 literal and a port) and return it when its ports are open.

        Parameters
        ----------
        paths
            One profile for both directions of a path, or one each: to the server, and back.
        server
            Need not listen yet.
        seed
            The same seed gives the same fate to packet ``n`` of a direction, also in :mod:`vantun.lab.network`.

        Raises
        ------
        VantunError
            When the child does not start.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            environment = {"OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", **os.environ}
            command = [sys.executable, "-m", "vantun.lab.relay"]
            child = subprocess.Popen(command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, env=environment)
        ours.settimeout(PATIENCE)
        relay = cls(child, ours)
        try:
            relay._profiles = [path if isinstance(path, tuple) else (path, path) for path in paths]
            shapes = [[asdict(way) for way in ways] for ways in relay._profiles]
            answer = relay._ask(op="start", paths=shapes, server=list(server), seed=seed)
        except BaseException:
            relay.close()
            raise
        relay.ports = answer["ports"]
        relay.priority = answer["priority"]
        return relay

    def set_profile(self, path: int, forward: LinkProfile, back: LinkProfile | None = None) -> None:
        """Change a path from the next packet on, in both directions; packets on the way are not touched."""
        self._profiles[path] = forward, back or forward
        self._apply(path, self._profiles[path])

    def cut(self, path: int) -> None:
        """Lose everything on a path, both ways, until :meth:`restore`."""
        forward, back = self._profiles[path]
        self._apply(path, (forward.cut, back.cut))

    def restore(self, path: int) -> None:
        """Give a path its profiles back."""
        self._apply(path, self._profiles[path])

    def counters(self) -> dict[str, Any]:
        """Return ``paths[path][direction]`` counters in packets and bytes, ``lag_mean_s``, ``lag_max_s`` and ``valid``.

        ``valid`` is false when the mean lag passes 1 ms: the emulator was too slow, and figures of the run are void.
        """
        return {**self._ask(op="counters")["counters"], "priority": self.priority}

    def close(self) -> None:
        """End the child; may be called twice."""
        self._lines.close()
        self._link.close()
        self._child.wait()

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _apply(self, path: int, ways: tuple[LinkProfile, LinkProfile]) -> None:
        self._ask(op="profile", path=path, ways=[asdict(way) for way in ways])

    def _ask(self, **request: object) -> dict[str, Any]:
        try:
            self._link.sendall(json.dumps(request).encode() + b"\n")
            line = self._lines.readline()
        except OSError as error:
            raise VantunError(f"the link emulator (process {self.pid}) does not answer: {error}; start again") from None
        if not line:
            raise VantunError(f"the link emulator (process {self.pid}) has ended; what it printed says why")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise VantunError(f"the link emulator refused {request['op']}: {answer['error']}")
        return answer


class _Control:
    """The child's end: one request per line from standard input, one answer each."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._input = bytearray()

    def requests(self) -> Iterator[dict[str, Any]]:
        """Yield what waits, after blocking for the first bytes. Raises EOFError when the parent has gone."""
        data = self._link.recv(1 << 16)
        if not data:
            raise EOFError
        self._input += data
        while (end := self._input.find(b"\n")) >= 0:
            line = bytes(self._input[:end])
            del self._input[: end + 1]
            yield json.loads(line)

    def answer(self, **fields: object) -> None:
        """Send one answer."""
        self._link.sendall(json.dumps(fields).encode() + b"\n")


@contextmanager
def _started(control: _Control, descriptor: int) -> Iterator[RelayLoop]:
    """Wait for the request to start, and answer it."""
    from vantun.lab.link import LinkProfile
    from vantun.lab.relay_loop import RelayLoop, claim_priority, warm_up

    request = next(control.requests())
    ways = [(LinkProfile(**forward), LinkProfile(**back)) for forward, back in request["paths"]]
    host, port = request["server"]
    warm_up()
    loop = RelayLoop(ways, (host, port), request["seed"], descriptor)
    try:
        control.answer(ports=loop.ports, priority=claim_priority())
        yield loop
    finally:
        loop.close()


def _serve(loop: RelayLoop, control: _Control) -> None:
    from vantun.lab.link import LinkProfile

    while True:
        if not loop.step():
            continue
        for request in control.requests():
            if request["op"] == "counters":
                control.answer(counters=loop.counters())
                continue
            try:
                for way, shape in enumerate(request["ways"]):
                    loop.set_profile(2 * int(request["path"]) + way, LinkProfile(**shape))
            except (ValueError, IndexError) as error:
                control.answer(error=str(error))
            else:
                control.answer()


def main() -> int:
    """Run the child until its parent closes the socket that is its standard input."""
    import gc

    from vantun.kernel_cache import use_kernel_cache

    use_kernel_cache()
    with socket.socket(fileno=os.dup(0)) as link:
        control = _Control(link)
        try:
            with _started(control, link.fileno()) as loop:
                gc.freeze()  # a full collection would walk numba's objects for 30 ms
                gc.disable()
                _serve(loop, control)
        except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
            return 0
        except ValueError as error:
            control.answer(error=str(error))
    return 1


if __name__ == "__main__":
    sys.exit(main())
