from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from drivers.errors import Unavailable
from drivers.linux.network import Network
from drivers.linux.tun import ALL_OFFLOADS, TCP_OFFLOADS, TunOffload
from tests.unit.vantun.control.tun_kernel import FakeKernel, FakeLink
from vantun.config_tun import ServerTunConfig, TunUser
from vantun.control.session_messages import Prefix, TunCode, TunRequest
from vantun.control.tun_mtu import OVERHEAD
from vantun.control.tun_server import ETHERNET, TunServer
from vantun.errors import ResourceError
from vantun.tun_messages import AddTun, SetPacketRules, SetTunRoutes

LAN, OTHER_LAN = ip_network("192.168.7.0/24"), ip_network("192.168.8.0/24")
CONFIG = ServerTunConfig(
    (ip_interface("10.9.0.1/29"), ip_interface("fd00:9::1/64")),
    users=(TunUser("alice", (), (ip_network("192.168.0.0/16"),)), TunUser("bob", (ip_address("10.9.0.6"),), (LAN,))),
)
ASK = TunRequest((), (), 0, 0)
PEERS = ["203.0.113.5"]


class Made:
    def __init__(self, folder: Path, config: ServerTunConfig = CONFIG, kernel: FakeKernel | None = None) -> None:
        self.kernel = kernel or FakeKernel()
        self.server = asyncio.run(TunServer.open(config, self.kernel.records(folder), b"rules", self.kernel))
        self.link = FakeLink()
        self.server.begin(self.link)

    @property
    def routes(self) -> dict[str, int]:
        return {str(route.network): route.mtu for route in self.kernel.net.routes()}

    def told(self, session: int) -> SetTunRoutes | None:
        found = [it for it in self.link.of(SetTunRoutes) if isinstance(it, SetTunRoutes) and it.session == session]
        return found[-1] if found else None


def announcing(*networks: object) -> TunRequest:
    return replace(ASK, prefixes=tuple(Prefix.of(ip_network(str(network))) for network in networks))


def test_what_it_sets_up_and_takes_back(tmp_path: Path) -> None:
    made = Made(tmp_path)
    assert made.kernel.settings["ipv4/ip_forward"] == made.kernel.settings["ipv6/conf/all/forwarding"] == "1"
    [script] = made.kernel.rules.scripts.values()
    assert "masquerade" in script
    assert "admin-prohibited" in script
    assert made.kernel.net.links["vantun0"].mtu == ETHERNET
    assert made.link.of(SetPacketRules) == [SetPacketRules(b"rules")]
    [add] = made.link.of(AddTun)
    assert isinstance(add, AddTun)
    assert not add.client
    assert not add.client_to_client
    made.server.close()
    assert made.kernel.settings["ipv4/ip_forward"] == made.kernel.settings["ipv6/conf/all/forwarding"] == "0"
    assert not made.kernel.rules.scripts


def test_a_client_gets_addresses_and_its_packets_a_way(tmp_path: Path) -> None:
    made = Made(tmp_path)
    answer = made.server.request(5, "alice", PEERS, ASK)
    assert answer.code is TunCode.GRANTED
    assert [str(address.interface()) for address in answer.addresses] == ["10.9.0.2/29", "fd00:9::2/64"]
    assert [str(ip_address(gateway)) for gateway in answer.gateways] == ["10.9.0.1", "fd00:9::1"]
    assert made.routes == {"10.9.0.2/32": 1280, "fd00:9::2/128": 1280}
    assert made.told(5) == SetTunRoutes(5, ("10.9.0.2", "fd00:9::2"), ())
    answer.check()
    again = made.server.request(5, "alice", PEERS, ASK)
    assert again == answer, "its addresses are the session's"
    made.server.forget(5)
    made.server.forget(5)
    assert made.routes == {}


def test_only_allowed_networks_are_routed(tmp_path: Path) -> None:
    made = Made(tmp_path)
    answer = made.server.request(5, "alice", ["192.168.9.1"], announcing(LAN, "10.0.0.0/8", "192.168.9.0/24"))
    assert [prefix.network() for prefix in answer.prefixes] == [LAN]
    assert "10.0.0.0/8 is not allowed to this user" in answer.reason
    assert "192.168.9.0/24 contains the client's own address" in answer.reason
    assert str(LAN) in made.routes
    assert "10.0.0.0/8" not in made.routes
    assert made.told(5) == SetTunRoutes(5, ("10.9.0.2", "fd00:9::2"), (str(LAN),))
    nobody = made.server.request(6, "eve", PEERS, announcing(LAN))
    assert nobody.prefixes == ()


