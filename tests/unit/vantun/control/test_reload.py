"""Reading the configuration again: what changes, what stays, and what is said. A real Server, without a worker."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.vantun.control.quic_pair import SERVER
from tests.unit.vantun.control.visitor import Visitor, request
from vantun.config import ClientConfig, ServerConfig, load_client, load_server
from vantun.config_forwards import ListenRule, parse_listen_rules
from vantun.control.authentication import authorization
from vantun.control.certificates import create_self_signed
from vantun.control.reload import ConfigSource, Reloader, merged
from vantun.control.server import Server

TEXT = """
listen: 127.0.0.1:{port}
tls: {{cert: a.pem, key: a.key}}
auth: {{type: userpass, userpass: {{alice: s3cret, bob: b0bs}}}}
log: {{level: warning}}
"""


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


class Scene:
    """A server with its file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "server.yaml"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            self.text = TEXT.format(port=sock.getsockname()[1])
        for name in ("a", "b"):
            create_self_signed(folder / f"{name}.pem", folder / f"{name}.key", [f"{name}.example"], 10)
        self.write()

    def write(self, *changes: tuple[str, str]) -> None:
        text = self.text
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        self.file.write_text(text)

    def run(self, act: Callable[[Server], Awaitable[None]]) -> None:
        async def life() -> None:
            server = Server(load_server(self.file))
            server.reload_from(ConfigSource(self.file, lambda: load_server(self.file)))
            await server.prepare()
            try:
                await act(server)
            finally:
                await server._stop()

        asyncio.run(life())


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def hang_up(server: Server, count: int = 1) -> dict[str, object]:
    """Send SIGHUP and wait until the server has read its file again."""
    os.kill(os.getpid(), signal.SIGHUP)
    while True:
        report = (await server.document())["reload"]
        assert isinstance(report, dict)
        if report["count"] >= count:
            return report
        await asyncio.sleep(0)


def status_of(server: Server, auth: str, port: int = 50000) -> bytes:
    visitor = Visitor(server._paths, ("192.0.2.9", port)).run()
    fields = [(b":protocol", b"vantun"), (b"authorization", authorization(auth))]
    visitor.http.request(request(b"CONNECT", b"/", fields))
    visitor.run()
    return next(iter(visitor.status.values()))


def test_users_certificate_site_and_level(scene: Scene) -> None:
    async def act(server: Server) -> None:
        assert status_of(server, "bob:b0bs", 1) == b"200"
        before = Visitor(server._paths, ("192.0.2.9", 2)).run()
        scene.write(
            ("bob: b0bs", "carol: c"),
            ("a.pem, key: a.key", "b.pem, key: b.key"),
            ("log: {level: warning}", "masquerade: {type: string, string: {content: hello}}\nlog: {level: debug}"),
        )
        assert await hang_up(server) == {"count": 1, "problem": "", "needs_restart": []}
        assert status_of(server, "carol:c", 3) == b"200"
        assert status_of(server, "alice:s3cret", 4) == b"200"
        assert logging.getLogger().level == logging.DEBUG
        after = Visitor(server._paths, ("192.0.2.9", 5)).run()
        certificates = [end.quic.tls._peer_certificate for end in (before, after)]
        names = [certificate.subject.rfc4514_string() for certificate in certificates if certificate is not None]
        assert names == ["CN=a.example", "CN=b.example"]
        for visitor in (before, after):
            visitor.http.request(request(b"GET"))
            visitor.run()
            assert visitor.bodies.popitem()[1] == b"hello", "a connection that is there stays, and sees the new site"
        visitor = Visitor(server._paths, ("192.0.2.9", 6)).run()
        visitor.http.request(request(b"CONNECT", b"/", [(b":protocol", b"vantun"), (b"authorization", b"x")]))
        assert visitor.run().bodies.popitem()[1] == b"hello"
        assert status_of(server, "bob:b0bs", 7) == b"200", "which is the new site's answer, not a tunnel"

    scene.run(act)


