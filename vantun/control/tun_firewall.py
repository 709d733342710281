"""The nftables table of a TUN device, as text: one table of its own, replaced as a whole, removed on exit.

What stands in it and why:

- *mss*: TCP connections that pass learn the tunnel's MTU from their own SYN, in both directions, so that they work even
  where somebody filters ICMP.
- *looped*: packets of our own UDP sockets carry a mark; one that a route would send into its own tunnel is dropped.
- *between_clients*: what comes out of the tunnel does not go back into it, unless `clientToClient` allows it.
- *nat*: what leaves the tunnel for elsewhere gets this machine's address.
- *marks* (with a default route at the client): answers to our own UDP sockets get their mark back, so that a strict
  reverse-path filter asks the right table; and nobody on another link may send to the tunnel's address.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface

FAMILY = "inet"
PREFIX = "vantun_"


def table_name(device: str) -> str:
    """Return the name of the table of a device: what nft does not allow in one is replaced."""
    return PREFIX + "".join(sign if sign.isalnum() else "_" for sign in device)


@dataclass(frozen=True)
class Firewall:
    """What the table of one device does.

    Attributes
    ----------
    device
        Name of the interface.
    mark
        Of packets of our own UDP sockets.
    nat, between_clients
        Whether to translate addresses; whether packets may go from the device back into it.
    restore_marks
        Whether answers to our own packets get their mark back.
    guarded
        Addresses that packets of other interfaces must not be sent to.
    """

    device: str
    mark: int
    nat: bool = False
    between_clients: bool = True
    restore_marks: bool = False
    guarded: tuple[IPv4Interface | IPv6Interface, ...] = ()

    @property
    def table(self) -> str:
        """Name of the table."""
        return table_name(self.device)

    def ruleset(self) -> str:
        """Return the script for nft; it replaces the table in one step."""
        name = f'"{self.device}"'
        clamp = "tcp flags syn tcp option maxseg size set rt mtu"
        forward = [f"oifname {name} {clamp}", f"iifname {name} {clamp}"]
        if not self.between_clients:
            refusal = "counter name between_clients reject with icmpx type admin-prohibited"
            forward.insert(0, f"iifname {name} oifname {name} {refusal}")
        leaving = [f"oifname {name} meta mark {self.mark} counter name looped drop"]
        coming: list[str] = []
        if self.restore_marks:
            leaving.append(f"meta l4proto udp meta mark {self.mark} ct mark set meta mark")
            coming.append(f"meta l4proto udp ct mark {self.mark} meta mark set ct mark")
        chains = [
            _chain("guard", "filter", "prerouting", "raw", self._guard(name)),
            _chain("forward", "filter", "forward", "filter", forward),
            _chain("output", "filter", "output", "mangle", [f"oifname {name} {clamp}"]),
            _chain("leaving", "filter", "postrouting", "mangle", leaving),
            _chain("coming", "filter", "prerouting", "mangle", coming),
        ]
        if self.nat:
            rule = f"iifname {name} oifname != {name} masquerade"
            chains.append(_chain("nat", "nat", "postrouting", "srcnat", [rule]))
        counters = "".join(f"  counter {counter} {{ }}\n" for counter in ("looped", "between_clients", "guarded"))
        head = f"table {FAMILY} {self.table}"
        return f"{head} {{ }}\ndelete {head}\n{head} {{\n{counters}{''.join(chains)}}}\n"

    def _guard(self, name: str) -> list[str]:
        rule = "iifname != {} {} daddr {} fib saddr type != local counter name guarded drop"
        return [rule.format(name, "ip" if it.version == 4 else "ip6", it.ip) for it in self.guarded]


def _chain(name: str, kind: str, hook: str, priority: str, rules: list[str]) -> str:
    if not rules:
        return ""
    lines = "".join(f"    {rule}\n" for rule in rules)
    return f"  chain {name} {{\n    type {kind} hook {hook} priority {priority}; policy accept;\n{lines}  }}\n"
