"""The kernel's network configuration in memory; tests of :mod:`drivers.linux.network` run against it and the kernel."""

from __future__ import annotations

import errno

from drivers.errors import SystemCallError
from drivers.linux.network import MAIN_TABLE, IPInterface, Link, Network, Route, RouteKind, Rule


class FakeNetwork(Network):
    """As Network; ``refuse`` makes the next changes of a kind fail with an errno, as a machine without IPv6 does."""

    def __init__(self) -> None:
        self.links: dict[str, Link] = {}
        self.given: dict[int, set[IPInterface]] = {}
        self.table: dict[tuple[object, ...], Route] = {}
        self.policy: dict[Rule, None] = {}
        self.refuse_version: dict[int, int] = {}

    def add_link(self, name: str) -> int:
        """Make an interface, as opening a TUN device does."""
        index = len(self.links) + 1
        self.links[name] = Link(index, name, 1500, up=False)
        self.given[index] = set()
        return index

    def close(self) -> None:
        """Do nothing."""

    def link(self, name: str) -> Link | None:
        return self.links.get(name)

    def set_link(self, index: int, *, mtu: int = 0, up: bool | None = None) -> None:
        for name, link in self.links.items():
            if link.index == index:
                self.links[name] = Link(index, name, mtu or link.mtu, link.up if up is None else up)
                return
        raise SystemCallError(f"setting interface {index}", errno.ENODEV, "")

    def addresses(self, index: int) -> set[IPInterface]:
        return set(self.given[index])

    def add_address(self, index: int, address: IPInterface) -> None:
        self._refuse(address.version)
        self.given[index].add(address)

    def remove_address(self, index: int, address: IPInterface) -> None:
        self.given[index].discard(address)

    def routes(self, table: int = MAIN_TABLE) -> list[Route]:
        return [route for route in self.table.values() if route.table == table]

    def set_route(self, route: Route) -> None:
        self._refuse(route.network.version)
        if route.kind is RouteKind.UNICAST and not any(link.index == route.index for link in self.links.values()):
            raise SystemCallError(f"setting the route to {route.network}", errno.ENODEV, "")
        self.table[_key(route)] = route

    def remove_route(self, route: Route) -> None:
        self.table.pop(_key(route), None)

    def rules(self) -> list[Rule]:
        return list(self.policy)

    def add_rule(self, rule: Rule) -> None:
        self._refuse(rule.version)
        self.policy[rule] = None

    def remove_rule(self, rule: Rule) -> None:
        self.policy.pop(rule, None)

    def _refuse(self, version: int) -> None:
        if version in self.refuse_version:
            raise SystemCallError(f"changing IPv{version}", self.refuse_version[version], "use IPv4 only")


def _key(route: Route) -> tuple[object, ...]:
    return route.network, route.table, route.metric, route.kind
