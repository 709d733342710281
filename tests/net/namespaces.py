"""A small internet of network namespaces: links between them, programs in them, real appliances in them."""

from __future__ import annotations

import itertools
import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from tests.net.appliances import SECONDS, Process
from tests.netns import ip, namespaces

_links = itertools.count()


@dataclass
class Host:
    """One namespace."""

    name: str
    stack: ExitStack = field(repr=False)
    """Ends what was started in it."""

    @property
    def enter(self) -> tuple[str, ...]:
        """What runs a program in it."""
        return "ip", "netns", "exec", self.name

    def run(self, *command: str, seconds: float = SECONDS, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; its exit code is the caller's to look at."""
        return subprocess.run(
            [*self.enter, *command], capture_output=True, text=True, timeout=seconds, check=False, **options
        )

    def output(self, *command: str) -> str:
        """Return what a program writes; it must succeed."""
        done = self.run(*command)
        assert done.returncode == 0, f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *command: str) -> Any:
        """Return the document that a program writes."""
        return json.loads(self.output(*command) or "[]")

    def spawn(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a program that ends with the test."""
        process = subprocess.Popen(
            [*self.enter, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )
        self.stack.callback(_end, process)
        return process

    def serve(self, script: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a Python program of this folder, and wait until it says that it is ready."""
        process = self.spawn(sys.executable, "-u", "-m", f"tests.net.{script}", *arguments)
        assert process.stdout is not None
        line = process.stdout.readline()
        if line != "ready\n":
            process.kill()
            raise AssertionError(f"{script}: {line}{process.communicate()[0]}")
        return process

    def appliance(self, folder: Path, role: str, config: dict[str, Any]) -> Process:
        """Return a `vantun` that is not started; killed with the test."""
        folder.mkdir(exist_ok=True)
        made = Process(folder, role, config)
        made.prefix = self.enter
        self.stack.callback(made.kill)
        return made


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(SECONDS)
    if process.stdout is not None:
        process.stdout.close()


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """Yield fresh namespaces; they, and everything in them, go at the end, also when the test fails."""
    with namespaces(count) as names, ExitStack() as stack:
        yield [Host(name, stack) for name in names]


def link(near: Host, far: Host, near_has: list[str], far_has: list[str], mtu: int = 1500) -> tuple[str, str]:
    """Connect two hosts by a pair of interfaces that know each other already; return their names.

    Neighbours are permanent, so that no test waits for ARP, and IPv6 addresses are usable at once.
    """
    names = [f"v{next(_links)}{secrets.token_hex(3)}" for _ in range(2)]
    ip("-n", near.name, "link", "add", names[0], "mtu", str(mtu), "type", "veth", "peer", names[1], "netns", far.name)
    ip("-n", far.name, "link", "set", names[1], "mtu", str(mtu))
    sides = [(near, names[0], near_has), (far, names[1], far_has)]
    for host, name, addresses in sides:
        ip("-n", host.name, "link", "set", name, "up")
        for address in addresses:
            ip("-n", host.name, "address", "add", address, "dev", name, *(["nodad"] if ":" in address else []))
    for (host, name, _), (other, other_name, addresses) in (sides, sides[::-1]):
        [shown] = other.json("ip", "-j", "link", "show", other_name)
        for address in addresses:
            target = str(ip_interface(address).ip)
            ip("-n", host.name, "neigh", "replace", target, "lladdr", shown["address"], "dev", name, "nud", "permanent")
    return names[0], names[1]


def route(host: Host, network: str, via: str) -> None:
    """Add a route."""
    ip("-n", host.name, "route", "add", network, "via", via)


def forwarding(host: Host) -> None:
    """Make a host a router."""
    for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
        host.output("sysctl", "-qw", f"{name}=1")
