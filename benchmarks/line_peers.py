"""The other tunnels of the line laboratory: each with its own defaults, and keys that are made for the run."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.line_subjects import SOCKS, STREAM_PORT, Running
from benchmarks.line_town import LineError, Town, run, wait_until
from vantun.cli.cert import fingerprint_of
from vantun.control.certificates import create_self_signed

_MTU = "1420"
"""Of interfaces that do not find it themselves: wg-quick's default for a path of 1500 bytes."""


def need(name: str, package: str) -> None:
    """Raise LineError if a program is not installed."""
    if shutil.which(name) is None:
        raise LineError(f"{name} is not installed; apt-get install {package}, or leave it out with --only")


@dataclass(frozen=True)
class WireGuard:
    """wireguard-go, of a given binary."""

    binary: str = "wireguard-go"

    def __call__(self, town: Town) -> Running:
        """Start and join both ends."""
        need(self.binary, "wireguard-go")
        need("wg", "wireguard-tools")
        running = Running("10.8.0.2")
        folder = _folder(town, "wg")
        keys = {}
        for side in "ab":
            private = run("wg", "genkey")
            (folder / side).write_text(private, encoding="ascii")
            keys[side] = _public(private)
        for side, other in ("ba", "ab"):
            name = f"w{town.names[side].removeprefix('vtline')}"  # the sockets are in one folder for all namespaces
            socket = Path(f"/var/run/wireguard/{name}.sock")
            socket.unlink(missing_ok=True)  # of one that was killed
            running.programs[side] = town.spawn(side, self.binary, "-f", name)
            wait_until(socket.exists, f"{self.binary} serves {name}", [running.programs[side]])
            peer = ["peer", keys[other], "allowed-ips", f"10.8.0.{2 if other == 'b' else 1}/32"]
            if side == "a":
                peer += ["endpoint", f"{town.address('b')}:51820"]
            town.run(side, "wg", "set", name, "private-key", str(folder / side), "listen-port", "51820", *peer)
            town.run(side, "ip", "address", "add", f"10.8.0.{1 if side == 'a' else 2}/24", "dev", name)
            town.run(side, "ip", "link", "set", name, "mtu", _MTU, "up")
        return running


def _public(private: str) -> str:
    return subprocess.run(["wg", "pubkey"], input=private, capture_output=True, text=True, check=True).stdout.strip()


def _folder(town: Town, name: str) -> Path:
    folder = town.folder / f"{name}-{secrets.token_hex(3)}"
    folder.mkdir(mode=0o700)
    return folder


@dataclass(frozen=True)
class OpenVpn:
    """OpenVPN between two points, AES-128-GCM over UDP, without the kernel's data channel (DCO)."""

    binary: str = "openvpn"

    def __call__(self, town: Town) -> Running:
        """Start both ends and wait until their handshake is done."""
        need(self.binary, "openvpn")
        folder = _folder(town, "openvpn")
        for side in "ab":
            create_self_signed(folder / f"{side}.pem", folder / f"{side}.key", (side,), 1)
        running = Running("10.7.0.2")
        addresses = {"a": "10.7.0.1", "b": "10.7.0.2"}
        for side, other in ("ba", "ab"):
            words = ["--dev", "tun-line", "--dev-type", "tun", "--proto", "udp", "--port", "1194", "--disable-dco"]
            words += ["--cert", str(folder / f"{side}.pem"), "--key", str(folder / f"{side}.key")]
            words += ["--peer-fingerprint", _colons(fingerprint_of(folder / f"{other}.pem"))]
            words += ["--data-ciphers", "AES-128-GCM", "--cipher", "AES-128-GCM", "--tun-mtu", _MTU, "--mssfix", "0"]
            words += ["--ifconfig", addresses[side], addresses[other], "--verb", "1"]
            words += (
                ["--tls-client", "--remote", town.address("b")] if side == "a" else ["--tls-server", "--dh", "none"]
            )
            running.programs[side] = town.spawn(side, self.binary, *words)
        ends = list(running.programs.values())
        done = "Initialization Sequence Completed"
        wait_until(lambda: all(done in it.log.read_text(errors="replace") for it in ends), "OpenVPN is up", ends, 30.0)
        return running


def _colons(fingerprint: str) -> str:
    return ":".join(fingerprint[place : place + 2] for place in range(0, len(fingerprint), 2))


@dataclass(frozen=True)
class Hysteria:
    """Hysteria 2 with SOCKS5, of a given binary, with its defaults (BBR: no bandwidth is told)."""

    binary: str

    def __call__(self, town: Town) -> Running:
        """Start both ends and wait until the proxy listens."""
        folder = _folder(town, "hysteria")
        create_self_signed(folder / "cert.pem", folder / "key.pem", ("localhost",), 1)
        tls = {"cert": str(folder / "cert.pem"), "key": str(folder / "key.pem")}
        documents = {
            "b": {"listen": ":4443", "tls": tls, "auth": {"type": "password", "password": "line"}},
            "a": {
                "server": f"{town.address('b')}:4443",
                "auth": "line",
                "tls": {"sni": "localhost", "insecure": True, "pinSHA256": fingerprint_of(folder / "cert.pem")},
                "socks5": {"listen": f"{SOCKS[0]}:{SOCKS[1]}"},
            },
        }
        running = Running("", proxy=SOCKS)
        for side, role, told in (("b", "server", "server up and running"), ("a", "client", "SOCKS5 server listening")):
            file = folder / f"{role}.yaml"
            file.write_text(yaml.safe_dump(documents[side]), encoding="utf-8")
            program = town.spawn(side, self.binary, role, "-c", str(file), "--disable-update-check", name="hysteria")
            running.programs[side] = program
            wait_until(lambda p=program, t=told: t in p.log.read_text(errors="replace"), told, [program])  # type: ignore[misc]
        return running


@dataclass(frozen=True)
class Kcptun:
    """Kcptun, of given binaries: one port that leads to one port, with AES-128 and parity as by default (10, 3)."""

    client: str
    server: str

    def __call__(self, town: Town) -> Running:
        """Start both ends and wait until the near one listens."""
        entrance = ("127.0.0.1", 12948)
        running = Running("", proxy=entrance, socks=False)
        common = ["--crypt", "aes-128", "--key", "line", "--mode", "fast3", "--nocomp", "--quiet"]
        common += ["--sndwnd", "4096", "--rcvwnd", "4096", "--smuxbuf", "33554432", "--streambuf", "16777216"]
        target = f"{town.address('b')}:{STREAM_PORT}"
        running.programs["b"] = town.spawn("b", self.server, "-l", ":29900", "-t", target, *common, name="kcptun")
        near = f"{entrance[0]}:{entrance[1]}"
        words = [self.client, "-l", near, "-r", f"{town.address('b')}:29900", *common]
        running.programs["a"] = town.spawn("a", *words, name="kcptun")
        listening = f":{entrance[1]} "
        wait_until(lambda: listening in town.run("a", "ss", "-ltn"), "kcptun listens", list(running.programs.values()))
        return running
