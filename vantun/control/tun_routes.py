"""Which routes and rules send what into the tunnel, and never the tunnel into itself.

The tunnel's routes have a table of their own, and the UDP sockets that carry the tunnel a mark. Rules, in this order::

    mark M: go on behind our rules          packets of the tunnel itself see the machine as if there were no tunnel
    to P1: main, without prefixes as short as P1's or shorter      a longer prefix of the machine wins, as always
    to P1: our table
    ... the same for every other prefix, longest first ...
    nop                                     where the first rule goes on

So the server's address needs no exception, whatever it is and wherever it moves, and the LAN stays reachable with
0.0.0.0/0 in the tunnel. (wg-quick does this for the default route only; a prefix that overlaps the way to the server
loops there.) A prefix that the machine has itself, in exactly the same length, stays with the machine, except the
default route. An excluded network is a `throw` route in our table: the next rule is asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from drivers.linux.network import MAIN_TABLE, Route, RouteKind, Rule, RuleAction
from vantun.config_tun import IPNetwork

FIRST_MARK = 0x5600
"""Mark and table of slot 0."""
FIRST_PRIORITY = 20_000
PRIORITIES = 512
"""Priorities of a slot: two rules for each prefix, and the two around them."""


def mark_of(slot: int) -> int:
    """Return the mark of a slot's UDP sockets, which is the number of its table, too."""
    return FIRST_MARK + slot


def priorities_of(slot: int) -> range:
    """Return the priorities of a slot's rules."""
    first = FIRST_PRIORITY + slot * PRIORITIES
    return range(first, first + PRIORITIES)


@dataclass(frozen=True)
class RoutePlan:
    """Routes and rules, in the order in which they are set; they are removed in the opposite one."""

    routes: tuple[Route, ...]
    rules: tuple[Rule, ...]


def plan(
    networks: Iterable[IPNetwork], excluded: Iterable[IPNetwork], index: int, slot: int, missing: Iterable[int] = ()
) -> RoutePlan:
    """Return what sends ``networks`` without ``excluded`` to interface ``index``.

    What belongs to an IP version in ``missing`` goes nowhere: it was meant for the tunnel, which cannot carry it, and
    programs that hear so at once take the other version.
    """
    without = frozenset(missing)
    wanted = sorted(set(networks), key=lambda network: (network.version, -network.prefixlen, network.network_address))
    table, priorities = mark_of(slot), priorities_of(slot)
    routes = [Route(network, 0, table, kind=RouteKind.THROW) for network in dict.fromkeys(excluded)]
    routes += [
        Route(network, 0, table, kind=RouteKind.UNREACHABLE)
        if network.version in without
        else Route(network, index, table)
        for network in wanted
    ]
    rules: list[Rule] = []
    for version in (4, 6):
        mine = [network for network in wanted if network.version == version]
        if not mine:
            continue
        # the place to go to first: a rule whose goal is not there yet would be passed over
        rules.append(Rule(version, priorities[-1], RuleAction.NOP))
        rules.append(Rule(version, priorities[0], RuleAction.GOTO, priorities[-1], mark=table))
        for place, network in enumerate(mine):
            to = network if network.prefixlen else None
            shorter = max(network.prefixlen - 1, 0)
            priority = priorities[1 + 2 * place]
            rules.append(Rule(version, priority, RuleAction.LOOKUP, MAIN_TABLE, to, suppress=shorter))
            rules.append(Rule(version, priority + 1, RuleAction.LOOKUP, table, to))
    return RoutePlan(tuple(routes), tuple(rules))
