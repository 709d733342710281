from __future__ import annotations

import asyncio
import errno
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest

from drivers.errors import DriverError, SystemCallError, Unavailable
from drivers.linux.network import Route, Rule, RuleAction
from drivers.linux.tun import TCP_OFFLOADS, TunDevice, TunOffload
from tests.unit.vantun.control.tun_kernel import FakeKernel
from vantun.control import tun_interface
from vantun.control.tun_firewall import Firewall
from vantun.control.tun_interface import TunInterface, state_folder
from vantun.control.tun_routes import mark_of, priorities_of
from vantun.errors import ResourceError

ADDRESSES = (ip_interface("10.9.0.1/24"), ip_interface("fd00:9::1/64"))


def opened(kernel: FakeKernel, folder: Path, *, offload: bool = True) -> TunInterface:
    return asyncio.run(TunInterface.open("vantun0", kernel.records(folder), kernel, offload=offload))


def fill(interface: TunInterface) -> None:
    """Change everything that can be changed."""
    interface.configure(ADDRESSES, 1400)
    interface.set_routes(
        [Route(ip_network("10.5.0.0/16"), interface.index, interface.mark)],
        [Rule(4, priorities_of(interface.slot)[0], RuleAction.LOOKUP, interface.mark)],
    )
    interface.set_setting("ipv4/ip_forward", "1")
    assert interface.set_firewall(Firewall("vantun0", interface.mark))


def is_clean(kernel: FakeKernel) -> bool:
    return (
        not kernel.net.policy
        and not kernel.net.table
        and not kernel.rules.scripts
        and kernel.settings["ipv4/ip_forward"] == "0"
    )


def test_what_is_set_is_undone(tmp_path: Path) -> None:
    kernel = FakeKernel()
    interface = opened(kernel, tmp_path)
    fill(interface)
    link = kernel.net.links["vantun0"]
    assert (link.mtu, link.up, kernel.net.given[link.index]) == (1400, True, set(ADDRESSES))
    assert interface.report()["mtu"] == 1400
    assert not is_clean(kernel)
    interface.close()
    assert is_clean(kernel)
    assert kernel.devices[0].closed
    assert not list(tmp_path.glob("*.json"))


def test_what_a_crash_has_left_is_removed_by_the_next_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kernel = FakeKernel()
    fill(opened(kernel, tmp_path))
    kernel.net.add_rule(stranger := Rule(4, 100, RuleAction.LOOKUP, 7))
    kernel.net.table = {}  # the interface has gone, and its routes with it
    opened(kernel, tmp_path)
    assert list(kernel.net.policy) == [stranger]
    assert not kernel.rules.scripts
    assert kernel.settings["ipv4/ip_forward"] == "0"
    assert "did not stop in order" in caplog.text


def test_a_device_that_a_dying_worker_still_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert opened(FakeKernel(busy=3), tmp_path / "a").name == "vantun0"
    monkeypatch.setattr(tun_interface, "OPEN_SECONDS", 0.0)
    with pytest.raises(ResourceError, match=r"tun: creating the TUN interface vantun0 failed.*stop the program"):
        opened(FakeKernel(busy=9), tmp_path / "b")
    assert not list(tmp_path.glob("b/*.json"))


def test_addresses_and_routes_are_replaced(tmp_path: Path) -> None:
    kernel = FakeKernel()
    interface = opened(kernel, tmp_path)
    fill(interface)
    other = ip_interface("10.9.0.7/24")
    assert interface.configure([other], 1300) == (other,)
    assert kernel.net.given[interface.index] == {other}
    route = Route(ip_network("10.6.0.0/16"), interface.index, interface.mark)
    interface.set_routes([route])
    assert kernel.net.routes(interface.mark) == [route]
    assert not kernel.net.rules()


