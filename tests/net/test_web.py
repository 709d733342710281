"""What strangers see of a real server, on UDP and on TCP, and a reload while a client is connected."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.net.appliances import SECONDS, Pair, free_port, make_pair, wait_for
from tests.net.conftest import furnish
from tests.net.test_life import works
from vantun import cli
from vantun.control.authentication import authorization
from vantun.control.quic import (
    DataReceived,
    GuardedConnection,
    HandshakeCompleted,
    HeadersReceived,
    HttpConnection,
    quic_configuration,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Fields = list[tuple[bytes, bytes]]
Answer = tuple[Fields, bytes]


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, str]) -> Iterator[tuple[Pair, int, int]]:
    """Yield a running pair, and the ports of HTTPS and HTTP."""
    folder = tmp_path_factory.mktemp("web")
    (folder / "www").mkdir()
    (folder / "www" / "index.html").write_text("<p>front")
    pair = make_pair(folder, furnish(folder, certificate), free_port(socket.SOCK_DGRAM))
    https, http = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_STREAM)
    listen = {"listenHTTPS": f"127.0.0.1:{https}", "listenHTTP": f"127.0.0.1:{http}", "forceHTTPS": True}
    change(pair, masquerade={"type": "file", "file": {"dir": "www"}, **listen})
    try:
        pair.start()
        yield pair, https, http
    finally:
        pair.kill()
        print(pair.logs())  # noqa: T201 - pytest shows it when a test fails


def change(pair: Pair, **sections: object) -> None:
    """Replace sections of the server's file."""
    config = yaml.safe_load(pair.server.config_file.read_text())
    pair.server.config_file.write_text(yaml.safe_dump({**config, **sections}))


def curl(url: str, *more: str) -> tuple[list[str], str]:
    """Return the lines of the head and the body, without the date."""
    command = ["curl", "-sSik", "--noproxy", "*", "--max-time", "30", *more, url]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    head, _, body = done.stdout.replace("\r\n", "\n").partition("\n\n")
    return [line for line in head.split("\n") if not line.startswith("Date:")], body


def h3(port: int, *requests: Fields) -> list[Answer]:
    """Send requests by HTTP/3 on one connection; return the answers, without the date."""
    settings = quic_configuration(is_client=True)
    settings.verify_mode = ssl.CERT_NONE
    http = HttpConnection(GuardedConnection(configuration=settings))
    peer = ("127.0.0.1", port)
    http.quic.connect(peer, time.monotonic())
    fields: dict[int, Fields] = {}
    bodies: dict[int, bytes] = {}
    ended: set[int] = set()
    streams: list[int] = []
    end = time.monotonic() + SECONDS
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.02)
        while not streams or ended != set(streams):
            assert time.monotonic() < end, "no answer"
            http.run_timers(time.monotonic())
            for data, _ in http.transmit(time.monotonic()):
                sock.sendto(data, peer)
            try:
                http.receive(sock.recv(65536), peer, time.monotonic())
            except TimeoutError:
                continue
            for event in http.events():
                if isinstance(event, HandshakeCompleted):
                    streams = [http.request(request) for request in requests]
                elif isinstance(event, HeadersReceived):
                    fields[event.stream_id] = [entry for entry in event.headers if entry[0] != b"date"]
                elif isinstance(event, DataReceived):
                    bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
                if isinstance(event, HeadersReceived | DataReceived) and event.stream_ended:
                    ended.add(event.stream_id)
        http.close()
        for data, _ in http.transmit(time.monotonic()):
            sock.sendto(data, peer)
    return [(fields[stream], bodies.get(stream, b"")) for stream in streams]


def request(method: bytes, path: bytes = b"/", *more: tuple[bytes, bytes]) -> Fields:
    return [(b":method", method), (b":scheme", b"https"), (b":authority", b"gw.example"), (b":path", path), *more]


def test_the_same_site_on_udp_and_tcp(web: tuple[Pair, int, int]) -> None:
    pair, https, http = web
    for path, status, text in (("/", "200", "<p>front"), ("/missing", "404", "404 Not Found"), ("/.env", "404", "")):
        head, body = curl(f"https://127.0.0.1:{https}{path}")
        ((fields, found),) = h3(pair.udp, request(b"GET", path.encode()))
        assert head[0].split()[1] == status == dict(fields)[b":status"].decode()
        assert found.decode().replace("\r\n", "\n") == body  # curl's output was read as text
        assert text in body
        said = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
        assert said.pop("alt-svc") == f'h3=":{pair.udp}"; ma=86400'
        said.pop("connection")
        assert said == {name.decode(): value.decode() for name, value in fields if name != b":status"}
    assert curl(f"http://127.0.0.1:{http}/a?b")[0][0] == "HTTP/1.1 301 Moved Permanently"


def test_wrong_credentials_look_like_none(web: tuple[Pair, int, int]) -> None:
    pair, https, _ = web
    vantun = (b":protocol", b"vantun")
    wrong = [(b"authorization", authorization(auth)) for auth in ("alice:guess", "nobody:s3cret", "s3cret")]
    tries = [[], [vantun], *([vantun, value] for value in wrong)]
    answers = h3(pair.udp, *(request(b"CONNECT", b"/", *more) for more in tries))
    assert answers[0][0][0] == (b":status", b"405")
    assert all(answer == answers[0] for answer in answers)
    url = f"https://127.0.0.1:{https}/"
    assert curl(url) == curl(url, "-u", "alice:s3cret") == curl(url, "-u", "alice:guess")


def test_a_reload_while_a_client_is_connected(web: tuple[Pair, int, int]) -> None:
    pair, https, _ = web
    before = pair.client.status()["lanes"][0]["session"]
    (pair.folder / "www" / "index.html").write_text("<p>new")
    reload = ["reload", "--socket", str(pair.server.socket)]
    change(pair, auth={"type": "userpass", "userpass": {"alice": "s3cret", "bob": "b"}}, log={"level": "debug"})
    assert cli.main(reload) == 0
    change(pair, auth={"type": "userpass", "userpass": {}})
    assert cli.main(reload) == 1
    assert "stays in force" in pair.server.log
    assert works(pair)
    assert pair.client.status()["lanes"][0]["session"] == before
    assert curl(f"https://127.0.0.1:{https}/")[1] == "<p>new"
    change(pair, auth={"type": "userpass", "userpass": {"bob": "b"}})
    assert cli.main(reload) == 0
    assert pair.client.wait_exit(60) == 1, "its user was removed"
    wait_for(lambda: "the user was removed" in pair.client.log, "it was told why")
    assert "compare `auth`" in pair.client.log
    assert "s3cret" not in pair.logs()
