"""A server and two clients with TUN devices, each in a namespace, their LANs, and an internet behind the server.

::

    lan (192.168.7.2) -- alice ---.
                                   server (203.0.113.1) -- target (198.51.100.2)
    lan (192.168.8.2) -- bob -----'

The target has no way back to the clients' networks outside the tunnel, so what it answers has come through it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.net.appliances import Process, wait_for
from tests.net.conftest import furnish
from tests.net.namespaces import Host, forwarding, hosts, link, route

SERVER, TARGET, TARGET6 = "203.0.113.1", "198.51.100.2", "2001:db8:100::2"
USERS = {"alice": "s3cret", "bob": "hunter2"}
EVERYTHING: dict[str, Any] = {"route": {"ipv4": ["0.0.0.0/0"], "ipv6": ["::/0"]}}
PREFIXES = {"alice": ["192.168.7.0/24", "fd07::/64"], "bob": ["192.168.8.0/24", "fd08::/64"]}

HEADERS = 80
"""Bytes that a packet in the tunnel is shorter than one of its path, at most."""


@dataclass
class Client:
    """A client, its host and the host of its LAN."""

    host: Host
    lan: Host
    process: Process

    @property
    def tun(self) -> dict[str, Any]:
        """Section of its status; empty while there is none."""
        found: dict[str, Any] = self.process.status().get("tun", {})
        return found

    @property
    def address(self) -> str:
        """Its IPv4 address in the tunnel."""
        return next(str(it).partition("/")[0] for it in self.tun["addresses"] if ":" not in it)

    def start(self) -> None:
        """Start it and wait until packets flow."""
        self.process.start()
        self.process.wait_ready()
        wait_for(lambda: self.tun.get("state") == "up", f"the tunnel of {self.process.config_file} is up")


@dataclass
class Town:
    """All of it."""

    server: Host
    target: Host
    process: Process
    clients: dict[str, Client] = field(default_factory=dict)

    @property
    def tun(self) -> dict[str, Any]:
        """Section of the server's status."""
        found: dict[str, Any] = self.process.status().get("tun", {})
        return found

    def start(self) -> None:
        """Start everything and wait until packets flow."""
        self.process.start()
        for client in self.clients.values():
            client.process.start()
        self.process.wait_ready()
        for client in self.clients.values():
            client.process.wait_ready()
            wait_for(lambda client=client: client.tun.get("state") == "up", "the tunnel is up")  # type: ignore[misc]

    def mtu_of(self, user: str) -> int:
        """Return the MTU of a client's tunnel when both ends have found what the path carries, and say the same."""
        client = self.clients[user]

        def both() -> tuple[int, int]:
            rows = [row for row in self.tun["clients"] if row["user"] == user]
            return int(client.tun["mtu"]), int(rows[0]["mtu"])

        def settled() -> bool:
            statuses = [process.status() for process in (self.process, client.process)]
            texts = [json.dumps(status) for status in statuses]
            found = all('"mtu_search": "complete"' in text and '"searching"' not in text for text in texts)
            # the interface follows its paths a moment later, and before, both ends agree, too
            paths = min(int(lane["mtu"]) for lane in statuses[1]["lanes"])
            return found and len(set(both())) == 1 and paths - both()[0] <= HEADERS

        wait_for(settled, "both ends know the MTU")
        return both()[0]

    def logs(self) -> str:
        """Return the logs of all appliances."""
        processes = [self.process, *(client.process for client in self.clients.values())]
        return "\n".join(f"--- {process.config_file}\n{process.log}" for process in processes)


@contextmanager
def town(
    folder: Path, certificate: tuple[Path, str], server: dict[str, Any], clients: dict[str, dict[str, Any]]
) -> Iterator[Town]:
    """Yield a town that is not started.

    ``server`` and ``clients`` (by user: alice, bob) are the sections `tun` of their configurations.
    """
    with hosts(2 + 2 * len(clients)) as (gateway, target, *rest):
        fingerprint = furnish(folder, certificate)
        gateway.output("ip", "address", "add", f"{SERVER}/32", "dev", "lo")
        link(gateway, target, ["198.51.100.1/24", "2001:db8:100::1/64"], [f"{TARGET}/24", f"{TARGET6}/64"])
        process = gateway.appliance(
            folder,
            "server",
            {
                "listen": f"{SERVER}:443",
                "tls": {"cert": "cert.pem", "key": "key.pem"},
                "auth": {"type": "userpass", "userpass": USERS},
                "limits": {"memory": "64 MB"},
                "tun": {
                    "address": ["10.9.0.1/24", "fd00:9::1/64"],
                    "users": [{"name": user, "prefixes": PREFIXES[user]} for user in USERS],
                    **server,
                },
            },
        )
        made = Town(gateway, target, process)
        for number, (user, section) in enumerate(clients.items()):
            host, lan = rest[2 * number : 2 * number + 2]
            link(gateway, host, [f"192.0.{2 + number}.1/24"], [f"192.0.{2 + number}.2/24"])
            route(host, "default", f"192.0.{2 + number}.1")
            third = 7 + number
            near = [f"192.168.{third}.1/24", f"fd0{third}::1/64"]
            link(host, lan, near, [f"192.168.{third}.2/24", f"fd0{third}::2/64"])
            route(lan, "default", f"192.168.{third}.1")
            route(lan, "::/0", f"fd0{third}::1")
            config = {
                "server": f"{SERVER}:443",
                "auth": f"{user}:{USERS[user]}",
                "tls": {"pinSHA256": fingerprint},
                "limits": {"memory": "64 MB"},
                "tun": section,
            }
            made.clients[user] = Client(host, lan, host.appliance(folder / user, "client", config))
        yield made


__all__ = ["EVERYTHING", "PREFIXES", "SERVER", "TARGET", "TARGET6", "Client", "Town", "forwarding", "town"]
