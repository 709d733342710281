from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.linux.network import MAIN_TABLE, RouteKind, Rule, RuleAction
from vantun.config_tun import MOST_ROUTES, IPNetwork
from vantun.control.tun_record import SLOTS
from vantun.control.tun_routes import RoutePlan, mark_of, plan, priorities_of

TUN, UPLINK = 9, 2


def lookup(made: RoutePlan, main: dict[IPNetwork, int], target: str, mark: int = 0) -> int | None:
    """Return the interface that the kernel would choose: rules by priority, in each table the longest prefix."""
    address = ip_address(target)
    tables: dict[int, dict[IPNetwork, int | None]] = {MAIN_TABLE: dict(main)}
    for route in made.routes:
        tables.setdefault(route.table, {})[route.network] = route.index if route.kind is RouteKind.UNICAST else None
    rules = [rule for rule in made.rules if rule.version == address.version]
    rules.append(Rule(address.version, 32766, RuleAction.LOOKUP, MAIN_TABLE))
    goal = 0
    for rule in sorted(rules, key=lambda rule: rule.priority):
        if rule.priority < goal or (rule.mark and rule.mark != mark) or (rule.to and address not in rule.to):
            continue
        if rule.action is RuleAction.GOTO:
            goal = rule.target
        elif rule.action is RuleAction.LOOKUP:
            fitting = [it for it in tables.get(rule.target, {}) if it.version == address.version and address in it]
            best = max(fitting, key=lambda network: network.prefixlen, default=None)
            if best is not None and best.prefixlen > rule.suppress and tables[rule.target][best] is not None:
                return tables[rule.target][best]
    return None


MAIN: dict[IPNetwork, int] = {
    ip_network("0.0.0.0/0"): UPLINK,
    ip_network("192.168.1.0/24"): UPLINK,
    ip_network("10.0.0.0/8"): UPLINK,
}


def test_a_default_route_leaves_the_machines_own_networks_alone() -> None:
    made = plan([ip_network("0.0.0.0/0")], [], TUN, 0)
    assert lookup(made, MAIN, "198.51.100.1") == TUN
    assert lookup(made, MAIN, "192.168.1.7") == UPLINK
    assert lookup(made, MAIN, "10.1.2.3") == UPLINK


def test_a_longer_prefix_wins_on_either_side() -> None:
    made = plan([ip_network("10.5.0.0/16"), ip_network("192.168.0.0/16")], [], TUN, 0)
    assert lookup(made, MAIN, "10.5.0.1") == TUN
    assert lookup(made, MAIN, "10.6.0.1") == UPLINK
    assert lookup(made, MAIN, "192.168.1.7") == UPLINK
    assert lookup(made, MAIN, "192.168.2.7") == TUN


def test_excluded_networks_stay_outside() -> None:
    made = plan([ip_network("0.0.0.0/0"), ip_network("::/0")], [ip_network("203.0.113.0/24")], TUN, 0)
    assert lookup(made, MAIN, "203.0.113.9") == UPLINK
    assert lookup(made, MAIN, "203.0.114.9") == TUN
    assert lookup(made, MAIN, "2001:db8::1") == TUN
    assert lookup(made, MAIN, "2001:db8::1", mark_of(0)) is None


@given(
    st.lists(
        st.ip_addresses(v=4, network="10.0.0.0/8").flatmap(
            lambda address: st.integers(0, 32).map(lambda size: ip_network((address, size), strict=False))
        ),
        max_size=6,
    ),
    st.ip_addresses(v=4, network="10.0.0.0/8"),
    st.integers(0, SLOTS - 1),
)
def test_the_tunnels_own_packets_never_enter_it(networks: list[IPNetwork], target: object, slot: int) -> None:
    made = plan(networks, [], TUN, slot)
    expected = lookup(RoutePlan((), ()), MAIN, str(target))
    assert lookup(made, MAIN, str(target), mark_of(slot)) == expected


@given(
    st.lists(
        st.ip_addresses(v=4, network="10.0.0.0/14").flatmap(
            lambda address: st.integers(8, 32).map(lambda size: ip_network((address, size), strict=False))
        ),
        max_size=6,
        unique=True,
    ),
    st.lists(
        st.ip_addresses(v=4, network="10.0.0.0/14").flatmap(
            lambda address: st.integers(8, 32).map(lambda size: ip_network((address, size), strict=False))
        ),
        max_size=6,
        unique=True,
    ),
    st.ip_addresses(v=4, network="10.0.0.0/14"),
)
def test_the_longest_prefix_of_both_tables_wins(ours: list[IPNetwork], main: list[IPNetwork], target: object) -> None:
    address = ip_address(str(target))
    candidates = [(network.prefixlen, 1, UPLINK) for network in main if address in network]
    candidates += [(network.prefixlen, 0, TUN) for network in ours if address in network]
    expected = max(candidates)[2] if candidates else None
    assert lookup(plan(ours, [], TUN, 3), dict.fromkeys(main, UPLINK), str(target)) == expected


def test_slots_have_room_and_do_not_meet() -> None:
    seen: set[int] = set()
    networks = [ip_network(f"10.{number}.0.0/16") for number in range(MOST_ROUTES)]
    for slot in range(SLOTS):
        priorities = {rule.priority for rule in plan(networks, [], TUN, slot).rules}
        assert len(priorities) == 2 * MOST_ROUTES + 2
        assert priorities <= set(priorities_of(slot))
        assert not priorities & seen
        assert max(priorities) < 32766
        seen |= priorities


@pytest.mark.parametrize("version", [4, 6])
def test_a_family_without_networks_has_no_rules(version: int) -> None:
    made = plan([ip_network("0.0.0.0/0" if version == 6 else "::/0")], [], TUN, 0)
    assert version not in {rule.version for rule in made.rules}
