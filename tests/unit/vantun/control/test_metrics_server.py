from __future__ import annotations

import asyncio

import pytest

from vantun.config_kinds import Endpoint
from vantun.control import metrics_server
from vantun.control.metrics_server import MetricsServer
from vantun.errors import ResourceError


async def page() -> bytes:
    return b"vantun_up 1.0\n"


async def ask(request: bytes, port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize(
    ("request_line", "status", "body"),
    [
        (b"GET /metrics HTTP/1.1", b"200", b"vantun_up 1.0\n"),
        (b"GET /metrics?x=1 HTTP/1.0", b"200", b"vantun_up 1.0\n"),
        (b"HEAD /metrics HTTP/1.1", b"200", b""),
        (b"POST /metrics HTTP/1.1", b"405", b"use GET\n"),
        (b"GET / HTTP/1.1", b"404", b"the metrics are at /metrics\n"),
    ],
)
def test_answers(request_line: bytes, status: bytes, body: bytes) -> None:
    async def run() -> bytes:
        server = await MetricsServer.start(Endpoint("127.0.0.1", 0), page)
        try:
            return await ask(request_line + b"\r\nHost: x\r\n\r\n", server.port)
        finally:
            await server.close()

    answer = asyncio.run(run())
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.split()[1] == status
    assert rest == body


@pytest.mark.parametrize("noise", [b"\x16\x03\x01\x00\x05hello\r\n\r\n", b"GET /" + b"a" * 100_000, b""])
def test_what_is_no_http_ends_without_an_answer_and_harms_nobody(noise: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "TIME_LIMIT", 0.2)

    async def run() -> tuple[bytes, bytes]:
        server = await MetricsServer.start(Endpoint("127.0.0.1", 0), page)
        try:
            try:
                first = await ask(noise, server.port)
            except ConnectionError:
                first = b""
            return first, await ask(b"GET /metrics HTTP/1.0\r\n\r\n", server.port)
        finally:
            await server.close()

    first, second = asyncio.run(run())
    assert first == b""
    assert second.endswith(b"vantun_up 1.0\n")


def test_a_port_that_is_taken() -> None:
    async def run() -> None:
        server = await MetricsServer.start(Endpoint("127.0.0.1", 0), page)
        try:
            await MetricsServer.start(Endpoint("127.0.0.1", server.port), page)
        finally:
            await server.close()

    with pytest.raises(ResourceError, match=r"metrics\.listen: .* cannot be listened on"):
        asyncio.run(run())
