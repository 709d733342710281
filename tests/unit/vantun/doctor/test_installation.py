from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from drivers.kernel_library import KernelLibrary, NoLibrary
from vantun.config import AuthConfig, Endpoint, ServerConfig, ServerTlsConfig
from vantun.control.certificates import create_self_signed
from vantun.doctor import installation
from vantun.doctor.finding import Level


def test_python() -> None:
    assert installation.python_version((3, 10, 4)).level is Level.PROBLEM
    assert installation.python_version().level is Level.OK


@pytest.mark.parametrize(
    ("have", "level"), [("1.7.2", Level.OK), ("1.7.10", Level.OK), ("1.7.1", Level.PROBLEM), ("1.8", Level.PROBLEM)]
)
def test_versions_are_compared_as_numbers(have: str, level: Level) -> None:
    (found,) = installation.packages(["aioquic<1.8,>=1.7.2", 'ruff>=1; extra == "dev"'], lambda _name: have)
    assert found.level is level


def test_a_missing_package_is_named() -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    (found,) = installation.packages(["h11>=0.14"], version)
    assert found.level is Level.PROBLEM
    assert "h11 is missing" in found.text


def test_this_installation_is_whole() -> None:
    (found,) = installation.packages()
    assert found.level in (Level.OK, Level.NOTE)


def test_a_stranger_in_our_packages_is_named() -> None:
    owners = {"vantun": ["vantun"], "drivers": ["vantun", "some-drivers"], "numpy": ["numpy"]}
    found = installation.neighbours(owners)
    assert found.level is Level.PROBLEM
    assert "some-drivers" in found.text
    assert installation.neighbours({"vantun": ["VANTUN"]}).level is Level.OK


def test_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    none = NoLibrary("there is none", "vantun accel warm")
    found = installation.kernels(lambda: none, lambda: Path("somewhere"))
    assert found.level is Level.WARNING
    assert found.fix == "vantun accel warm"
    found = installation.kernels(lambda: none, lambda: None)
    assert "every start" in found.text
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    found = installation.kernels(lambda: none, lambda: Path("somewhere"))
    assert found.level is Level.PROBLEM
    assert "vantun[jit]" in found.fix
    library = KernelLibrary(Path("place"), "x86-64-v3", ctypes.PyDLL(None), {"a": {}})
    assert installation.kernels(lambda: library).level is Level.OK


def test_certificate(tmp_path: Path) -> None:
    cert = tmp_path / "cert.pem"
    assert installation.certificate(cert).level is Level.PROBLEM
    create_self_signed(cert, tmp_path / "key.pem", ["example.org"], 30)
    now = datetime.now(UTC)
    assert installation.certificate(cert).level is Level.OK
    assert installation.certificate(cert, now + timedelta(days=20)).level is Level.WARNING
    assert "expired" in installation.certificate(cert, now + timedelta(days=40)).text
    assert "clock" in installation.certificate(cert, now - timedelta(days=1)).fix


def server(port: int) -> ServerConfig:
    tls = ServerTlsConfig(Path("cert.pem"), Path("key.pem"))
    return ServerConfig(tls=tls, auth=AuthConfig("password", "x"), listen=Endpoint("127.0.0.1", port))


def test_a_port_that_is_taken_comes_with_the_command_that_shows_by_whom() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        found = installation.port(server(port))
        assert found.level is Level.WARNING
        assert found.fix.startswith(f"ss -ulpn sport = :{port}")
    assert installation.port(server(port)).level is Level.OK
