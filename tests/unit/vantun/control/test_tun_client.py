from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest

from tests.unit.vantun.control.tun_kernel import FakeKernel, FakeLink
from vantun.config_tun import ClientTunConfig
from vantun.control import tun_client
from vantun.control.backoff import Backoff
from vantun.control.path_events import SessionUnknownError
from vantun.control.session_messages import Prefix, SessionAnswer, SessionRequest, TunAnswer, TunCode, TunRequest
from vantun.control.tun_client import TunClient
from vantun.control.tun_mtu import OVERHEAD
from vantun.tun_messages import AddTun, OpenTun, SetTunRoutes

LAN = ip_network("192.168.7.0/24")
CONFIG = ClientTunConfig(routes=(ip_network("0.0.0.0/0"), ip_network("::/0")), announced=(LAN,))


def granted(*addresses: str, prefixes: tuple[Prefix, ...] = ()) -> TunAnswer:
    given = tuple(Prefix.of(ip_interface(address)) for address in addresses)
    return TunAnswer(TunCode.GRANTED, "", given, (bytes([10, 9, 0, 1]),), prefixes, 0, 0)


BOTH = granted("10.9.0.2/24", "fd00:9::2/64", prefixes=(Prefix.of(LAN),))
NO_TUN = TunAnswer(TunCode.NOT_OFFERED, "this server has no `tun`", (), (), (), 0, 0)


class World:
    """A client's sessions, 1, 2, ...; each answer of ``answers`` is for the next request."""

    def __init__(self, kernel: FakeKernel, *answers: SessionAnswer | Exception) -> None:
        self.kernel = kernel
        self.answers = list(answers)
        self.session = 1
        self.asked: list[TunRequest] = []
        self.idle = asyncio.Event()

    async def wait_up(self) -> int | None:
        return self.session

    async def ask(self, _session: int, message: SessionRequest) -> SessionAnswer:
        assert isinstance(message, TunRequest)
        message.check()
        self.asked.append(message)
        if not self.answers:
            self.idle.set()
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def run(
    folder: Path,
    config: ClientTunConfig,
    answers: list[SessionAnswer | Exception],
    then: Callable[[TunClient, World, FakeLink], Awaitable[None]],
) -> FakeKernel:
    """Run a client until ``then`` has ended; return its kernel, after its end."""
    kernel = FakeKernel()

    async def scenario() -> None:
        client = await TunClient.open(config, kernel.records(folder), kernel)
        link, world = FakeLink(), World(kernel, *answers)
        client.begin(link)
        running = asyncio.create_task(client.run(world.wait_up, world.ask))
        async with asyncio.timeout(20):
            await then(client, world, link)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        client.close()

    asyncio.run(scenario())
    return kernel


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tun_client, "Backoff", lambda: Backoff(lambda _low, _high: 0.0))


def test_addresses_routes_and_the_flow(tmp_path: Path) -> None:
    async def then(client: TunClient, world: World, link: FakeLink) -> None:
        await until(lambda: link.of(OpenTun))
        assert [prefix.network() for prefix in world.asked[0].prefixes] == [LAN]
        net = world.kernel.net
        assert net.given[client.interface.index] == {ip_interface("10.9.0.2/24"), ip_interface("fd00:9::2/64")}
        assert {str(route.network) for route in net.routes(client.interface.mark)} == {"0.0.0.0/0", "::/0"}
        assert world.kernel.settings["ipv4/ip_forward"] == "1", "the LAN behind it"
        assert world.kernel.settings["ipv4/conf/all/src_valid_mark"] == "1"
        [script] = world.kernel.rules.scripts.values()
        assert "ip daddr 10.9.0.2 fib saddr" in script
        assert link.told[0].__class__ is AddTun
        assert link.of(SetTunRoutes) == [SetTunRoutes(1, ("10.9.0.2", "fd00:9::2"), (str(LAN),))]
        client.flow(1, is_open=True, code=0)
        assert client.state == "up"
        assert client.report()["gateways"] == ["10.9.0.1"]
        client.watch([1452, 1400])
        assert net.links["vantun0"].mtu == 1400 - OVERHEAD

    kernel = run(tmp_path, CONFIG, [BOTH], then)
    assert not kernel.net.policy
    assert not kernel.rules.scripts
    assert kernel.settings["ipv4/ip_forward"] == "0"


def test_a_new_session_asks_for_the_addresses_of_the_one_before(tmp_path: Path) -> None:
    async def then(client: TunClient, world: World, link: FakeLink) -> None:
        await until(lambda: link.of(OpenTun))
        client.flow(1, is_open=True, code=0)
        world.session = 2
        client.lost(7)
        assert client.state == "up", "another session"
        client.lost(1)
        assert client.state == "waiting"
        await until(lambda: len(link.of(OpenTun)) == 2)
        assert world.asked[1].addresses == (bytes([10, 9, 0, 2]), ip_interface("fd00:9::2/64").packed)
        assert world.kernel.net.given[client.interface.index] == {ip_interface("10.9.0.3/24")}
        kinds = {route.network.version: route.kind.name for route in world.kernel.net.routes(client.interface.mark)}
        assert kinds == {4: "UNICAST", 6: "UNREACHABLE"}, "the server has no IPv6 any more"

    run(tmp_path, CONFIG, [BOTH, granted("10.9.0.3/24")], then)


def test_a_flow_that_ends_is_opened_again(tmp_path: Path) -> None:
    async def then(client: TunClient, world: World, link: FakeLink) -> None:
        for count in (1, 2, 3):
            await until(lambda count=count: len(link.of(OpenTun)) == count)  # type: ignore[misc]
            client.flow(1, is_open=False, code=2 if count == 1 else 0)
            assert client.state == "waiting"
        await world.idle.wait()

    run(tmp_path, CONFIG, [BOTH, BOTH, BOTH], then)


def test_a_server_without_tun(tmp_path: Path) -> None:
    async def then(client: TunClient, world: World, link: FakeLink) -> None:
        await world.idle.wait()
        assert client.state == "refused"
        assert "this server has no `tun`" in client.reason
        assert not link.of(OpenTun)
        assert not world.kernel.net.given[client.interface.index]

    run(tmp_path, CONFIG, [NO_TUN, NO_TUN], then)


def test_a_session_that_is_lost_while_it_asks(tmp_path: Path) -> None:
    async def then(_client: TunClient, _world: World, link: FakeLink) -> None:
        await until(lambda: link.of(OpenTun))

    run(tmp_path, CONFIG, [SessionUnknownError("gone"), BOTH], then)


def test_another_worker_is_told_everything(tmp_path: Path) -> None:
    async def then(client: TunClient, _world: World, link: FakeLink) -> None:
        await until(lambda: link.of(OpenTun))
        client.abandon()
        other = FakeLink()
        client.begin(other)
        await until(lambda: other.of(OpenTun))
        assert len(other.of(AddTun)) == 1
        assert other.of(SetTunRoutes) == link.of(SetTunRoutes)

    run(tmp_path, CONFIG, [BOTH, BOTH], then)


def test_without_routes_the_machine_is_left_as_it_is(tmp_path: Path) -> None:
    async def then(client: TunClient, world: World, link: FakeLink) -> None:
        await until(lambda: link.of(OpenTun))
        assert not world.kernel.net.policy
        assert set(world.kernel.settings.values()) - {"1"} == {"0"}
        assert world.kernel.settings["ipv4/conf/all/src_valid_mark"] == "0"
        client.watch([1452])
        assert world.kernel.net.links["vantun0"].mtu == 1452 - OVERHEAD

    run(tmp_path, ClientTunConfig(), [granted("10.9.0.2/24")], then)
