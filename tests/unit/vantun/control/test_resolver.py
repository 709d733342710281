from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from vantun.control.resolver import Address, Resolver, look_up

LOCAL = [Address(socket.AF_INET, "127.0.0.1", 80)]


def test_literals_ask_nobody() -> None:
    def lookup(host: str, port: int) -> list[Address]:
        raise AssertionError(f"{host}:{port} was looked up")

    async def scenario() -> None:
        assert await Resolver(lookup).resolve("192.0.2.1", 80) == [Address(socket.AF_INET, "192.0.2.1", 80)]
        assert await Resolver(lookup).resolve("2001:db8::1", 80) == [Address(socket.AF_INET6, "2001:db8::1", 80)]

    asyncio.run(scenario())


def test_the_systems_resolver() -> None:
    assert "127.0.0.1" in {address.host for address in look_up("localhost", 80)}


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_AGAIN, "try again"), UnicodeError("label too long")])
def test_failures_are_os_errors(error: Exception) -> None:
    def lookup(_host: str, _port: int) -> list[Address]:
        raise error

    with pytest.raises(socket.gaierror):
        asyncio.run(Resolver(lookup).resolve("example.org", 80))


def test_no_address_is_a_failure() -> None:
    with pytest.raises(socket.gaierror, match="neither"):
        asyncio.run(Resolver(lambda _host, _port: []).resolve("example.org", 80))


def test_a_lookup_that_hangs_keeps_its_place_and_stops_nobody_from_leaving() -> None:
    release = threading.Event()
    begun: list[str] = []

    def lookup(host: str, _port: int) -> list[Address]:
        begun.append(host)
        release.wait(30)
        return LOCAL

    async def scenario() -> None:
        resolver = Resolver(lookup, concurrent=1)
        first = asyncio.create_task(resolver.resolve("a.test", 80))
        second = asyncio.create_task(resolver.resolve("b.test", 80))
        while not begun:
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        assert begun == ["a.test"], "the second waits for the thread of the first"
        release.set()
        assert await second == LOCAL
        assert begun == ["a.test", "b.test"]

    asyncio.run(scenario())


def test_a_loop_that_has_gone_is_no_error_of_the_thread() -> None:
    release = threading.Event()
    begun = threading.Event()

    def lookup(_host: str, _port: int) -> list[Address]:
        begun.set()
        release.wait(30)
        return LOCAL

    async def scenario() -> None:
        task = asyncio.create_task(Resolver(lookup).resolve("a.test", 80))
        while not begun.is_set():
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(scenario())
    before = {thread for thread in threading.enumerate() if thread.name == "look up a.test"}
    release.set()
    for thread in before:
        thread.join(30)  # pytest turns an exception in a thread into an error
