from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivers.errors import Capability, Unavailable
from drivers.linux.probe import UdpProbe
from vantun.doctor import network
from vantun.doctor.finding import Finding, Level


def tun(**arguments: Any) -> Finding:
    (found,) = network.tun(**arguments)
    return found


def interface(root: Path, name: str, state: str, mtu: int) -> None:
    place = root / "sys/class/net" / name
    place.mkdir(parents=True)
    (place / "operstate").write_text(f"{state}\n")
    (place / "mtu").write_text(f"{mtu}\n")


def test_interfaces_that_are_up_are_measured(tmp_path: Path) -> None:
    interface(tmp_path, "lo", "unknown", 65536)
    interface(tmp_path, "eth0", "up", 1500)
    interface(tmp_path, "eth1", "down", 1500)
    interface(tmp_path, "wwan0", "unknown", 1200)
    good, small = network.interfaces(tmp_path)
    assert (good.subject, good.level) == ("interface eth0", Level.OK)
    assert (small.subject, small.level) == ("interface wwan0", Level.PROBLEM)
    assert "dev wwan0" in small.fix


def test_no_interface_is_a_problem(tmp_path: Path) -> None:
    (found,) = network.interfaces(tmp_path)
    assert found.level is Level.PROBLEM


def test_ipv6(tmp_path: Path) -> None:
    assert "kernel has none" in network.ipv6(tmp_path).text
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/if_inet6").touch()
    assert network.ipv6(tmp_path).level is Level.OK
    place = tmp_path / "proc/sys/net/ipv6/conf/all/disable_ipv6"
    place.parent.mkdir(parents=True)
    place.write_text("1\n")
    assert "switched off" in network.ipv6(tmp_path).text


@pytest.mark.parametrize(("needed", "level"), [(True, Level.PROBLEM), (False, Level.NOTE)])
@pytest.mark.parametrize("check", [tun, network.packet_filter])
def test_what_only_tun_needs(check: Callable[..., Finding], needed: bool, level: Level) -> None:
    found = check(needed=needed, probe=lambda: Unavailable("it is missing", "install it"))
    assert found.level is level
    assert "it is missing" in found.text
    assert found.fix == "install it"


@pytest.mark.parametrize(("needed", "level"), [(True, Level.WARNING), (False, Level.NOTE)])
def test_flows_move_between_workers_by_a_program(needed: bool, level: Level) -> None:
    found = network.tun_steering(needed=needed, probe=lambda: "loading a program failed: no")
    assert found.level is level
    assert "no load is moved: loading a program failed: no" in found.text
    assert network.tun_steering(needed=needed, probe=lambda: "").level is Level.OK


@pytest.mark.parametrize("check", [tun, network.packet_filter])
def test_what_tun_needs_is_there(check: Callable[..., Finding]) -> None:
    assert check(needed=True, probe=lambda: Capability("it")).level is Level.OK
    assert check(needed=False).level in (Level.OK, Level.NOTE)


@pytest.mark.parametrize(("fact", "said"), [("vnet_hdr", "one by one"), ("multi_queue", "one worker")])
def test_a_tun_driver_that_lacks_something(fact: str, said: str) -> None:
    facts = {"vnet_hdr": True, "multi_queue": True, fact: False}
    works, lacks = network.tun(needed=True, probe=lambda: Capability("TUN device", facts))
    assert works.level is Level.OK
    assert (lacks.level, lacks.subject) == (Level.WARNING, f"TUN {fact}")
    assert said in lacks.text
    assert lacks.fix


def test_offloads_show_the_reason_and_the_next_step() -> None:
    found = network.offloads(
        lambda: UdpProbe(
            batches=Capability("x"),
            gso=Unavailable("too old", "newer kernel"),
            gro=Capability("x"),
            ecn=Capability("x"),
        )
    )
    assert [each.level for each in found] == [Level.OK, Level.WARNING, Level.OK, Level.OK]
    assert (found[1].text, found[1].fix) == ("too old", "newer kernel")


def test_interfaces_without_segmentation_are_noted_with_the_next_step(tmp_path: Path) -> None:
    for name, state in (("eth0", "up"), ("eth1", "up"), ("eth2", "down"), ("lo", "unknown")):
        interface(tmp_path, name, state, 1500)
    off = Unavailable("eth1 does not split UDP messages", "another card")
    found = network.segmentation(tmp_path, lambda name: off if name == "eth1" else Capability("USO"))
    assert [(each.subject, each.level) for each in found] == [("USO of eth0", Level.OK), ("USO of eth1", Level.NOTE)]
    assert "another card" in str(found[1])
