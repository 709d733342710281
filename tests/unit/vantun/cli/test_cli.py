from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from drivers.errors import DriverError
from vantun import __version__, cli
from vantun.errors import ConfigError, Problem, VantunError

ROOT = Path(__file__).resolve().parents[4]
SERVER = "tls: {cert: cert.pem, key: key.pem}\nauth: {type: password, password: s3cret}\n"


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"vantun {__version__}\n"


def test_an_unknown_verb_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bogus"]) == 2
    assert "No such command 'bogus'" in capsys.readouterr().err


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in cli.VERBS)


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (VantunError("it broke; mend it"), 1, "error: it broke; mend it\n"),
        (ConfigError("f.yaml", [Problem("b", 2), Problem("a", 1)]), 2, "error: f.yaml:1: a\nerror: f.yaml:2: b\n"),
        (PermissionError(13, "Permission denied", "/x"), 1, "error: /x: Permission denied\n"),
        (ZeroDivisionError("by zero"), 1, "error: a mistake in VANTUN, please report it: ZeroDivisionError: by zero"),
        (KeyboardInterrupt(), 1, "error: interrupted\n"),
    ],
)
def test_errors_are_one_message(
    raised: BaseException, code: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def fails() -> None:
        raise raised

    monkeypatch.setattr(cli, "cli", fails)
    assert cli.main([]) == code
    shown = capsys.readouterr().err
    assert shown.lstrip("\n").startswith(message)
    assert "Traceback" not in shown


def test_driver_errors_are_expected(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    def fails() -> None:
        raise DriverError("no such device; plug it in")

    monkeypatch.setattr(cli, "cli", fails)
    assert cli.main([]) == 1
    assert capsys.readouterr().err.startswith("error: no such device")


def test_debug_shows_the_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VANTUN_DEBUG", "")
    assert cli.main(["--debug", "check", "config", str(tmp_path)]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_config_init_prints_a_file_that_passes_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "init", "client"]) == 0
    path = tmp_path / "client.yaml"
    path.write_text(capsys.readouterr().out)
    assert cli.main(["check", "config", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "client of example.org:443" in shown
    assert shown.endswith("client.yaml: no problems\n")


def test_config_init_makes_a_fresh_password(capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for _ in range(2):
        assert cli.main(["config", "init", "server"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] != texts[1]


def test_config_init_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "server.yaml"
    assert cli.main(["config", "init", "server", "-o", str(path)]) == 0
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_text()
    assert cli.main(["config", "init", "server", "-o", str(path)]) == 1
    assert "exists and is left as it is" in capsys.readouterr().err
    assert path.read_text() == before


def test_check_knows_the_engines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "client.yaml"
    path.write_text("server: gw.example:443\nauth: a:b\naccel: {fec: smid}\n")
    assert cli.main(["check", "config", str(path)]) == 2
    assert "did you mean 'simd'" in capsys.readouterr().err


def test_check_misses_the_certificate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "server.yaml"
    path.write_text(SERVER)
    assert cli.main(["check", "config", str(path)]) == 2
    shown = capsys.readouterr().err
    assert "tls.cert:" in shown
    assert "`vantun cert self-signed` makes both" in shown


def test_check_of_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("")
    path = tmp_path / "server.yaml"
    path.write_text(SERVER)
    assert cli.main(["check", "config", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "server on *:443/udp, one password" in shown
    assert "s3cret" not in shown


def test_a_closed_pipe_is_no_mistake() -> None:
    """`vantun config init server | true` says nothing on standard error."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "vantun", "config", "init", "server"]
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_folder_of_pages_that_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "server.yaml"
    for name in ("a.pem", "b.pem"):
        (tmp_path / name).touch()
    file.write_text(
        "tls: {cert: a.pem, key: b.pem}\nauth: {type: password, password: s3cret}\n"
        "masquerade: {type: file, file: {dir: www}}\n"
    )
    assert cli.main(["check", "config", str(file)]) == 2
    assert "masquerade.file.dir" in capsys.readouterr().err
    (tmp_path / "www").mkdir()
    assert cli.main(["check", "config", str(file)]) == 0
