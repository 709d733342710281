from __future__ import annotations

import json
from pathlib import Path

import pytest

from accel.catalogue import CATALOGUE
from vantun import cli

SERVER = "tls: {cert: cert.pem, key: key.pem}\nauth: {type: password, password: s3cret}\n"


def probe(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(["accel", "probe", *arguments])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_every_engine_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = probe(capsys)
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert {row.name for row in CATALOGUE} <= {line[0] for line in lines if line}
    assert "fec.encode: simd, first by rank; nothing was measured" in out
    for heading in ("present", "usable", "selected for", "provenance", "maturity", "reason", "next step"):
        assert heading in out
    assert "not seen" not in out


def test_verbose_says_what_was_looked_for(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = probe(capsys, "--verbose")
    assert code == 0
    assert "not seen" in out
    assert "qatlib (libqat.so.4)" in out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = probe(capsys, "--json", "--strict")
    found = json.loads(out)
    assert code == 0
    assert [each["engine"] for each in found["engines"]] == [row.name for row in CATALOGUE]
    assert set(found["engines"][0]) == {
        "engine", "kinds", "present", "usable", "operations", "selected", "provenance", "maturity", "through",
        "reason", "next_step", "seen", "missing",
    }  # fmt: skip
    assert found["engines"][0]["selected"] == ["fec.encode", "fec.decode", "aead.seal", "aead.open"]
    assert found["selected"]["aead.seal"] == {
        "engine": "simd",
        "reason": "first by rank; nothing was measured",
        "degraded": False,
    }
    assert (found["problems"], found["degraded"]) == ([], False)


@pytest.mark.parametrize(
    ("accel", "code", "told"),
    [
        ("{fec: reference}", 0, "fec.encode: reference, named in the configuration"),
        ("{aead: 'qat, ?smartnic'}", 3, "aead.seal: simd, first by rank"),
        ("{aead: '?qat'}", 0, "aead.seal: simd, first by rank"),
        ("{aead: 'only: qat'}", 3, "warning: accel.aead: no engine can do aead.seal"),
        ("{fec: smid}", 3, "warning: accel.fec: there is no engine 'smid' for this; did you mean 'simd'?"),
    ],
)
def test_strict_wants_what_the_file_wants(
    accel: str, code: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "server.yaml"
    file.write_text(f"{SERVER}accel: {accel}\n")
    assert probe(capsys, "-c", str(file))[0] == 0
    ended, out, err = probe(capsys, "-c", str(file), "--strict")
    assert ended == code
    assert told in out + err


def test_a_client_file_is_read_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "client.yaml"
    file.write_text("server: example.org:443\nauth: s3cret\naccel: {fec: '!simd, !isal'}\n")
    code, out, _ = probe(capsys, "-c", str(file), "--json")
    assert code == 0
    assert json.loads(out)["selected"]["fec.decode"]["engine"] == "reference"
