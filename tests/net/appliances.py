"""Real VANTUN processes on loopback, and what programs do through them."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from vantun.cli import status
from vantun.errors import VantunError

START_SECONDS = 600.0
"""Until an appliance serves; a first start on a machine compiles the kernels."""
SECONDS = 30.0
"""Until anything else has happened."""


def wait_for(condition: Callable[[], object], what: str, seconds: float = SECONDS) -> None:
    """Poll until ``condition`` holds; AssertionError after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)


def free_port(kind: socket.SocketKind) -> int:
    """Return a port on 127.0.0.1 that nobody has now."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Process:
    """A `vantun server` or `vantun client`; its log is a file beside its configuration."""

    def __init__(self, folder: Path, role: str, config: dict[str, Any]) -> None:
        self.role = role
        self.prefix: tuple[str, ...] = ()
        """What runs the program, e.g. `ip netns exec NAME`."""
        self.socket = folder / f"{role}.sock"
        self.log_file = folder / f"{role}.log"
        self.config_file = folder / f"{role}.yaml"
        self.config_file.write_text(yaml.safe_dump({**config, "status": {"socket": str(self.socket)}}))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [*self.prefix, sys.executable, "-m", "vantun", self.role, "-c", str(self.config_file)]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    @property
    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    def status(self) -> dict[str, Any]:
        """Return its status; empty while it does not answer."""
        with suppress(VantunError):
            return status.ask(self.socket)
        return {}

    @property
    def worker(self) -> int:
        """Process id of its data worker; 0 while there is none."""
        worker = self.status().get("worker", {})
        return int(worker.get("pid", 0))

    def wait_ready(self) -> None:
        assert self._process is not None
        process = self._process

        def ready() -> bool:
            assert process.poll() is None, f"vantun {self.role} has ended with {process.returncode}:\n{self.log}"
            return bool(self.status().get("ready"))

        wait_for(ready, f"vantun {self.role} is ready", START_SECONDS)

    def wait_exit(self, seconds: float = SECONDS) -> int:
        assert self._process is not None
        return self._process.wait(seconds)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def terminate(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self.wait_exit()

    def kill(self) -> None:
        """Make sure that it is gone."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(SECONDS)


@dataclass
class Pair:
    """A server and its client."""

    folder: Path
    server: Process
    client: Process
    socks: int
    """TCP port of the SOCKS5 proxy."""
    udp: int
    """The server's UDP port."""

    def start(self) -> None:
        self.server.start()
        self.client.start()
        self.server.wait_ready()
        self.client.wait_ready()

    def kill(self) -> None:
        self.client.kill()
        self.server.kill()

    def logs(self) -> str:
        return "\n".join(f"--- {process.role}\n{process.log}" for process in (self.server, self.client))


def make_pair(folder: Path, fingerprint: str, udp: int, ports: tuple[int, ...] = ()) -> Pair:
    """Return a pair that is not started.

    ``udp`` is the server's port, ``ports`` are those of a relay before it, one per path.
    """
    socks = free_port(socket.SOCK_STREAM)
    server = Process(
        folder,
        "server",
        {
            "listen": f"127.0.0.1:{udp}",
            "tls": {"cert": "cert.pem", "key": "key.pem"},
            "auth": {"type": "userpass", "userpass": {"alice": "s3cret"}},
            "acl": {"inline": ["allow(127.0.0.0/8)", "allow(::1/128)"]},
            "limits": {"memory": "64 MB"},
        },
    )
    paths = [{"name": f"path{number}", "server": f"127.0.0.1:{port}"} for number, port in enumerate(ports or (udp,))]
    settings = {
        "server": f"127.0.0.1:{udp}",
        "auth": "alice:s3cret",
        "tls": {"pinSHA256": fingerprint},
        "socks5": {"listen": f"127.0.0.1:{socks}"},
        "paths": paths,
        "limits": {"memory": "64 MB"},
    }
    return Pair(folder, server, Process(folder, "client", settings), socks, udp)


class _Handler(BaseHTTPRequestHandler):
    """GET gives the bytes, PUT gives the SHA-256 of what it got."""

    protocol_version = "HTTP/1.1"
    blob = b""

    def do_GET(self) -> None:
        self._answer(self.blob)

    def do_PUT(self) -> None:
        digest = hashlib.sha256()
        left = int(self.headers["Content-Length"])
        while left and (part := self.rfile.read(min(left, 1 << 16))):
            digest.update(part)
            left -= len(part)
        self._answer(digest.hexdigest().encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(ConnectionError):
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def origin(blob: bytes) -> Iterator[int]:
    """Serve ``blob`` on 127.0.0.1; yield the port."""
    handler = type("Handler", (_Handler,), {"blob": blob})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def curl(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["curl", "-sS", "--fail", "--noproxy", "", "--max-time", "60", *arguments], capture_output=True, check=False
    )


async def through(socks: int | None, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a target through the proxy; without one, directly. Raises ConnectionError with the reply code."""
    if socks is None:
        return await asyncio.open_connection(host, port)
    reader, writer = await asyncio.open_connection("127.0.0.1", socks)
    name = host.encode()
    writer.write(b"\x05\x01\x00" + b"\x05\x01\x00\x03" + bytes([len(name)]) + name + port.to_bytes(2, "big"))
    answer = await reader.readexactly(2 + 10)
    if answer[3]:
        writer.close()
        raise ConnectionError(f"reply code {answer[3]}")
    return reader, writer


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with a RST."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
