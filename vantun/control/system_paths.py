"""Which of the system's interfaces are paths, and what a configured path misses: pure functions over what there is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from ipaddress import ip_address

from drivers.linux.interfaces import Connections, DefaultRoute, InterfaceState
from vantun.config_paths import MultipathConfig, PathConfig


@dataclass(frozen=True)
class Wanted:
    """What the choice of system paths depends on, beside the system.

    Attributes
    ----------
    rules
        The section `multipath`.
    base
        What every path from the system has in common.
    configured
        They keep precedence for their interfaces and names.
    own
        Interfaces that are the tunnel's own.
    """

    rules: MultipathConfig
    base: PathConfig
    configured: tuple[PathConfig, ...] = ()
    own: Collection[str] = ()


def missing(now: Connections, path: PathConfig) -> str:
    """Return what ``path`` needs and the system does not have, or nothing."""
    up = {each.index: each.name for each in now.interfaces if each.up}
    if path.interface and path.interface not in up.values():
        there = any(each.name == path.interface for each in now.interfaces)
        return f"the interface {path.interface} is {'down or not connected' if there else 'missing'}"
    if path.source:
        source = ip_address(path.source)
        holders = [up.get(each.index) for each in now.addresses if each.address == source]
        # a source on an interface that is down still is an address that can be bound to; it leads nowhere
        if not any(name is not None and path.interface in ("", name) for name in holders):
            where = path.interface or "this machine"
            return f"{path.source} is no address of {where}"
    return ""


def select(now: Connections, wanted: Wanted, present: Mapping[str, PathConfig]) -> list[PathConfig]:
    """Return the paths that the system offers, best first.

    Parameters
    ----------
    now
        The system.
    wanted
        What is asked for.
    present
        System paths in use, by interface: they keep their addresses and places while they can, so that a new address
        or route does not move what works.
    """
    if not wanted.rules.auto:
        return []
    taken = set(wanted.own) | _taken(now, wanted.configured)
    names = {path.name for path in wanted.configured}
    found: list[tuple[tuple[bool, int, int], PathConfig]] = []
    for each in now.interfaces:
        if not each.up or each.loopback or each.name in taken:
            continue
        if any(fnmatchcase(each.name, pattern) for pattern in wanted.rules.exclude):
            continue
        kept = present.get(each.name)
        sources = [source for version in (4, 6) for source in _source(now, each, version, kept.sources if kept else ())]
        if sources:
            name = each.name if each.name not in names else f"{each.name}-auto"
            order = (kept is None, _metric(now.routes, each.index), each.index)
            found.append((order, _path(wanted.base, name, each.name, sources)))
    found.sort(key=lambda item: item[0])
    return [path for _, path in found[: wanted.rules.most]]


def _path(base: PathConfig, name: str, interface: str, sources: list[str]) -> PathConfig:
    other = sources[1] if len(sources) > 1 else ""
    return replace(base, name=name, interface=interface, source=sources[0], other_source=other, origin="system")


def _source(now: Connections, interface: InterfaceState, version: int, kept: Iterable[str]) -> list[str]:
    """Return the address of an IP version to use on an interface, as a list of at most one."""
    if not any(route.index == interface.index and route.version == version for route in now.routes):
        return []
    usable = [
        each
        for each in now.addresses
        if each.index == interface.index and each.address.version == version and each.everywhere
    ]
    usable.sort(key=lambda each: (str(each.address) not in kept, not each.lasting))
    return [str(each.address) for each in usable[:1]]


def _taken(now: Connections, configured: Iterable[PathConfig]) -> set[str]:
    """Return the interfaces that configured paths use."""
    names = {each.index: each.name for each in now.interfaces}
    taken = set()
    for path in configured:
        if path.interface:
            taken.add(path.interface)
        elif path.source:
            source = ip_address(path.source)
            taken |= {names[each.index] for each in now.addresses if each.address == source and each.index in names}
        else:  # the kernel's choice: the default route that it likes best
            best = min(now.routes, key=lambda route: (route.version, route.metric), default=None)
            if best is not None and best.index in names:
                taken.add(names[best.index])
    return taken


def _metric(routes: Iterable[DefaultRoute], index: int) -> int:
    return min((route.metric for route in routes if route.index == index), default=0)