def test_a_removed_user_is_told_why(scene: Scene) -> None:
    async def act(server: Server) -> None:
        ends = {}
        for port, auth in ((1, "alice:s3cret"), (2, "bob:b0bs")):
            end = ends[auth] = Visitor(server._paths, ("192.0.2.9", port)).run()
            fields = [(b":protocol", b"vantun"), (b"authorization", authorization(auth))]
            end.http.request(request(b"CONNECT", b"/", fields))
            end.run()
        scene.write(("bob: b0bs", "carol: c"))
        leaving: list[tuple[bytes, tuple[str, int]]] = []
        server._pump._send = lambda _, data, peer: leaving.append((data, peer))
        await hang_up(server)
        server._pump.flush()
        for data, peer in leaving:
            assert peer == ("192.0.2.9", 2)
            ends["bob:b0bs"].http.receive(data, SERVER, ends["bob:b0bs"].now)
        assert not ends["alice:s3cret"].run().over
        ended = ends["bob:b0bs"].run().ended
        assert ended is not None
        assert ended.reason_phrase == "the user was removed"

    scene.run(act)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("alice: s3cret", "alice: [s3cret]"), "server.yaml:4: auth.userpass"),
        (("auth:", "aut:"), "unknown key; did you mean"),
        (("a.key", "b.key"), "is not the key of the first certificate"),
        (("a.pem", "missing.pem"), "No such file"),
        (("listen:", "listen: ["), "this is not YAML"),
    ],
)
def test_a_broken_file_changes_nothing(
    scene: Scene, change: tuple[str, str], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def act(server: Server) -> None:
        logging.getLogger().addHandler(caplog.handler)
        scene.write(change, ("bob: b0bs", "carol: c"), ("warning", "debug"))
        report = await hang_up(server)
        assert said in str(report["problem"])
        assert said in caplog.text
        assert "stays in force" in caplog.text
        assert "s3cret" not in caplog.text
        assert logging.getLogger().level != logging.DEBUG
        assert status_of(server, "bob:b0bs") == b"200"
        scene.write(("bob: b0bs", "carol: c"))
        assert (await hang_up(server, 2))["problem"] == ""
        assert status_of(server, "carol:c", 2) == b"200"

    scene.run(act)


def test_what_needs_a_restart_is_named_until_it_had_one(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    async def act(server: Server) -> None:
        rest = "limits: {memory: 64 MB}\nmasquerade: {listenHTTPS: '127.0.0.1:1'}\nlog: {level: info}"
        for count in (1, 2):
            scene.write(("log: {level: warning}", rest))
            report = await hang_up(server, count)
            assert report["needs_restart"] == ["limits.memory", "masquerade.listenHTTPS"]
        assert "limits.memory, masquerade.listenHTTPS: needs a restart" in capfd.readouterr().err
        scene.write()
        assert (await hang_up(server, 3))["needs_restart"] == []

    scene.run(act)


def test_a_file_that_is_gone(scene: Scene) -> None:
    async def act(server: Server) -> None:
        scene.file.unlink()
        assert "no such file" in str((await hang_up(server))["problem"])
        assert status_of(server, "alice:s3cret") == b"200"

    scene.run(act)


def test_only_what_can_change_is_taken_over(scene: Scene) -> None:
    before = load_server(scene.file)
    scene.write(("log: {level: warning}", "log: {level: debug}\nlimits: {memory: 64 MB}"))
    now = merged(before, load_server(scene.file), "server")
    assert (now.log_level, now.memory) == ("debug", before.memory)


def test_permissions_for_reverse_forwards_are_live(scene: Scene) -> None:
    async def act(server: Server) -> None:
        used: list[dict[str, tuple[ListenRule, ...]]] = []

        class Listeners:
            async def use(self, allow: dict[str, tuple[ListenRule, ...]]) -> None:
                used.append(allow)

            async def close(self) -> None:
                return

            def status(self) -> list[dict[str, object]]:
                return []

        server._reverse = Listeners()  # type: ignore[assignment]
        scene.file.write_text(scene.text + "reverse: {allow: {alice: '127.0.0.1:8000'}}\n")
        report = await hang_up(server)
        assert (report["problem"], report["needs_restart"]) == ("", [])
        assert used == [{"alice": parse_listen_rules("127.0.0.1:8000")}]

    scene.run(act)


def test_lines_that_move_are_no_change(tmp_path: Path) -> None:
    file = tmp_path / "client.yaml"
    text = "server: 192.0.2.1\nauth: x\nudpForwarding:\n- {{listen: ':5353', remote: '192.0.2.1:{port}'}}\n"
    file.write_text(text.format(port=53))

    async def apply(_config: ServerConfig | ClientConfig) -> None:
        return

    async def reload(reloader: Reloader) -> dict[str, object]:
        before = reloader.report()["count"]
        reloader.request()
        while reloader.report()["count"] == before:
            await asyncio.sleep(0.001)
        return reloader.report()

    async def act() -> None:
        reloader = Reloader(ConfigSource(file, lambda: load_client(file)), "client", apply)
        file.write_text("# a comment\nacl: {inline: ['reject(all, udp/9)']}\n" + text.format(port=53))
        assert (await reload(reloader))["needs_restart"] == []
        file.write_text(text.format(port=54))
        assert (await reload(reloader))["needs_restart"] == ["udpForwarding"]

    asyncio.run(act())
