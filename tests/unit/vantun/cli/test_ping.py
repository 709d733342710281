from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from vantun.cli import own_proxy, ping
from vantun.errors import VantunError


class Proxy:
    """Stands in for connect_through: succeeds, or fails as told."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)
        self.asked: list[tuple[Any, ...]] = []

    def __call__(self, *arguments: Any) -> Proxy:
        self.asked.append(arguments)
        error = self.errors.pop(0)
        if error is not None:
            raise error
        return self

    def close(self) -> None:
        pass


def run(monkeypatch: pytest.MonkeyPatch, proxy: Proxy, *arguments: str) -> Result:
    monkeypatch.setattr(ping, "connect_through", proxy)
    monkeypatch.setattr(own_proxy, "find_socket", lambda _role: Path("x.sock"))
    monkeypatch.setattr(own_proxy, "ask", lambda _path: {"socks5": {"listen": "127.0.0.1:1080"}})
    return CliRunner().invoke(ping.command, [*arguments, "--interval", "0"], standalone_mode=False)


def test_one_success_is_a_success(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Proxy(VantunError("refused: timed out"), None)
    result = run(monkeypatch, proxy, "example.org", "-n", "2")
    assert result.return_value == 0
    assert "refused: timed out" in result.output
    assert "1 of 2 succeeded" in result.output
    assert proxy.asked[0][:3] == (("127.0.0.1", 1080), ("example.org", 443), None)


def test_none_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, Proxy(TimeoutError()), "[2001:db8::1]:80", "-n", "1", "--json")
    assert result.return_value == 1
    found = json.loads(result.output)
    assert found["succeeded"] == 0
    assert found["results"][0]["error"] == "no answer in time"


def test_the_login_stands_in_the_client_s_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "client.yaml"
    file.write_text(
        "server: example.org\nauth: x\nsocks5: {listen: '127.0.0.1:1081', username: a, password: b}\n", encoding="utf-8"
    )
    proxy = Proxy(None)
    run(monkeypatch, proxy, "example.org:80", "-n", "1", "-c", str(file))
    assert proxy.asked[0][:3] == (("127.0.0.1", 1081), ("example.org", 80), ("a", "b"))


def test_a_client_without_a_proxy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_proxy, "find_socket", lambda _role: Path("x.sock"))
    monkeypatch.setattr(own_proxy, "ask", lambda _path: {})
    result = CliRunner().invoke(ping.command, ["example.org"], standalone_mode=False)
    assert isinstance(result.exception, VantunError)


def test_a_target_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, Proxy(), "example.org:http")
    assert result.exception is not None
