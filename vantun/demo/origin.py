"""The web server at the far end: random bytes to fetch, uploads to hash, and an echo; a process of its own.

::

    GET /bulk       the random bytes of the seed
    PUT /upload     answers the SHA-256 of the body, in hex
    POST /echo      answers the body

``python -m vantun.demo.origin`` reads ``{"size": bytes, "seed": n}`` from its standard input, writes one line
``{"port": n}``, and serves until its standard input ends.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from vantun.errors import VantunError

CHUNK = 1 << 18
"""Bytes read or written at once."""


def random_bytes(size: int, seed: int) -> bytes:
    """Return ``size`` random bytes, the same for the same seed."""
    import numpy as np

    return np.random.default_rng(seed).bytes(size)


class Origin(ThreadingHTTPServer):
    """The server; ``bulk`` is what GET /bulk answers."""

    daemon_threads = True

    def __init__(self, bulk: bytes) -> None:
        self.bulk = bulk
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1."""
        return int(self.server_address[1])

    def handle_error(self, _request: object, _address: object) -> None:
        """Stay silent: a client that goes away in the middle is the client's to report."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = CHUNK  # head and body of a small answer leave in one segment
    server: Origin

    def do_GET(self) -> None:
        """Answer the random bytes."""
        if self.path != "/bulk":
            self.send_error(404)
            return
        self._head(len(self.server.bulk))
        view = memoryview(self.server.bulk)
        for start in range(0, len(view), CHUNK):
            self.wfile.write(view[start : start + CHUNK])

    def do_PUT(self) -> None:
        """Answer the digest of the body."""
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(CHUNK))
        rest = int(self.headers["Content-Length"])
        while rest > 0 and (count := self.rfile.readinto(buffer[: min(rest, CHUNK)])):
            digest.update(buffer[:count])
            rest -= count
        self._answer(digest.hexdigest().encode())

    def do_POST(self) -> None:
        """Answer the body."""
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _head(self, length: int) -> None:
        self.send_response_only(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _answer(self, body: bytes) -> None:
        self._head(len(body))
        self.wfile.write(body)


class OriginProcess:
    """An origin in a process of its own; a context manager. ``digest`` is the SHA-256 of its bulk in hex."""

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        command = [sys.executable, "-m", "vantun.demo.origin"]
        # In a session of its own: Ctrl-C is for the demo, which then ends everything in order.
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, text=True
        )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps({"size": size, "seed": seed}) + "\n")
        self._child.stdin.flush()
        self.digest = hashlib.sha256(random_bytes(size, seed)).hexdigest()
        answer = self._child.stdout.readline()
        if not answer:
            self.close()
            raise VantunError("the demo's web server did not start; what it printed says why")
        self.port = int(json.loads(answer)["port"])

    def close(self) -> None:
        """End the process."""
        if self._child.stdin is not None:
            self._child.stdin.close()
        if self._child.stdout is not None:
            self._child.stdout.close()
        self._child.wait()

    def __enter__(self) -> OriginProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def main() -> int:
    """Serve until standard input ends."""
    request = json.loads(sys.stdin.readline())
    origin = Origin(random_bytes(request["size"], request["seed"]))
    threading.Thread(target=origin.serve_forever, daemon=True).start()
    sys.stdout.write(json.dumps({"port": origin.port}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