def test_a_network_of_another_user_stays_his(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.server.request(5, "alice", PEERS, announcing(LAN))
    answer = made.server.request(6, "bob", PEERS, announcing(LAN))
    assert answer.prefixes == ()
    assert "routed to another user" in answer.reason


def test_a_network_and_a_reserved_address_move_to_the_newest_session_of_a_user(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.server.request(5, "bob", PEERS, announcing(LAN))
    assert made.told(5) == SetTunRoutes(5, ("10.9.0.6", "fd00:9::2"), (str(LAN),))
    made.server.request(6, "bob", PEERS, announcing(LAN))
    assert made.told(6) == SetTunRoutes(6, ("10.9.0.6", "fd00:9::3"), (str(LAN),))
    assert made.told(5) == SetTunRoutes(5, ("fd00:9::2",), ())
    made.server.forget(5)
    assert "10.9.0.6/32" in made.routes
    assert str(LAN) in made.routes


def test_a_full_network(tmp_path: Path) -> None:
    made = Made(tmp_path)
    for session in range(4):
        assert made.server.request(session, "alice", PEERS, ASK).code is TunCode.GRANTED
    answer = made.server.request(9, "alice", PEERS, ASK)
    assert answer.code is TunCode.NO_ADDRESS
    assert "is free" in answer.reason
    made.server.forget(2)
    assert made.server.request(9, "alice", PEERS, ASK).code is TunCode.GRANTED


def test_the_mtu_follows_the_paths_of_each_client(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.server.request(5, "alice", PEERS, ASK)
    made.server.request(6, "alice", PEERS, replace(ASK, mtu=1300))
    made.server.watch({5: 1452, 6: 1452, 7: 1200})
    assert made.routes["10.9.0.2/32"] == made.routes["fd00:9::2/128"] == 1452 - OVERHEAD
    assert made.routes["10.9.0.3/32"] == 1300
    made.server.watch({5: 8952})
    assert made.routes["10.9.0.2/32"] == 8952 - OVERHEAD == made.kernel.net.links["vantun0"].mtu
    assert made.routes["10.9.0.3/32"] == 1280


def test_flows_of_packets(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.server.opened(made.link, 41, 5)
    assert made.link.refused == [41]
    made.server.request(5, "alice", PEERS, ASK)
    made.server.opened(made.link, 42, 5)
    assert made.link.attached == [42]
    made.server.flow(5, is_open=True)
    made.server.flow(99, is_open=True)
    assert made.server.report()["clients"] == [
        {
            "session": "5",
            "user": "alice",
            "addresses": ["10.9.0.2", "fd00:9::2"],
            "prefixes": [],
            "mtu": 1280,
            "flow": True,
        }
    ]


def test_another_worker_is_told_everything(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.server.request(5, "alice", PEERS, announcing(LAN))
    made.server.abandon()
    made.server.request(6, "alice", PEERS, ASK)
    other = FakeLink()
    made.server.begin(other)
    assert len(other.of(AddTun)) == 1
    assert {message.session for message in other.of(SetTunRoutes)} == {5, 6}  # type: ignore[union-attr]


def test_a_machine_that_refuses_a_route(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(tmp_path)
    made.kernel.net.refuse_version[4] = errno.ENOBUFS
    answer = made.server.request(5, "alice", PEERS, ASK)
    assert answer.code is TunCode.FAILED
    made.kernel.net.refuse_version.clear()
    assert made.server.request(6, "alice", PEERS, ASK).code is TunCode.GRANTED
    assert isinstance(made.kernel.network, Network)


@pytest.mark.parametrize(
    ("config", "needed"),
    [(CONFIG, "tun.nat needs nftables"), (replace(CONFIG, nat=False), "tun.clientToClient: false needs nftables")],
)
def test_without_nftables_it_does_not_promise_what_it_cannot_do(
    tmp_path: Path, config: ServerTunConfig, needed: str
) -> None:
    kernel = FakeKernel()
    kernel.nft = Unavailable("the program nft is not installed", "install the package nftables")
    with pytest.raises(ResourceError, match=needed):
        Made(tmp_path, config, kernel)
    assert kernel.devices[0].closed
    made = Made(tmp_path, replace(CONFIG, nat=False, client_to_client=True), FakeKernel())
    assert made.server.request(5, "alice", PEERS, ASK).code is TunCode.GRANTED


def test_rules_that_nft_refuses_end_the_start(tmp_path: Path) -> None:
    kernel = FakeKernel()
    kernel.rules.refuses = "nft refuses the rules"
    with pytest.raises(ResourceError, match="tun: nft refuses"):
        Made(tmp_path, CONFIG, kernel)
    assert kernel.devices[0].closed
    assert kernel.settings["ipv4/ip_forward"] == "0"


def test_superpackets_that_one_client_cannot_write_are_read_for_none(tmp_path: Path) -> None:
    made = Made(tmp_path)
    device = made.server.interface.device
    made.server.request(5, "alice", PEERS, replace(ASK, offloads=int(ALL_OFFLOADS)))
    assert device.offloads == ALL_OFFLOADS
    made.server.request(6, "bob", PEERS, replace(ASK, offloads=int(TCP_OFFLOADS)))
    assert device.offloads == TCP_OFFLOADS
    made.server.request(7, "carol", PEERS, replace(ASK, offloads=0))
    assert device.offloads == TunOffload.NONE  # her kernel has no virtio-net headers
    made.server.forget(7)
    assert device.offloads == TCP_OFFLOADS
    made.server.forget(6)
    assert device.offloads == ALL_OFFLOADS
