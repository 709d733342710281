"""How appliances start, stop, come back, and say what is wrong."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest
import yaml

from tests.net.appliances import SECONDS, Pair, Process, free_port, make_pair, through, wait_for
from vantun.cli.status_view import document

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


async def _round_trip(pair: Pair) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, asyncio.timeout(SECONDS):
        reader, writer = await through(pair.socks, "127.0.0.1", server.sockets[0].getsockname()[1])
        writer.write(b"hello")
        writer.write_eof()
        assert await reader.read() == b"hello"
        writer.close()


def works(pair: Pair) -> bool:
    """Tell whether a connection through the pair carries bytes."""
    try:
        asyncio.run(_round_trip(pair))
    except (ConnectionError, TimeoutError, asyncio.IncompleteReadError):
        return False
    return True


def test_they_serve_and_stop(pair: Pair) -> None:
    pair.start()
    assert works(pair)
    status = pair.client.status()
    assert (status["role"], status["ready"], status["flows"]["open"]) == ("client", True, 0)
    assert [path["state"] for path in status["paths"]] == ["up"]
    assert status["keys"]["exchange"] == "X25519+ML-KEM-768"
    document(status)
    assert "s3cret" not in pair.logs()
    assert pair.client.terminate(signal.SIGTERM) == 0
    assert not pair.client.socket.exists()
    wait_for(lambda: not pair.server.status()["lanes"], "the server has heard the client's goodbye")
    assert pair.server.terminate(signal.SIGINT) == 0
    assert not pair.server.socket.exists()


def test_a_signal_while_the_worker_starts(pair: Pair) -> None:
    pair.server.start()
    wait_for(pair.server.status, "the status socket answers, before anything is ready")
    assert pair.server.terminate() == 0
    assert not pair.server.socket.exists()


def test_a_server_that_was_killed_and_comes_back(pair: Pair) -> None:
    pair.start()
    before = pair.client.status()["lanes"][0]["session"]
    pair.server.kill()
    pair.server.start()
    pair.server.wait_ready()
    wait_for(lambda: works(pair), "the client has a new session", 90)
    assert pair.client.status()["lanes"][0]["session"] != before


def test_a_worker_that_dies_is_replaced(pair: Pair) -> None:
    pair.start()
    for process in (pair.client, pair.server):
        os.kill(process.worker, signal.SIGKILL)
        wait_for(lambda: works(pair), f"the worker of the {process.role} is replaced", 90)
        assert "the data worker is lost" in process.log


def fails(process: Process, *texts: str) -> None:
    """Expect that a process ends with exit code 1 and one clear message."""
    process.start()
    assert process.wait_exit(60) == 1
    for text in texts:
        assert text in process.log
    assert "Traceback" not in process.log
    assert not process.socket.exists()


def another_client(pair: Pair, folder: Path, old: str, new: str) -> Process:
    """Return a client of the pair's server with one text of its configuration replaced."""
    config = yaml.safe_load(pair.client.config_file.read_text().replace(old, new))
    config["socks5"]["listen"] = f"127.0.0.1:{free_port(socket.SOCK_STREAM)}"
    return Process(folder, "client", config)


def test_a_wrong_password(running: Pair, tmp_path: Path) -> None:
    client = another_client(running, tmp_path, "s3cret", "guess")
    fails(client, "error: ", "compare `auth`")
    assert "guess" not in client.log + running.server.log


def test_a_wrong_pin(running: Pair, tmp_path: Path) -> None:
    pin = running.client.config_file.read_text().split("pinSHA256: ")[1].split()[0]
    fails(another_client(running, tmp_path, pin, "f" * 64), "error: ", "tls.pinSHA256")


def test_the_udp_port_is_taken(pair: Pair) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", pair.udp))
        fails(pair.server, "Address already in use", "ss -ulpn")


def test_the_proxys_port_is_taken(pair: Pair) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", pair.socks))
        other.listen()
        fails(pair.client, "Address already in use", "ss -ltnp")


def test_no_certificate(pair: Pair) -> None:
    (pair.folder / "cert.pem").unlink()
    fails(pair.server, "cert.pem", "vantun cert self-signed")


def test_a_server_that_nobody_knows(tmp_path: Path) -> None:
    try:
        socket.getaddrinfo("no-such-host.invalid", 1)
    except socket.gaierror as error:
        if error.errno != socket.EAI_NONAME:
            pytest.skip("no name server is reachable here: whether a name exists stays open, and the client tries on")
    pair = make_pair(tmp_path, "0" * 64, free_port(socket.SOCK_DGRAM))
    text = pair.client.config_file.read_text()
    pair.client.config_file.write_text(text.replace("server: 127.0.0.1:", "server: no-such-host.invalid:"))
    fails(pair.client, "the server 'no-such-host.invalid' cannot be found", "check the spelling")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may bind every port")
def test_no_permission_for_the_port(pair: Pair) -> None:
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 443:
        pytest.skip("here everybody may bind port 443")
    text = pair.server.config_file.read_text()
    pair.server.config_file.write_text(text.replace(f"127.0.0.1:{pair.udp}", "127.0.0.1:443"))
    fails(pair.server, "Permission denied", "CAP_NET_BIND_SERVICE")
