"""Messages and values of the driver errors."""

from __future__ import annotations

import errno

import pytest

import drivers
from drivers.errors import Capability, DriverError, SystemCallError, Unavailable, UnavailableError


def test_the_co_installation_guard_names_a_version() -> None:
    assert drivers.__vantun__ == "0.1.0"


def test_a_system_call_error_says_what_happened_to_what_and_what_to_do() -> None:
    error = SystemCallError("binding UDP 127.0.0.1:443", errno.EACCES, "grant CAP_NET_BIND_SERVICE")
    assert str(error) == "binding UDP 127.0.0.1:443 failed: Permission denied; grant CAP_NET_BIND_SERVICE"
    assert error.errno == errno.EACCES
    assert isinstance(error, DriverError)


def test_absence_is_a_value_and_can_become_an_error() -> None:
    absent = Unavailable("no card in any slot", "plug one in")
    assert not absent
    with pytest.raises(UnavailableError, match="no card in any slot; plug one in") as caught:
        raise absent.error()
    assert caught.value.unavailable is absent


def test_a_capability_is_true_even_without_facts() -> None:
    assert Capability("something")
    assert Capability("something").facts == {}
