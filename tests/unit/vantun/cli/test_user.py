from __future__ import annotations

import io
import sys

import pytest

from vantun import cli
from vantun.password_hash import parse_hash


def run(text: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    return cli.main(["user", "hash", "--ln", "14"])


def test_a_hash_of_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("s3cret\nmore\n", monkeypatch) == 0
    said = capsys.readouterr().out.strip()
    found = parse_hash(said)
    assert found is not None
    assert found.verify(b"s3cret")
    assert "s3cret" not in said


@pytest.mark.parametrize(("text", "said"), [("", "empty"), ("\n", "empty"), ("ü" * 600, "longer than 1024 bytes")])
def test_no_password(text: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(text, monkeypatch) == 1
    assert said in capsys.readouterr().err
