from __future__ import annotations

import os

import pytest

from tests.unit.vantun.control.tun_kernel import FakeLink
from vantun.errors import ResourceError
from vantun.tun_messages import AddTun, OpenTun, SetPacketRules, SetTunRoutes


def test_the_descriptor_stays_the_callers() -> None:
    link = FakeLink()
    descriptor = os.open("/dev/null", os.O_RDWR)
    link.add_tun(1, [descriptor], client=True, offloads=7)
    os.close(descriptor)
    assert link.told == [AddTun(1, True, False, 7)]
    with pytest.raises(ResourceError, match="cannot be shared"):
        link.add_tun(1, [descriptor], client=True)


def test_what_the_worker_is_told() -> None:
    link = FakeLink()
    link.set_tun_routes(5, ["10.9.0.2"], [])
    link.open_tun(5)
    link.set_packet_rules(b"x")
    assert link.told == [SetTunRoutes(5, ("10.9.0.2",), ()), OpenTun(5), SetPacketRules(b"x")]
