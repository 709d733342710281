from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from vantun.cli import status
from vantun.control import status_server
from vantun.control.status_server import StatusServer
from vantun.errors import ResourceError

Scenario = Callable[[StatusServer], Awaitable[None]]


def serve(path: Path, scenario: Scenario, answer: dict[str, object] | None = None) -> None:
    async def document() -> dict[str, object]:
        return {"role": "client"} if answer is None else answer

    async def run() -> None:
        server = StatusServer(path, document)
        try:
            await scenario(server)
        finally:
            await server.close()

    asyncio.run(run())


def test_answers_what_vantun_status_asks_for(tmp_path: Path) -> None:
    async def scenario(server: StatusServer) -> None:
        assert await asyncio.to_thread(status.ask, server.path) == {"role": "client"}

    serve(tmp_path / "new" / "folder" / "s", scenario)
    assert not (tmp_path / "new" / "folder" / "s").exists(), "it is removed at the end"


def test_only_its_user_may_ask(tmp_path: Path) -> None:
    async def scenario(server: StatusServer) -> None:
        assert stat.S_IMODE(os.stat(server.path).st_mode) == 0o600
        for folder in (tmp_path / "a", tmp_path / "a" / "b"):
            assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700

    serve(tmp_path / "a" / "b" / "s", scenario)


def test_readers_that_do_not_read_block_nobody(tmp_path: Path) -> None:
    async def scenario(server: StatusServer) -> None:
        server.time_limit = 0.05
        slow = []
        for _ in range(status_server.READERS):
            reader = socket.socket(socket.AF_UNIX)
            reader.connect(str(server.path))
            slow.append(reader)
        answer: dict[str, object] = {}
        while not answer:  # those that do not read are given up one after another
            try:
                answer = await asyncio.to_thread(status.ask, server.path)
            except Exception:
                await asyncio.sleep(0)
        assert answer["filling"] == "x" * 2**21
        for reader in slow:
            reader.close()

    serve(tmp_path / "s", scenario, {"filling": "x" * 2**21})


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(server: StatusServer) -> None:
        with socket.socket(socket.AF_UNIX) as reader:
            reader.connect(str(server.path))
        assert len(str(await asyncio.to_thread(status.ask, server.path))) > 2**21

    serve(tmp_path / "s", scenario, {"filling": "x" * 2**21})
    assert "mistake" not in caplog.text


def test_another_one_answers(tmp_path: Path) -> None:
    async def scenario(server: StatusServer) -> None:
        with pytest.raises(ResourceError, match="another one runs and answers on"):
            StatusServer(server.path, server._document)
        assert await asyncio.to_thread(status.ask, server.path) == {"role": "client"}

    serve(tmp_path / "s", scenario)


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
        dead.listen()

    async def scenario(server: StatusServer) -> None:
        assert await asyncio.to_thread(status.ask, server.path) == {"role": "client"}

    serve(tmp_path / "s", scenario)


def test_a_successors_socket_is_left_alone(tmp_path: Path) -> None:
    async def scenario(server: StatusServer) -> None:
        server.path.rename(tmp_path / "old")
        server.path.write_text("a successor's")

    serve(tmp_path / "s", scenario)
    assert (tmp_path / "s").read_text() == "a successor's"


async def nothing(_server: StatusServer) -> None:
    """Do nothing with a server that should not have started."""


def test_what_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(ResourceError, match="is no socket; remove it"):
        serve(tmp_path / "file", nothing)
    assert (tmp_path / "file").read_text() == "precious"
    with pytest.raises(ResourceError, match=r"status\.socket"):
        serve(tmp_path / "file" / "s", nothing)
    with pytest.raises(ResourceError, match=r"status\.socket"):
        serve(tmp_path / ("long" * 30), nothing)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder that belongs to somebody else")
def test_a_folder_that_somebody_else_prepared(tmp_path: Path) -> None:
    (tmp_path / "vantun").mkdir()
    os.chown(tmp_path / "vantun", 65534, 65534)
    with pytest.raises(ResourceError, match="belongs to another user"):
        serve(tmp_path / "vantun" / "s", nothing)