def test_a_machine_without_ipv6(tmp_path: Path) -> None:
    kernel = FakeKernel()
    kernel.net.refuse_version[6] = errno.EACCES
    interface = opened(kernel, tmp_path)
    assert interface.configure(ADDRESSES, 1400) == ADDRESSES[:1]
    interface.set_routes([Route(ip_network("::/0"), interface.index, interface.mark)], [Rule(6, 5, RuleAction.NOP)])
    [fallback] = interface.fallbacks()
    assert fallback["what"] == "TUN without IPv6"
    kernel.net.refuse_version = {4: errno.EACCES}
    with pytest.raises(Exception, match="changing IPv4"):
        interface.configure([ip_interface("10.9.0.9/24")], 1400)


def test_without_nftables(tmp_path: Path) -> None:
    kernel = FakeKernel()
    kernel.nft = Unavailable("the program nft is not installed", "install the package nftables")
    interface = opened(kernel, tmp_path)
    assert not interface.set_firewall(Firewall("vantun0", 1))
    [fallback] = interface.fallbacks()
    assert "install the package nftables" in str(fallback["reason"])
    assert interface.counters() == {}
    interface.close()


def test_without_offloads(tmp_path: Path) -> None:
    interface = opened(FakeKernel(), tmp_path, offload=False)
    assert interface.device.offloads is TunOffload.NONE
    assert interface.report()["offloads"] == []


def test_each_offload_that_a_kernel_refuses_is_named(tmp_path: Path) -> None:
    kernel = FakeKernel()
    kernel.missing = (
        Unavailable("Linux 6.1 does not leave UDP superpackets to vantun0 (Invalid argument)", "use Linux 6.2"),
        Unavailable("the TUN driver of Linux 6.1 refuses virtio-net headers on vantun0", "use another kernel"),
    )
    whats = [row["what"] for row in opened(kernel, tmp_path).fallbacks()]
    assert whats == ["TUN without UDP superpackets", "TUN without virtio-net headers"]


@pytest.mark.parametrize(
    "refusal",
    [
        Unavailable("the TUN driver of Linux 3.7 lacks features 0x100", "use a newer kernel").error(),
        SystemCallError("creating the TUN interface vantun0", errno.EINVAL, "it is an interface of another kind"),
    ],
)
def test_where_several_queues_are_refused_there_is_one(tmp_path: Path, refusal: DriverError) -> None:
    def refuse(_name: str) -> TunDevice:
        raise refusal

    kernel = FakeKernel()
    kernel.queues, kernel.open_first = 2, refuse
    interface = opened(kernel, tmp_path)
    assert len(interface.descriptors) == 1
    [fallback] = interface.fallbacks()
    assert (fallback["what"], fallback["reason"]) == ("TUN without a queue for every worker", str(refusal))


def test_a_user_who_may_not_make_interfaces_is_told_what_to_do(tmp_path: Path) -> None:
    def refuse(name: str) -> TunDevice:
        raise SystemCallError(f"creating the TUN interface {name}", errno.EPERM, "run as root or give CAP_NET_ADMIN")

    for queues in (1, 2):
        kernel = FakeKernel()
        kernel.queues, kernel.open_first, kernel.open_tun = queues, refuse, refuse
        with pytest.raises(ResourceError, match=r"vantun0 failed: Operation not permitted; run as root or give"):
            opened(kernel, tmp_path)


def test_a_peer_that_takes_nothing_unfinished_is_sent_nothing_unfinished(tmp_path: Path) -> None:
    interface = opened(FakeKernel(), tmp_path)
    interface.leave([int(TCP_OFFLOADS)])
    assert interface.device.offloads == TCP_OFFLOADS
    interface.leave([int(TCP_OFFLOADS), 0])
    assert interface.device.offloads == TunOffload.NONE


def test_the_mark_is_that_of_the_slot(tmp_path: Path) -> None:
    interface = opened(FakeKernel(), tmp_path)
    assert interface.mark == mark_of(interface.slot)


def test_records_stand_where_a_service_may_write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    assert state_folder(tmp_path) == tmp_path
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/vantun:/var/lib/other")
    assert state_folder(tmp_path) == Path("/var/lib/vantun")
