from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vantun.control.session_messages import (
    ListenAnswer,
    ListenCode,
    ListenRequest,
    Prefix,
    Transport,
    TunAnswer,
    TunCode,
    TunRequest,
)

REQUEST = TunRequest((), (), 0, 0)
ANSWER = TunAnswer(TunCode.GRANTED, "", (), (), (), 1400, 0)


@given(st.ip_addresses(), st.data())
def test_prefixes_are_networks_and_addresses(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, data: st.DataObject
) -> None:
    length = data.draw(st.integers(0, address.max_prefixlen))
    interface = ipaddress.ip_interface((address, length))
    assert Prefix.of(interface).interface() == interface
    assert Prefix.of(interface.network).network() == interface.network


@pytest.mark.parametrize(
    "bad",
    [
        replace(REQUEST, addresses=(bytes(5),)),
        replace(REQUEST, addresses=(bytes(4),) * 9),
        replace(REQUEST, prefixes=(Prefix(bytes(4), 33),)),
        replace(REQUEST, prefixes=(Prefix(bytes(4), -1),)),
        replace(REQUEST, prefixes=(Prefix(b"\x0a\0\0\1", 24),)),
        replace(REQUEST, prefixes=(Prefix(b"", 0),)),
        replace(REQUEST, prefixes=(Prefix(bytes(4), 0),) * 65),
        replace(REQUEST, mtu=65536),
        replace(REQUEST, offloads=-1),
        replace(ANSWER, gateways=(b"",)),
        replace(ANSWER, addresses=(Prefix(bytes(3), 1),)),
        replace(ANSWER, prefixes=(Prefix(b"\x0a\0\0\1", 24),)),
        replace(ANSWER, reason="\x1b"),
        ListenRequest(-1, Transport.TCP, "", 1),
        ListenRequest(1, Transport.UDP, "h" * 256, 1),
        ListenRequest(1, Transport.UDP, "\n", 1),
        ListenRequest(1, Transport.UDP, "", 65536),
        ListenAnswer(1, ListenCode.FAILED, "r" * 401, 1),
    ],
)
def test_bounds(bad: TunRequest | TunAnswer | ListenRequest | ListenAnswer) -> None:
    with pytest.raises(ValueError, match=r"allowed are|expected|host bits|cannot be printed"):
        bad.check()
