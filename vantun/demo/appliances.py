"""A server and a client as processes, with a certificate that is made for them and pinned."""

from __future__ import annotations

import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from drivers.linux.wait import die_with_parent
from vantun.errors import ConnectError, NotRunningError, VantunError

START = 300.0
"""Seconds for both to be ready; the first start on a machine compiles the kernels."""
UNUSUAL = 10.0
"""Seconds after which a start is explained."""
STOP = 5.0
"""Seconds from SIGTERM to SIGKILL."""
TICK = 0.1


def free_ports() -> tuple[int, int]:
    """Return a UDP and a TCP port of 127.0.0.1 that nobody uses now."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
    ):
        for sock in (udp, tcp):
            sock.bind(("127.0.0.1", 0))
        return int(udp.getsockname()[1]), int(tcp.getsockname()[1])


def _end_with_the_demo() -> None:
    """Run in a child before it becomes an appliance: a demo that is killed outright must leave none behind."""
    die_with_parent(signal.SIGTERM)


class Workplace:
    """A temporary folder with a certificate and a password; a context manager. Gone when left."""

    def __init__(self) -> None:
        from vantun.cli.cert import fingerprint_of
        from vantun.control.certificates import create_self_signed

        self.folder = Path(tempfile.mkdtemp(prefix="vantun-demo-"))
        try:
            create_self_signed(self.folder / "cert.pem", self.folder / "key.pem", ("localhost",), 1)
            self.pin = fingerprint_of(self.folder / "cert.pem")
        except BaseException:
            self.close()
            raise
        self.password = secrets.token_hex(16)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Workplace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Appliances:
    """Server and client of one phase; a context manager.

    Attributes
    ----------
    server
        UDP address that the server listens on.
    proxy
        TCP address of the client's SOCKS5.
    """

    def __init__(self, place: Workplace, *, fec: bool) -> None:
        udp, tcp = free_ports()
        self.server = ("127.0.0.1", udp)
        self.proxy = ("127.0.0.1", tcp)
        self._place = place
        self._fec = "on" if fec else "off"
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start_server(self) -> None:
        """Start the server, without waiting for it."""
        self._spawn("server", self._server_file())

    def start_client(self, ports: Mapping[str, int]) -> Iterator[str]:
        """Start the client; yield what is waited for until ``ports`` (path name to relay port) are paths that are up.

        Raises
        ------
        VantunError
            When one of them ends, or they are not ready in time.
        """
        # One after the other: on a fresh machine the server compiles the kernels, which then are there for the client.
        yield from self._wait("server", 0)
        self._spawn("client", self._client_file(ports))
        yield from self._wait("client", len(ports))

    def _wait(self, role: str, paths: int) -> Iterator[str]:
        begin = time.monotonic()
        while not self._ready(role, paths):
            waited = time.monotonic() - begin
            if waited > START:
                raise ConnectError(f"the demo's {role} is not ready after {START:.0f} s; {self._said(role)}")
            slow = "; the first start on a machine compiles the kernels" if waited > UNUSUAL else ""
            yield f"starting the {role}{slow}"
            time.sleep(TICK)

    def status(self, role: str) -> dict[str, Any]:
        """Return the status document of ``server`` or ``client``."""
        from vantun.cli.status import ask

        return ask(self._socket(role))

    def check(self) -> None:
        """Raise VantunError if one of them has ended."""
        for role, child in self._children.items():
            if child.poll() is not None:
                raise VantunError(f"the demo's {role} ended with code {child.returncode}; {self._said(role)}")

    def close(self) -> None:
        """End both, the client first so that it can say goodbye."""
        for child in reversed(self._children.values()):
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(STOP)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._children.clear()

    def __enter__(self) -> Appliances:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _socket(self, role: str) -> Path:
        return self._place.folder / f"{role}.sock"

    def _log(self, role: str) -> Path:
        return self._place.folder / f"{role}.log"

    def _ready(self, role: str, paths: int) -> bool:
        self.check()
        try:
            status = self.status(role)
        except NotRunningError:
            return False
        lanes = status.get("lanes")
        up = sum(lane.get("state") == "active" for lane in lanes) if isinstance(lanes, list) else 0
        return bool(status.get("ready")) and (role == "server" or up == paths)

    def _said(self, role: str) -> str:
        lines = self._log(role).read_text(errors="replace").strip().splitlines()[-5:]
        return "it said: " + "; ".join(lines) if lines else "it said nothing"

    def _spawn(self, role: str, file: Path) -> None:
        # A session of its own: Ctrl-C is for the demo, which then ends everything in order.
        with self._log(role).open("wb") as log:
            self._children[role] = subprocess.Popen(
                [sys.executable, "-m", "vantun", role, "-c", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_the_demo,
            )

    def _write(self, role: str, document: dict[str, object]) -> Path:
        import yaml

        common = {
            "fec": {"mode": self._fec},
            "status": {"socket": str(self._socket(role))},
            "accel": {"calibration": "off"},  # it would take from what the demo measures
        }
        path = self._place.folder / f"{role}.yaml"
        path.write_text(yaml.safe_dump({**document, **common}, sort_keys=False))
        return path

    def _server_file(self) -> Path:
        return self._write(
            "server",
            {
                "listen": f"{self.server[0]}:{self.server[1]}",
                "tls": {"cert": "cert.pem", "key": "key.pem"},
                "auth": {"type": "password", "password": self._place.password},
                "acl": {"inline": ["allow(127.0.0.0/8)"]},
            },
        )

    def _client_file(self, ports: Mapping[str, int]) -> Path:
        return self._write(
            "client",
            {
                "server": f"{self.server[0]}:{self.server[1]}",
                "auth": self._place.password,
                "tls": {"sni": "localhost", "pinSHA256": self._place.pin},
                "paths": [{"name": name, "server": f"127.0.0.1:{port}"} for name, port in ports.items()],
                "socks5": {"listen": f"{self.proxy[0]}:{self.proxy[1]}"},
            },
        )
