from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from vantun.config_forwards import ReverseConfig
from vantun.config_kinds import Endpoint
from vantun.control import reverse_forwards as module
from vantun.control.path_events import SessionUnknownError
from vantun.control.resolver import Resolver
from vantun.control.reverse_forwards import ReverseForwards
from vantun.control.session_messages import ListenAnswer, ListenCode, ListenRequest, SessionAnswer
from vantun.dataplane.ports import RefusalCode


class Worker:
    def __init__(self) -> None:
        self.attached: list[tuple[int, socket.socket]] = []
        self.refused: list[tuple[int, RefusalCode]] = []

    def attach_flow(self, handle: int, sock: socket.socket) -> None:
        self.attached.append((handle, sock))

    def refuse_flow(self, handle: int, code: RefusalCode) -> None:
        self.refused.append((handle, code))


def made(*targets: Endpoint) -> tuple[ReverseForwards, Worker]:
    config = tuple(ReverseConfig(Endpoint("", 8000 + number), "tcp", target) for number, target in enumerate(targets))
    forwards, worker = ReverseForwards(config, Resolver()), Worker()
    link: Any = worker
    forwards.begin(link)
    return forwards, worker


def test_a_flow_of_the_server_goes_where_this_client_says() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            forwards, worker = made(Endpoint("127.0.0.1", listener.getsockname()[1]))
            assert forwards.open(3, "reverse:0")
            for wrong in (
                "127.0.0.1:80",
                "reverse:",
                "reverse:1",
                "reverse:-1",
                "reverse:x",
                "reverse:\u0660",
                "udp:reverse:0",
            ):
                assert not forwards.open(5, wrong)
            while not worker.attached:
                await asyncio.sleep(0.001)
            worker.attached[0][1].close()
            assert worker.attached[0][0] == 3
        assert forwards.open(7, "reverse:0")
        while not worker.refused:
            await asyncio.sleep(0.001)
        assert worker.refused == [(7, RefusalCode.REFUSED)]
        await forwards.close()

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_the_server_is_asked_again_when_it_may_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRY_AGAIN", 0.001)
    answers = {
        0: [ListenAnswer(0, ListenCode.IN_USE, "taken", 0), ListenAnswer(0, ListenCode.LISTENING, "", 9)],
        1: [ListenAnswer(1, ListenCode.NOT_ALLOWED, "no", 0)],
    }
    asked: list[int] = []

    async def ask(session: int, request: ListenRequest) -> SessionAnswer:
        assert session == 77
        if request.listener == 2:
            raise SessionUnknownError("gone")
        asked.append(request.listener)
        return answers[request.listener].pop(0)

    async def scenario() -> None:
        forwards, _ = made(*[Endpoint("a.test", 1)] * 3)
        assert {entry["state"] for entry in forwards.status()} == {"waiting for a session"}
        forwards.register(77, ask)
        while [entry["state"] for entry in forwards.status()][:2] != ["listening on port 9", "no"]:
            await asyncio.sleep(0.001)
        assert sorted(asked) == [0, 0, 1]
        forwards.withdraw()
        assert {entry["state"] for entry in forwards.status()} == {"waiting for a session"}
        await forwards.close()

    asyncio.run(asyncio.wait_for(scenario(), 30))
