from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vantun.control.address_pool import AddressPool, PoolError, parse

OWN = (ip_interface("10.9.0.1/29"), ip_interface("fd00:9::1/64"))


def test_an_address_of_each_family_for_as_long_as_the_session_lives() -> None:
    pool = AddressPool(OWN)
    first = pool.assign(1, "alice")
    assert [str(address) for address in first] == ["10.9.0.2/29", "fd00:9::2/64"]
    assert pool.assign(1, "alice") == pool.of(1) == first
    assert pool.holder(first[0].ip) == 1
    pool.release(1)
    pool.release(1)
    assert pool.of(1) == ()
    assert pool.holder(first[0].ip) is None


def test_what_is_never_given() -> None:
    pool = AddressPool([OWN[0]], reserved={"bob": (ip_address("10.9.0.4"),)})
    given = [str(pool.assign(session, "alice")[0].ip) for session in range(4)]
    assert sorted(given) == ["10.9.0.2", "10.9.0.3", "10.9.0.5", "10.9.0.6"]
    with pytest.raises(PoolError, match=r"no address of 10\.9\.0\.0/29 is free, 4 are taken"):
        pool.assign(9, "alice")
    assert pool.of(9) == ()


def test_a_released_address_rests_before_it_is_given_again() -> None:
    pool = AddressPool([ip_interface("10.9.0.1/24")])
    first = pool.assign(1, "alice")
    pool.release(1)
    assert pool.assign(2, "alice") != first


def test_ranges() -> None:
    pool = AddressPool(OWN, [ip_network("10.9.0.4/31")])
    assert {str(pool.assign(session, "")[0].ip) for session in (1, 2)} == {"10.9.0.4", "10.9.0.5"}
    with pytest.raises(PoolError):
        pool.assign(3, "")


def test_wishes() -> None:
    pool = AddressPool(OWN)
    wish = ip_address("10.9.0.6")
    assert pool.assign(1, "alice", [wish])[0].ip == wish
    assert pool.assign(2, "bob", [wish])[0].ip != wish, "it is taken"
    for wrong in ("10.9.0.0", "10.9.0.7", "10.9.0.1"):
        pool.release(3)
        assert pool.assign(3, "bob", [ip_address(wrong)])[0].ip != ip_address(wrong)
    with pytest.raises(PoolError, match=r"192\.0\.2\.1 is in none of the networks"):
        pool.assign(4, "bob", [ip_address("192.0.2.1")])


def test_a_reserved_address_is_of_the_newest_session_of_its_user() -> None:
    reserved = ip_address("10.9.0.5")
    pool = AddressPool(OWN, reserved={"alice": (reserved,)})
    assert pool.assign(1, "bob", [reserved])[0].ip != reserved
    assert pool.assign(2, "alice")[0].ip == reserved
    assert pool.assign(3, "alice")[0].ip == reserved
    assert [address.version for address in pool.of(2)] == [6], "the older session has lost it"
    pool.release(2)
    assert pool.holder(reserved) == 3


def test_addresses_of_messages() -> None:
    assert parse([bytes(4), bytes(16)]) == [ip_address("0.0.0.0"), ip_address("::")]


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.sampled_from(["alice", "bob"])), max_size=60))
def test_no_address_is_given_twice(steps: list[tuple[int, bool, str]]) -> None:
    reserved = ip_address("10.9.0.5")
    pool = AddressPool(OWN, reserved={"alice": (reserved,)})
    for session, come, user in steps:
        try:
            pool.assign(session, user) if come else pool.release(session)
        except PoolError:
            continue
        given = [address.ip for other in range(6) for address in pool.of(other)]
        assert len(given) == len(set(given))
        assert all(pool.holder(address) is not None for address in given)
        assert not {str(address) for address in given} & {"10.9.0.0", "10.9.0.1", "10.9.0.7", "fd00:9::", "fd00:9::1"}
