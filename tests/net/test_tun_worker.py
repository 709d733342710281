"""A worker that is handed a TUN device over its control socket, as a replaced one is, too."""

from __future__ import annotations

import os

import pytest

from drivers.linux.tun import TunDevice
from tests.netns import inside, ip, namespaces, why_not
from tests.unit.vantun.dataplane.test_worker_loop import Rig
from vantun.tun_messages import AddTun, SetTunRoutes, TunLost

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
]


def test_a_device_is_handed_from_worker_to_worker() -> None:
    with namespaces(1) as (name,):
        with inside(name):
            device = TunDevice.open("vt0")
        for _ in range(2):
            rig = Rig()
            copy = TunDevice.adopt(os.dup(device.fileno()), device.takes)
            rig.say(SetTunRoutes(7, ("10.0.0.2",), ()))
            rig.say(AddTun(1, client=False, client_to_client=False, offloads=int(copy.takes)), copy)
            state = rig.loop.snapshot()["tun"]
            assert isinstance(state, dict)
            assert (state["device"], state["prefixes"]) == ("vt0", 1)
            assert "USO4" in state["takes"]
            rig.settle()
            rig.control.close()
            rig.loop.close()
        ip("-n", name, "link", "show", "vt0")  # the opener has it still
        device.close()


def test_a_worker_that_sleeps_hears_that_its_device_is_gone_and_goes_on() -> None:
    with namespaces(1) as (name,):
        with inside(name):
            device = TunDevice.open("vt0")
        rig = Rig()
        rig.say(AddTun(4, client=True, client_to_client=False, offloads=0), device)
        ip("-n", name, "link", "del", "vt0")
        rig.loop.turn(10.0)
        heard = rig.hear()
        assert isinstance(heard, TunLost)
        assert heard.number == 4
        rig.settle()
        rig.control.close()
        rig.loop.close()
