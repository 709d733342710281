"""The client's access list for UDP: what the worker is told, with and without a lookup."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from tests.unit.vantun.control.test_udp_connector import Link, look_up
from vantun.acl import AccessList, Guard
from vantun.control.resolver import Address, Resolver
from vantun.control.udp_rules import UdpRules
from vantun.udp_messages import AskUdp, JudgeUdp, UdpAction, UdpVerdict


def rules(*lines: str) -> AccessList:
    return AccessList.parse(lines, Guard.NONE)


def play(
    scenario: Callable[[UdpRules, Link], Awaitable[None]], access: AccessList, resolver: Resolver | None = None
) -> None:
    async def run() -> None:
        link = Link()
        made = UdpRules(access, resolver or Resolver(look_up))
        made.begin(link)
        async with asyncio.timeout(30):
            await scenario(made, link)
            await made.abandon()

    asyncio.run(run())


async def verdict(made: UdpRules, link: Link, host: str, port: int = 53) -> tuple[UdpAction, str]:
    """Return what the worker is told about a target."""
    before = len(link.posted)
    made.ask(AskUdp(before, host, port))
    while len(link.posted) == before:
        await asyncio.sleep(0)
    told = link.posted[-1]
    assert isinstance(told, UdpVerdict)
    assert told.number == before
    assert told.port == (port if told.host else 0)
    return told.action, told.host


@pytest.mark.parametrize(
    ("line", "judged"),
    [("allow(all)", False), ("reject(all, tcp/25)", False), ("reject(all)", True), ("direct(10.0.0.0/8, udp)", True)],
)
def test_targets_are_asked_for_only_if_a_rule_could_decide_about_them(line: str, judged: bool) -> None:
    async def scenario(made: UdpRules, link: Link) -> None:
        made.mark = 77
        made.renew(rules(line))
        assert link.posted == [JudgeUdp(False, 0), JudgeUdp(judged, 77)]

    play(scenario, rules())


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("192.0.2.7", (UdpAction.DIRECT, "192.0.2.7")),
        ("::ffff:192.0.2.7", (UdpAction.REJECT, "")),
        ("10.1.2.3", (UdpAction.TUNNEL, "")),
        ("198.51.100.1", (UdpAction.REJECT, "")),
        ("ads.test", (UdpAction.REJECT, "")),
        ("ADS.test.", (UdpAction.REJECT, "")),
        ("elsewhere.test", (UdpAction.TUNNEL, "")),
        ("good.example", (UdpAction.DIRECT, "192.0.2.7")),
        ("Good.Example.", (UdpAction.DIRECT, "192.0.2.7")),
        ("unknown.example", (UdpAction.REJECT, "")),
        ("both.example", (UdpAction.DIRECT, "10.1.2.3")),
        ("rebinding.example", (UdpAction.DIRECT, "10.1.2.3")),
        ("mapped.example", (UdpAction.REJECT, "")),
    ],
)
def test_verdicts(host: str, expected: tuple[UdpAction, str]) -> None:
    async def scenario(made: UdpRules, link: Link) -> None:
        assert await verdict(made, link, host) == expected
        assert made.status() == {
            "direct": int(expected[0] is UdpAction.DIRECT),
            "rejected": int(expected[0] is UdpAction.REJECT),
        }

    def find(name: str, port: int) -> list[Address]:
        return look_up(name.lower().removesuffix("."), port)

    access = rules("reject(suffix:ads.test)", "direct(suffix:example)", "direct(192.0.2.0/24)", "reject(198.51.100.1)")
    play(scenario, access, Resolver(find))


def test_a_direct_name_is_judged_again_with_its_address() -> None:
    """Who runs a name server must not choose a host that the rules close."""

    async def scenario(made: UdpRules, link: Link) -> None:
        assert await verdict(made, link, "both.example") == (UdpAction.DIRECT, "192.0.2.9")
        assert await verdict(made, link, "good.example") == (UdpAction.DIRECT, "192.0.2.7")

    play(scenario, rules("reject(10.0.0.0/8)", "direct(suffix:example)"))


def test_a_name_that_leads_into_this_machine_is_rejected() -> None:
    async def scenario(made: UdpRules, link: Link) -> None:
        assert await verdict(made, link, "home.test") == (UdpAction.REJECT, "")

    def find(_name: str, port: int) -> list[Address]:
        return [Address(socket.AF_INET, "127.0.0.1", port)]

    play(scenario, rules("direct(suffix:test)"), Resolver(find))


def test_rules_that_change_during_a_lookup_decide_about_it() -> None:
    async def scenario(made: UdpRules, link: Link) -> None:
        for number, access in enumerate((rules(), rules("reject(all)"))):
            made.renew(rules("direct(all)"))
            made.ask(AskUdp(number, "good.example", 53))
            made.renew(access)
            while not isinstance(link.posted[-1], UdpVerdict):
                await asyncio.sleep(0)
        told = [message.action for message in link.posted if isinstance(message, UdpVerdict)]
        assert told == [UdpAction.TUNNEL, UdpAction.REJECT]

    play(scenario, rules("direct(all)"))


def test_the_next_worker_gets_no_answer_to_what_the_last_one_asked() -> None:
    async def scenario(made: UdpRules, link: Link) -> None:
        made.ask(AskUdp(1, "good.example", 53))
        await made.abandon()
        made.ask(AskUdp(2, "192.0.2.7", 53))
        made.begin(link)
        for _ in range(50):
            await asyncio.sleep(0)
        assert [message for message in link.posted if isinstance(message, UdpVerdict)] == []

    play(scenario, rules("direct(all)"))
