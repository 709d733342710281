from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from vantun import cli
from vantun.cli import reload
from vantun.errors import VantunError


def status(count: int, problem: str = "", waiting: list[str] | None = None, pid: int = 4242) -> dict[str, Any]:
    return {"pid": pid, "reload": {"count": count, "problem": problem, "needs_restart": waiting or []}}


def run(answers: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[int]]:
    killed: list[int] = []
    monkeypatch.setattr(reload, "ask", lambda _: answers.pop(0) if len(answers) > 1 else answers[0])
    monkeypatch.setattr(os, "kill", lambda pid, _: killed.append(pid))
    monkeypatch.setattr("time.sleep", lambda _: None)
    return cli.main(["reload", "--socket", str(Path("x.sock"))]), killed


def test_it_waits_for_the_result(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([status(3), status(3), status(4, waiting=["listen"])], monkeypatch) == (0, [4242])
    assert "needs a restart: listen" in capsys.readouterr().out


def test_a_broken_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([status(0), status(1, "server.yaml:3: no")], monkeypatch)[0] == 1
    said = capsys.readouterr().err
    assert "nothing was changed" in said
    assert "server.yaml:3: no" in said


def test_no_process_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run([status(0, pid=1)], monkeypatch) == (1, [])
    assert run([{"pid": 4242}], monkeypatch) == (1, [])


def test_it_does_not_wait_for_ever() -> None:
    with pytest.raises(VantunError, match="see its log"):
        reload.wait(lambda: status(1), 1, lambda _: None)
