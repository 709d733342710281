"""Whose an address is: the longest prefix, as a slow search over ``ipaddress`` finds it."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.packets import halves
from vantun.dataplane.tun_routes import lookup, set_routes
from vantun.dataplane.tun_tables import TunTables, make_tun_tables
from vantun.errors import ResourceError
from vantun.tun_messages import MAX_PREFIXES
from vantun.wire.integers import uint64

Network = IPv4Network | IPv6Network
# Few bits, so that prefixes nest and addresses hit them.
V4 = st.builds(
    lambda number, length: IPv4Network((number << 12 & -1 << 32 - length & 0xFFFFFFFF, length)),
    st.integers(0, (1 << 20) - 1),
    st.sampled_from([0, 8, 12, 16, 18, 20]),
) | st.builds(IPv4Network, st.integers(0, (1 << 32) - 1))
V6 = st.builds(
    lambda number, length: IPv6Network((number << 110 & -1 << 128 - length & (1 << 128) - 1, length)),
    st.integers(0, (1 << 18) - 1),
    st.sampled_from([0, 3, 10, 16, 18]),
) | st.builds(
    lambda number, length: IPv6Network((number & -1 << 128 - length, length)),
    st.integers(0, 1 << 70),
    st.sampled_from([60, 63, 64, 65, 96, 127, 128]),
)


def owner(routes: list[tuple[int, Network]], address: str) -> int:
    """Return what :func:`lookup` should."""
    wanted = ip_address(address)
    hits = [(network.prefixlen, -order, slot) for order, (slot, network) in enumerate(routes) if wanted in network]
    return max(hits)[2] if hits else -1


def find(tables: TunTables, address: str) -> int:
    """Look an address up."""
    made = ip_address(address)
    high, low = halves(made)
    return int(lookup(tables.root, made.version, uint64(high), uint64(low)))


def enter(tables: TunTables, routes: list[tuple[int, Network]]) -> None:
    """Give every slot its prefixes, in the order of slots."""
    for slot in sorted({slot for slot, _ in routes}):
        set_routes(tables, slot, [], [str(network) for each, network in routes if each == slot])


TABLES, _ARENA = make_tun_tables()


@given(
    st.lists(st.tuples(st.integers(0, 5), V4 | V6), max_size=30),
    st.lists(st.ip_addresses(), max_size=5),
    st.randoms(use_true_random=False),
)
def test_the_longest_prefix_wins(routes: list[tuple[int, Network]], addresses: list[object], random: object) -> None:
    routes = sorted(routes, key=lambda route: route[0])
    for slot in range(6):
        set_routes(TABLES, slot, [], [])
    enter(TABLES, routes)
    inside = [str(network[0]) for _, network in routes] + [str(network[-1]) for _, network in routes]
    for address in [*map(str, addresses), *inside]:
        assert find(TABLES, address) == owner(routes, address)


def test_four_thousand_prefixes_and_not_one_more() -> None:
    tables, _arena = make_tun_tables()
    networks = list(IPv4Network("10.0.0.0/12").subnets(new_prefix=24))
    assert len(networks) == MAX_PREFIXES
    for slot in range(64):
        set_routes(tables, slot, [], [str(each) for each in networks[slot * 64 : slot * 64 + 64]])
    routes: list[tuple[int, Network]] = [(index // 64, network) for index, network in enumerate(networks)]
    for address in ("10.0.0.1", "10.15.255.255", "10.7.3.2", "10.16.0.0", "::10.0.0.1", "9.255.255.255"):
        assert find(tables, address) == owner(routes, address)
    with pytest.raises(ResourceError, match="1 more than fit"):
        set_routes(tables, 64, ["10.99.0.1"], [])
    assert find(tables, "10.99.0.1") == -1
    set_routes(tables, 0, ["10.99.0.1"], [])
    assert (find(tables, "10.99.0.1"), find(tables, "10.0.0.1")) == (0, -1)


def test_what_another_session_has_already_stays_with_it() -> None:
    tables, _arena = make_tun_tables()
    set_routes(tables, 4, ["10.0.0.1"], ["10.1.0.0/16"])
    set_routes(tables, 2, ["10.0.0.1", "10.1.0.0"], ["10.1.0.0/16"])
    assert find(tables, "10.0.0.1") == 4
    assert find(tables, "10.1.2.3") == 4
    assert find(tables, "10.1.0.0") == 2
    assert tables.root[0]["state"][0]["conflicts"] == 2
    set_routes(tables, 4, ["10.0.0.1", "10.0.0.9"], ["10.1.0.0/16"])
    assert (find(tables, "10.0.0.1"), find(tables, "10.1.2.3"), find(tables, "10.0.0.9")) == (4, 4, 4)
    set_routes(tables, 4, [], [])
    assert find(tables, "10.0.0.1") == 2
    assert tables.root[0]["state"][0]["conflicts"] == 0


@pytest.mark.parametrize("prefix", ["10.0.0.1/24", "nonsense", "10.0.0.0/33"])
def test_what_is_no_prefix_changes_nothing(prefix: str) -> None:
    tables, _arena = make_tun_tables()
    set_routes(tables, 1, ["10.0.0.1"], [])
    with pytest.raises(ValueError, match=prefix[:8]):
        set_routes(tables, 1, ["10.0.0.2"], [prefix])
    assert find(tables, "10.0.0.1") == 1
