"""Who takes part in the line laboratory, and how each is started: a tunnel from side a to side b, or none."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.line_town import Program, Town, descendants, wait_until
from vantun.cli.cert import fingerprint_of
from vantun.cli.status import ask
from vantun.control.certificates import create_self_signed
from vantun.control.tun_mtu import LEAST
from vantun.errors import VantunError

START = 300.0
"""Seconds until a VANTUN serves; the first start on a machine compiles the kernels."""
SOCKS = ("127.0.0.1", 1080)
STREAM_PORT = 5300
"""Of the far end of proxied streams, on side b."""


@dataclass
class Running:
    """A subject that has been started.

    Attributes
    ----------
    target
        Address of side b through it; empty = it carries no packets.
    proxy
        Where a stream enters it on side a; None = it is no proxy.
    socks
        Whether the proxy speaks SOCKS5; else it leads to STREAM_PORT of side b by itself.
    programs
        Tunnel programs, by side.
    sockets
        Status sockets of a VANTUN, by side.
    """

    target: str
    programs: dict[str, Program] = field(default_factory=dict)
    proxy: tuple[str, int] | None = None
    socks: bool = True
    sockets: dict[str, Path] = field(default_factory=dict)

    def pids(self, side: str) -> list[int]:
        """Return the process ids of the tunnel on one side."""
        return descendants(self.programs[side].process.pid) if side in self.programs else []

    def all_pids(self) -> list[int]:
        """Return the process ids of the tunnel on both sides."""
        return [pid for side in self.programs for pid in self.pids(side)]

    def status(self, side: str) -> dict[str, Any]:
        """Return the status document of a VANTUN; empty while it does not answer."""
        try:
            return ask(self.sockets[side])
        except VantunError:
            return {}


@dataclass(frozen=True)
class Subject:
    """Somebody who takes part; ``start`` sets it up in a town, with ``profile`` or, without, that of the run."""

    name: str
    start: Callable[[Town], Running]
    links: int = 1
    profile: str = ""


def direct(town: Town) -> Running:
    """Return the bare veth pair."""
    return Running(town.address("b"))


@dataclass(frozen=True)
class Vantun:
    """A VANTUN server and client with a TUN device each, and SOCKS5.

    ``overhead``: standing parity in percent of the data, 0 = FEC off. ``same_server``: all paths lead to one address.
    ``workers``: data workers of each end, 0 = its own choice. ``more``: sections for both files.
    """

    paths: int = 1
    overhead: int = 0
    standby: bool = False
    same_server: bool = False
    workers: int = 0
    more: dict[str, Any] = field(default_factory=dict)

    def __call__(self, town: Town) -> Running:
        """Start both and wait until packets flow and the path's MTU is known."""
        folder = town.folder / f"vantun-{secrets.token_hex(3)}"
        folder.mkdir()
        create_self_signed(folder / "cert.pem", folder / "key.pem", ("localhost",), 1)
        running = Running("10.9.0.1", proxy=SOCKS)
        for side, role, document in (("b", "server", self.server()), ("a", "client", self.client(town, folder))):
            running.sockets[side] = folder / f"{role}.sock"
            file = folder / f"{role}.yaml"
            file.write_text(yaml.safe_dump({**self.common(running.sockets[side]), **document}), encoding="utf-8")
            program = town.spawn(side, sys.executable, "-m", "vantun", role, "-c", str(file), name=role)
            running.programs[side] = program
            wait_until(lambda s=side: running.status(s).get("ready"), f"the {role} is ready", [program], START)  # type: ignore[misc]
            if role == "server":
                self.server_ready(running)
        both = list(running.programs.values())
        wait_until(lambda: self._settled(running), "the tunnel is up and knows its MTU", both)
        return running

    def server_ready(self, running: Running) -> None:
        """Do what is to be done between the start of the server and that of the client: nothing."""

    def _settled(self, running: Running) -> bool:
        near = running.status("a")
        lanes = near.get("lanes") or []
        names = {lane["name"] for lane in lanes if lane["state"] == "active" and lane["mtu_search"] != "searching"}
        if near.get("tun", {}).get("state") != "up" or len(names) != self.paths:
            return False
        # Both interfaces follow their paths a second or two later: until then packets of 1400 bytes leave in two parts.
        far = running.status("b").get("tun", {}).get("clients") or [{}]
        return all(end.get("mtu", 0) > LEAST for end in (near["tun"], far[0]))

    def common(self, socket: Path) -> dict[str, Any]:
        """Return what both files have."""
        fec: dict[str, Any] = {"mode": "on", "overhead": f"{self.overhead} %"} if self.overhead else {"mode": "off"}
        return {
            "status": {"socket": str(socket)},
            "accel": {"calibration": "off"},  # it would take from what is measured
            "workers": {"standby": self.standby, **({"count": self.workers} if self.workers else {})},
            "fec": fec,
            **self.more,
        }

    def server(self) -> dict[str, Any]:
        """Return what the server's file has besides."""
        return {
            "listen": ":443",
            "tls": {"cert": "cert.pem", "key": "key.pem"},
            "auth": {"type": "password", "password": "line"},
            "acl": {"inline": ["allow(10.9.0.0/24)", "allow(192.0.2.0/24)"]},
            "tun": {"address": ["10.9.0.1/24"], "nat": False},
        }

    def client(self, town: Town, folder: Path) -> dict[str, Any]:
        """Return what the client's file has besides."""
        links = [0 if self.same_server else number for number in range(self.paths)]
        servers = [f"{town.address('b', link)}:443" for link in links]
        return {
            "server": servers[0],
            "auth": "line",
            "tls": {"sni": "localhost", "pinSHA256": fingerprint_of(folder / "cert.pem")},
            "paths": [{"name": f"path{number}", "server": server} for number, server in enumerate(servers)],
            "socks5": {"listen": f"{SOCKS[0]}:{SOCKS[1]}"},
            "tun": {"name": "vantun0"},
        }
