"""Fixtures with real server and client processes on loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.net.appliances import Pair, free_port, make_pair
from vantun import cli


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return a folder with cert.pem and key.pem, and the fingerprint to pin."""
    folder = tmp_path_factory.mktemp("cert")
    files = ["--cert", str(folder / "cert.pem"), "--key", str(folder / "key.pem")]
    assert cli.main(["cert", "self-signed", "127.0.0.1", *files]) == 0
    from vantun.cli.cert import fingerprint_of

    return folder, fingerprint_of(folder / "cert.pem")


def furnish(folder: Path, certificate: tuple[Path, str]) -> str:
    """Put the certificate where a server's configuration expects it; return its fingerprint."""
    for name in ("cert.pem", "key.pem"):
        (folder / name).write_bytes((certificate[0] / name).read_bytes())
    return certificate[1]


@pytest.fixture
def pair(tmp_path: Path, certificate: tuple[Path, str]) -> Iterator[Pair]:
    """Yield a server and a client of one path that are not started; their logs are printed, for the case of failure."""
    made = make_pair(tmp_path, furnish(tmp_path, certificate), free_port(socket.SOCK_DGRAM))
    yield made
    made.kill()
    print(made.logs())  # noqa: T201 - pytest shows it when the test fails


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, str]) -> Iterator[Pair]:
    """Yield a running pair that tests share which leave it as it is."""
    folder = tmp_path_factory.mktemp("pair")
    made = make_pair(folder, furnish(folder, certificate), free_port(socket.SOCK_DGRAM))
    try:
        made.start()
        yield made
    finally:
        made.kill()
        print(made.logs())  # noqa: T201
